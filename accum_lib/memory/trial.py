"""Run one operator for real on this machine's CPU, and see what it allocates besides its outputs.

Few kernels say what scratch memory they take: some copy an input that is not contiguous, some sort in a
buffer, oneDNN keeps layouts of its own. Where nothing is known about a kernel, the kernel is asked. It runs
on zeros: pages of zeros that are only read cost no memory. PyTorch's profiler of the autograd engine, which
is the one that logs nothing and starts at once, lists its allocations in order.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import ProfilerConfig, ProfilerState, _disable_profiler_legacy, _enable_profiler_legacy

from accum_lib.machine import GIB, one_thread, this_machine
from accum_lib.memory.trace import INSTEAD, autocast, untraceable
from accum_lib.memory.trace.device import Kernel
from accum_lib.memory.trace.shapes import (
    NO_KEY,
    Operator,
    UnknownValueError,
    describe,
    is_known,
    key_of,
    real,
    shares_storage,
    tensors_in,
    value_of,
)

UNSEEN_BYTES = 64  # scalars that a kernel wraps in a tensor: less is no scratch
LARGEST_BYTES = 4 * GIB  # of arguments and outputs, or half of what is free here if that is less


# Their outputs have as many rows as there are values of some kind, and a trial has zeros alone.
VALUE_DEPENDENT = {"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim"}
_tried: dict[Any, Kernel] = {}


def tried(operator: Operator, args: tuple, kwargs: dict[str, Any]) -> Kernel:
    """Run the operator, once for all arguments of these shapes, strides and types.

    Raises:
        UntraceableError: it cannot be run on zeros, or its arguments are too large.
    """
    if torch.Tag.dynamic_output_shape in operator.tags:
        found = _try(operator, args, kwargs)  # the values of the same shapes may be others
        return found if _decided(args) else found._replace(outputs=None)
    key = (operator, key_of(args), key_of(kwargs))
    if NO_KEY in key:
        return _try(operator, args, kwargs)
    if key not in _tried:
        _tried[key] = _try(operator, args, kwargs)
    return _tried[key]


def _decided(args: tuple) -> bool:
    """Whether the values that decide an output's shape are known: those of masks and indices."""
    deciding = [t for t in tensors_in(args) if not t.dtype.is_floating_point]
    return bool(deciding) and all(is_known(t) for t in deciding)


def _try(operator: Operator, args: tuple, kwargs: dict[str, Any]) -> Kernel:
    _check_size(operator, [*tensors_in(args), *tensors_in(list(kwargs.values()))])
    given, named, outputs, sizes, inside = _run(operator, args, kwargs)
    if VALUE_DEPENDENT & inside and torch.Tag.dynamic_output_shape not in operator.tags:
        raise untraceable(operator, "takes memory that depends on values", INSTEAD)
    before, after = _scratch(sizes)
    aliased = shares_storage(outputs, [*tensors_in(given), *tensors_in(list(named.values()))])
    return Kernel(None if aliased else describe(outputs), before, after)


def _run(
    operator: Operator, args: tuple, kwargs: dict[str, Any]
) -> tuple[tuple, dict, Any, list[int], set[str]]:
    """Its arguments, what it returned, what it allocated and what it called inside.

    It runs on ones if it refuses zeros (as for pivots).
    """
    refused = ""  # in words alone: an error that is kept would keep the trace's tensors alive
    for number in (0, 1):
        given, named = (real(a, partial(like, number=number)) for a in (args, kwargs))
        try:
            return given, named, *_allocations(operator, given, named)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            refused = str(error).strip().split("\n")[0]
    reason = f"has no model of its memory here, and a trial failed ({refused})"
    raise untraceable(operator, reason, INSTEAD)


def _check_size(operator: Operator, tensors: list[Tensor]) -> None:
    nbytes = sum(t.numel() * t.element_size() for t in tensors)
    if nbytes > 2**28 and nbytes > min(LARGEST_BYTES, this_machine().free_bytes / 2):
        size = f"{nbytes / GIB:.1f} GiB"
        reason = f"has no model of its memory here, and its arguments ({size}) are too large to try"
        raise untraceable(operator, reason, INSTEAD)


def _allocations(operator: Operator, args: tuple, kwargs: dict[str, Any]) -> tuple[Any, list[int], set[str]]:
    """What it returns, the bytes that it takes (positive) and gives back, in order, and whom it calls."""
    config = ProfilerConfig(
        ProfilerState.CPU, False, True, False, False, False, torch._C._profiler._ExperimentalConfig()
    )
    state = torch.default_generator.get_state()  # not get_rng_state, which a trace listens to
    with one_thread(), autocast.off():
        _enable_profiler_legacy(config)
        try:
            outputs = autocast.below(operator, *args, **kwargs)
        finally:
            threads = _disable_profiler_legacy()
            torch.default_generator.set_state(state)
    events = [event for thread in threads for event in thread]
    sizes = [e.cpu_memory_usage() for e in events if e.kind() == "memory_alloc"]
    return outputs, sizes, {e.name() for e in events if e.kind() == "push"}


def _scratch(sizes: list[int]) -> tuple[int, int]:
    """``before`` and ``after`` of a trial whose outputs are what was never given back."""
    alive: dict[int, list[int]] = {}  # bytes: the allocations of this size that are still there
    for i, size in enumerate(sizes):
        if size > 0:
            alive.setdefault(size, []).append(i)
        elif alive.get(-size):
            alive[-size].pop()
    outputs = [i for same in alive.values() for i in same]
    last, levels = max(outputs, default=-1), [0]
    for size in sizes:
        levels.append(levels[-1] + size)
    before, after = max(levels[: last + 1], default=0), max(levels[last + 1 :]) - levels[-1]
    return (before if before > UNSEEN_BYTES else 0), (after if after > UNSEEN_BYTES else 0)


def like(tensor: Tensor, number: int = 0) -> Tensor:
    """A tensor with its values if they are known, else of its shape, strides and type, and of this number."""
    try:
        return value_of(tensor)
    except UnknownValueError:
        last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
        elements = 1 + last if tensor.numel() else 0
        if number or not elements:
            made = torch.full((elements,), number, dtype=tensor.dtype)
        else:  # NumPy asks for pages of zeros, where PyTorch would write zeros into each
            made = torch.from_numpy(np.zeros(elements * tensor.element_size(), np.uint8)).view(tensor.dtype)
        return made.as_strided(tensor.shape, tensor.stride()).requires_grad_(tensor.requires_grad)
