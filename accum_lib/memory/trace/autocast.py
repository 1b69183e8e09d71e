"""Mixed precision on meta tensors: which operators run in 16 bits, which in 32, as autocast has it.

PyTorch's own autocast leaves meta tensors alone, so its rules (aten/src/ATen/autocast_mode.h) are
applied here. The list of operators that it knows at all is asked of PyTorch itself; of those, all that
are not named below run in float32.

Answer an operator ourselves, before PyTorch splits it up into smaller ones.

PyTorch looks for an operator's implementation key by key. Mixed precision has keys of its own, above
those of autograd, so what is decided there is differentiated like anything else. One of them belongs to
devices from outside and is not used here: while a trace runs, our functions are registered at that key.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.library import Library, fallthrough_kernel

from accum_lib.memory.trace.shapes import tensors_in

KEY_NAME = "AutocastPrivateUse1"
KEY = torch._C.DispatchKey.AutocastPrivateUse1  # type: ignore[attr-defined]


@contextmanager
def answering(functions: Mapping[str, Callable]) -> Iterator[None]:
    """While this is open, ``functions["dropout"]`` is called for ``aten::dropout``, and so on.

    All other operators are as ever. A function that calls the operator which it answers for does so
    through ``below``, else it would be called again.
    """
    ours, others = Library("aten", "IMPL"), Library("_", "IMPL")
    try:
        others.fallback(fallthrough_kernel, KEY_NAME)
        for name, function in functions.items():
            ours.impl(name, function, KEY_NAME)
        with _key_switched_on():
            yield
    finally:
        ours._destroy()
        others._destroy()


def below(operator: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call PyTorch's own implementation."""
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(KEY)):
        return operator(*args, **kwargs)


@contextmanager
def _key_switched_on() -> Iterator[None]:
    torch._C._dispatch_tls_set_dispatch_key_excluded(KEY, False)
    torch._C._dispatch_tls_set_dispatch_key_included(KEY, True)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_included(KEY, False)
        torch._C._dispatch_tls_set_dispatch_key_excluded(KEY, True)


CARRIER = "cpu"  # the trace opens autocast for this device, whatever it speaks for: it is always there
LOWER = (
    "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "convolution", "_convolution", "cudnn_convolution", "cudnn_convolution_transpose", "prelu", "addmm",
    "_addmm_activation", "addmv", "addr", "matmul", "einsum", "mm", "mv", "linear", "addbmm", "baddbmm",
    "bmm", "chain_matmul", "linalg_multi_dot", "linalg_vecdot", "_thnn_fused_lstm_cell",
    "_thnn_fused_gru_cell", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell",
    "_scaled_dot_product_flash_attention", "scaled_dot_product_attention",
    "_native_multi_head_attention", "mkldnn_rnn_layer",
)  # fmt: skip
WIDEST = (
    "addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "grid_sampler", "index_put",
    "tensordot", "scatter_add", "stack", "cat", "index_copy",
)  # fmt: skip
BY_ARGUMENT = ("softmax", "log_softmax", "cumsum", "cumprod", "sum", "prod")  # float32 by their own ``dtype``
ONLY_ON = {"cpu": {"grid_sampler", "prod"}}  # what the CPU's list has otherwise: these run in float32
ELSEWHERE = ("scaled_dot_product_attention", "lstm")  # answered by the device, which casts for itself


class Casts:
    """The 16-bit copies of float32 tensors: those of weights are kept while the context is open.

    Attributes:
        cached: copies by the identity of the weight.
    """

    def __init__(self) -> None:
        self.cached: dict[int, tuple[Tensor, Tensor]] = {}
        self.on_new_copy: Callable[[Tensor], None] = lambda copy: None

    def lower(self, value: Any) -> Any:
        """The value with its float32 tensors in 16 bits."""
        return _map(value, self._lower)

    def full(self, value: Any) -> Any:
        """The value with its 16-bit tensors in float32."""
        return _map(value, lambda t: t.float() if t.dtype in (torch.bfloat16, torch.float16) else t)

    def _lower(self, tensor: Tensor) -> Tensor:
        if tensor.dtype != torch.float32:
            return tensor
        dtype = torch.get_autocast_dtype(CARRIER)
        is_weight = tensor.requires_grad and tensor.is_leaf and not tensor._is_view()
        if not (is_weight and torch.is_autocast_cache_enabled()):
            return tensor.to(dtype)
        if id(tensor) not in self.cached:
            self.cached[id(tensor)] = tensor, tensor.to(dtype)
            self.on_new_copy(self.cached[id(tensor)][1])
        return self.cached[id(tensor)][1]


