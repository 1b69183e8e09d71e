"""Trace one optimizer update of the core, on meta tensors.

What each storage is for: named by the tracer where it knows, decided by its lifetime where not.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.losses import in_precision
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import autocast, shapes
from accum_lib.memory.trace.autocast import answering
from accum_lib.memory.trace.device import Device
from accum_lib.memory.trace.sharded import Sharded, sharded_over
from accum_lib.memory.trace.storages import (
    COPIES,
    GRADIENTS,
    INPUTS,
    PARAMETERS,
    STATE,
    StorageFollower,
    Tape,
)
from accum_lib.memory.tuning import prepared
from accum_lib.memory.workloads import Workload, longest_list
from accum_lib.ranks import Ranks


def categories(tape: Tape) -> np.ndarray:
    """(storages,) the category of each.

    A storage without a name that is alive when its micro-batch's backward pass begins is an
    *activation*: the forward pass kept it. Any other is a *temporary*: it comes and goes within one pass,
    like the gradients of activations, or within the update.
    """
    named = tape.category
    kept = np.zeros(len(named), dtype=bool)
    for name, event, _ in tape.marks:
        if name == "backward":
            kept |= _alive_at(tape, event)
    return np.where(named != "", named, np.where(kept, "activations", "temporaries"))


def _alive_at(tape: Tape, event: int) -> np.ndarray:
    """(storages,) born, and not dead, before this event."""
    alive = np.zeros(len(tape.nbytes), dtype=int)
    np.add.at(alive, tape.storage[:event], tape.sign[:event])
    return alive > 0


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ONE = {dtype: torch.ones((), dtype=dtype) for dtype in FLOATS}


def trace_update(
    workload: Workload, micro_batch_size: int, accumulation_steps: int, settings: Settings, device: Device
) -> Tape:
    """Run the core's ``accumulate`` and ``apply_update`` on meta tensors and follow every storage.

    It is an update in the middle of training: the optimizer's state is there from the beginning.

    Marks on the tape: "forward" and "backward" for each micro-batch, "passes done" after the last,
    "update" where the optimizer begins, "end".

    Raises:
        UntraceableError: the model reads values, or runs an operator whose memory is not known.
    """
    with torch.device("meta"):
        model, loss_sum = prepared(workload, settings)
    follower, optimizer = StorageFollower(device), settings.make_optimizer(model.parameters(), fused=False)
    batches = [to_meta(workload.make_batch(micro_batch_size)) for _ in range(accumulation_steps)]
    sharded = sharded_over(settings, follower, model, (workload.blocks or longest_list)(model))
    follower.reside([*model.parameters(), *model.buffers()], PARAMETERS)
    follower.reside(state_of(optimizer), STATE)
    if not settings.set_to_none:
        _keep_gradients(model, follower)
    with everything_open(follower, settings, device):
        run_passes(model, loss_sum, batches, settings, follower, sharded)
        follower.tag(getattr(optimizer, "buffers", {}).values(), GRADIENTS)
        run_update(model, optimizer, settings, follower)
        tape = follower.tape()
    return replace(tape, category=categories(tape))


def run_passes(
    model: nn.Module, loss_sum: Callable, batches: list[Any], settings: Settings, follower: StorageFollower,
    sharded: Sharded | None = None,
) -> None:  # fmt: skip
    """Every micro-batch, forward and backward, up to the window's gradient."""
    follower.reside((t for t in tree_leaves(batches) if isinstance(t, Tensor)), INPUTS)
    watched = _watched(in_precision(loss_sum, settings.dtype, autocast.CARRIER), follower, sharded)
    accumulate(model, batches, watched, lambda batch: 1.0, ranks=_EndOfPasses(follower, sharded))
    if sharded:
        sharded.to_shards()
    follower.tag(gradients(model), GRADIENTS)


def run_update(
    model: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings, follower: StorageFollower
) -> None:
    """The optimizer's part, in the middle of training."""
    follower.any_number_will_do = True
    _make_state(optimizer, follower, settings, follower.device)
    follower.mark("update")
    apply_update(model, optimizer)
    follower.mark("end")


