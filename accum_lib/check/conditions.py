"""What a loop is tried under once more, to learn the cause of a difference by taking it away.

A difference is put down to the loop's own precision, or to a model that changes itself, only if it is gone
where everything is computed in the check's precision, or where the model's state stands still.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from accum_lib.vectors import map_tensors, tensors_of

State = dict[str, Any]  # of one module: its buffers and plain attributes, by name


class Precisions(TorchDispatchMode):
    """Notes the floating-point types of everything that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        self.dtypes |= {t.dtype for t in tensors_of(result) if t.is_floating_point() and t.numel() > 0}
        return result


class Widened(TorchDispatchMode):
    """Computes in ``dtype`` what would be rounded to fewer bits: logits, losses, divisors, autocast's copies.

    What is computed from gradients is left as it is, single numbers excepted: a buffer of few bits is a fault
    of accumulation, whatever the precision of training.
    """

    def __init__(self, dtype: torch.dtype, model: nn.Module) -> None:
        super().__init__()
        self._weights = {_place(p) for p in model.parameters()}  # an update makes them no gradients
        self.coarsest = torch.get_default_dtype()  # of a quotient of whole numbers
        self._dtype = dtype
        self._gradients: set[int] = set()  # where they lie, and all that is made of them

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given, asked = tensors_of([args, kwargs]), kwargs.get("dtype")
        from_gradients = torch._C._current_graph_task_id() != -1 or any(map(self._is_gradient, given))
        if isinstance(asked, torch.dtype) and is_coarser(asked, self._dtype) and self._is_in_a_pass(args):
            if is_coarser(asked, self.coarsest):
                self.coarsest = asked
            kwargs = {**kwargs, "dtype": self._dtype}
        result = operator(*args, **kwargs)
        places = {_place(tensor) for tensor in tensors_of(result)} - self._weights
        self._gradients = self._gradients | places if from_gradients else self._gradients - places
        return result

    def _is_in_a_pass(self, args: Any) -> bool:
        source = next((a for a in args if isinstance(a, Tensor)), None)
        if source is None:  # a new tensor: a sum of losses, or a buffer
            sizes = next((a for a in args if isinstance(a, list | tuple)), ())
            return torch.Size(sizes).numel() == 1
        single = source.numel() == 1 or not source.is_floating_point()
        return single or source.requires_grad or not self._is_gradient(source)

    def _is_gradient(self, tensor: Tensor) -> bool:
        return _place(tensor) in self._gradients


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def is_coarser(one: torch.dtype, other: torch.dtype) -> bool:
    """Whether numbers of the first type have fewer digits."""
    return one.is_floating_point and torch.finfo(one).eps > torch.finfo(other).eps


class _WideNumbers(TorchFunctionMode):
    """``torch.tensor(1 / 3, dtype=torch.float32)`` rounds before there is a tensor to be seen."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        number = function in (torch.tensor, torch.as_tensor) and isinstance(
            args[0] if args else None, float | int
        )
        if number and kwargs.get("dtype") and is_coarser(kwargs["dtype"], self._dtype):
            kwargs = {**kwargs, "dtype": self._dtype}
        return function(*args, **kwargs)


@contextmanager
def widened(dtype: torch.dtype, model: nn.Module) -> Iterator[Widened]:
    """Inside, ``Widened``; and what has no type of its own is of this one."""
    mode, default = Widened(dtype, model), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with mode, _WideNumbers(dtype):
            yield mode
    finally:
        torch.set_default_dtype(default)


@contextmanager
def held_still(names: Sequence[str], model: nn.Module) -> Iterator[None]:
    """Inside, these modules' forward passes leave their buffers and attributes as they were."""
    handles: list[Any] = []
    before: list[tuple[nn.Module, State]] = []  # as it was when the outermost of these passes began
    depth = 0

    def begins(*_: Any) -> None:
        nonlocal depth
        if depth == 0:
            before[:] = [(model.get_submodule(name), state_of(model.get_submodule(name))) for name in names]
        depth += 1

    def ends(*_: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            for module, state in before:
                set_state(module, state)

    for name, module in model.named_modules():
        if any(not name or name == each or each.startswith(f"{name}.") for each in names):
            handles.append(module.register_forward_pre_hook(begins, prepend=True))
            handles.append(module.register_forward_hook(ends, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def state_of(module: nn.Module) -> State:
    """Copies of what a forward pass of this module may change, its submodules' left out.

    Buffers, parameters that are not trained (a teacher's), and attributes: numbers, tensors, a hidden state.
    """
    plain = {k: v for k, v in vars(module).items() if k != "training" and k[0] != "_" and _is_plain(v)}
    frozen = {key: p for key, p in module._parameters.items() if p is not None and not p.requires_grad}
    return {key: _copied(value) for key, value in {**plain, **module._buffers, **frozen}.items()}


def set_state(module: nn.Module, state: State) -> None:
    """Put it back, in tensors of its own: a backward pass may still need those that are there."""
    for key, value in state.items():
        if key in module._buffers:
            module._buffers[key] = _copied(value)
        elif (parameter := module._parameters.get(key)) is not None:
            parameter.data = _copied(value)
        else:
            vars(module)[key] = _copied(value)


def is_same_state(one: State, other: State) -> bool:
    """Whether nothing has changed, to the last bit."""
    return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list | deque):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, Tensor):
        return not value.requires_grad
    return value is None or isinstance(value, int | float)


def _copied(value: Any) -> Any:
    if isinstance(value, deque):
        return deque(map(_copied, value), value.maxlen)
    changed = map_tensors(lambda t: t.detach().clone(), value)
    return type(value)(changed) if type(value) in (list, dict) else changed  # an empty one, too


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict) and isinstance(other, dict):
        return is_same_state(one, other)
    if isinstance(one, tuple | list | deque) and type(one) is type(other):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return type(one) is type(other) and bool(one == other)