@contextmanager
def emptied_with_autocasts_own(casts: Casts) -> Iterator[None]:
    """Let go of the kept copies when autocast lets go of its own, at the end of the outermost context."""
    own = torch.clear_autocast_cache

    def clear() -> None:
        own()
        casts.cached.clear()

    with mock.patch.object(torch, "clear_autocast_cache", clear):
        yield


def is_on() -> bool:
    """Whether an autocast context is open."""
    return torch.is_autocast_enabled(CARRIER)


@contextmanager
def off() -> Iterator[None]:
    """Within an operator that autocast has cast for, what it calls is left alone."""
    was_on = is_on()
    torch.set_autocast_enabled(CARRIER, False)
    try:
        yield
    finally:
        torch.set_autocast_enabled(CARRIER, was_on)


def functions(device: str, casts: Casts) -> dict[str, Callable]:
    """For every operator that autocast knows on this device: a function that casts, then runs it."""
    return {name: partial(_run, *_rule(name, device), name, casts) for name in known_operators(device)}


@cache
def known_operators(device: str) -> tuple[str, ...]:
    """The operators that autocast has a rule for on "cpu" or "cuda", as PyTorch lists them."""
    key = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}[device]
    names = (n for n in torch._C._dispatch_get_all_op_names() if n.startswith("aten::"))
    known = (n for n in names if torch._C._dispatch_has_kernel_for_dispatch_key(n, key))
    short = sorted(n.removeprefix("aten::") for n in known)
    return tuple(n for n in short if n.split(".")[0] not in ELSEWHERE and _overload(n) is not None)


def rule_of(name: str, device: str) -> str:
    """ "lower", "widest", "by argument" or "full": what autocast does with this operator."""
    base = name.split(".")[0]
    if base in ONLY_ON.get(device, ()):
        return "full"
    if base in LOWER:
        return "lower"
    if base in WIDEST:
        return "widest"
    return "by argument" if base in BY_ARGUMENT and device == "cuda" else "full"


def _rule(name: str, device: str) -> tuple[str, Any]:
    return rule_of(name, device), _overload(name)


def _run(rule: str, operator: Any, name: str, casts: Casts, *args: Any, **kwargs: Any) -> Any:
    if not is_on():
        return below(operator, *args, **kwargs)
    if rule == "widest":
        kinds = {t.dtype for t in tensors_in([*args, *kwargs.values()]) if t.dtype.is_floating_point}
        rule = "full" if torch.float32 in kinds else "as it is"
    if rule == "by argument" and _float16_comes_first(args) and not _says_its_type(args, kwargs):
        return _in_float32(operator, name, args, kwargs)
    cast = {"lower": casts.lower, "full": casts.full}.get(rule, lambda value: value)
    return below(operator, *cast(args), **cast(kwargs))


def _float16_comes_first(args: tuple) -> bool:
    return isinstance(args[0], Tensor) and args[0].dtype in (torch.bfloat16, torch.float16)


def _says_its_type(args: tuple, kwargs: dict[str, Any]) -> bool:
    return any(isinstance(a, torch.dtype) for a in (*args, *kwargs.values()))


def _in_float32(operator: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Softmax of float16 writes float32 at once on a GPU; anything else is copied to float32 before."""
    fused = {"softmax.int": torch.ops.aten._softmax, "log_softmax.int": torch.ops.aten._log_softmax}
    if name in fused and args[0].dtype == torch.float16:
        return fused[name](args[0], args[1], True)
    given = [a for a in args if a is not None]  # the type that was not said may stand there as None
    return below(operator, *given, **{**kwargs, "dtype": torch.float32})


def _overload(name: str) -> Any:
    base, _, overload = name.partition(".")
    packet = getattr(torch.ops.aten, base, None)
    return getattr(packet, overload or "default", None)


def _map(value: Any, cast: Callable[[Tensor], Tensor]) -> Any:
    """Cast every tensor, the last argument first, as compiled code happens to do."""
    if isinstance(value, Tensor):
        return cast(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_map(v, cast) for v in reversed(value)][::-1])
    if isinstance(value, dict):
        return {k: _map(v, cast) for k, v in value.items()}
    return value