def to_meta(batch: Any) -> Any:
    """The same batch with tensors on meta; whole numbers keep their values."""
    plain = dict(batch) if hasattr(batch, "keys") else batch

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        meta = torch.empty_like(leaf, device="meta")
        return meta if leaf.dtype.is_floating_point else shapes.give(meta, leaf)

    return tree_map(move, plain)


def gradients(model: nn.Module) -> list[Tensor]:
    """What ``.grad`` holds now."""
    return [p.grad for p in model.parameters() if p.grad is not None]


@contextmanager
def everything_open(follower: StorageFollower, settings: Settings, device: Device) -> Iterator[None]:
    functions = device.kernels()
    with ExitStack() as stack:
        if settings.dtype is not None:
            casts = autocast.Casts()
            casts.on_new_copy = lambda copy: follower.tag([copy], COPIES)
            functions = {**autocast.functions(device.name, casts), **functions}
            device.casts = casts
            stack.enter_context(autocast.emptied_with_autocasts_own(casts))
        stack.enter_context(_no_garbage_collection())
        stack.enter_context(answering(functions))
        stack.enter_context(_random_states(follower))
        stack.enter_context(follower)
        yield


@contextmanager
def _random_states(follower: StorageFollower) -> Iterator[None]:
    """Follow what PyTorch's checkpoint keeps for each block, to draw the same numbers again.

    No operator makes such a state, and for meta tensors none is forked when a block runs again.
    """
    fork = torch.random.fork_rng

    def state() -> Tensor:
        made = torch.default_generator.get_state()
        follower.follow(made)
        return made

    def forked(*args: Any, **how: Any) -> Any:
        how.pop("device_type", None)  # meta
        return fork(*args, **how)

    with (
        mock.patch.object(torch, "get_rng_state", state),
        mock.patch.object(torch.random, "fork_rng", forked),
    ):
        yield


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Python's collector would free things at moments that have nothing to do with the update."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _EndOfPasses(Ranks):
    """One process alone that notes when the window's last pass is through."""

    def __init__(self, follower: StorageFollower, sharded: Sharded | None) -> None:
        self._follower, self._sharded = follower, sharded

    @contextmanager
    def synchronized(self, last: bool) -> Iterator[None]:
        yield
        if self._sharded:
            self._sharded.end_pass()
        if last:
            self._follower.mark("passes done")


def _watched(loss_sum: Callable, follower: StorageFollower, sharded: Sharded | None) -> Callable:
    def watched(model: nn.Module, batch: Any) -> Tensor:
        follower.mark("forward")
        if sharded:
            sharded.begin_pass()
        loss = loss_sum(model, batch)
        follower.mark("backward")
        if sharded:
            sharded.turn_back()
        return shapes.give(loss, ONE[loss.dtype])  # the core reads it: any number will do

    return watched


def _keep_gradients(model: nn.Module, follower: StorageFollower) -> None:
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    follower.reside(gradients(model), GRADIENTS)


def _make_state(
    optimizer: torch.optim.Optimizer, follower: StorageFollower, settings: Settings, device: Device
) -> None:
    """A first step, unrecorded, makes the state. It needs the gradients, so it comes this late."""
    follower.recording = False
    if not state_of(optimizer):
        optimizer.step()
    if settings.implementation == "fused":
        _stand_in_for_fused(optimizer, device)
    follower.reside(state_of(optimizer), STATE)
    follower.tag(state_of(optimizer), STATE)
    follower.recording = True


def state_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Everything that the optimizer keeps from update to update."""
    return [t for entry in optimizer.state.values() for t in entry.values() if isinstance(t, Tensor)]


def _stand_in_for_fused(optimizer: torch.optim.Optimizer, device: Device) -> None:
    """One kernel that writes in place and needs nothing besides; PyTorch refuses it on meta."""
    optimizer.step = lambda: None  # type: ignore
    if device.name == "cuda":  # it counts steps on the GPU
        for entry in optimizer.state.values():
            entry["step"] = torch.empty((), device="meta")
