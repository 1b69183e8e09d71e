"""What an operator returns on meta tensors, remembered by the shapes of what it is given.

PyTorch works out the shapes of most operators in Python, which takes up to a millisecond each. A model
repeats the same few operators in every layer, so one answer serves them all.

Whole numbers and truth values, carried along with their meta tensors.

A meta tensor has no values, yet some models look at theirs: Transformers asks whether a mask hides
anything at all, and takes another way through attention if it does. Token ids, labels and masks are
small, so whatever is computed from them alone is computed for real beside the trace, and questions
about it are answered from them. What depends on weights has no value here.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Operator = torch._ops.OpOverload
NO_KEY = ("no key",)
CHANGES_SHAPE = ("resize_", "set_", "resize_as_")  # in place, but not harmless


class Shapes:
    """Run operators on meta tensors, each combination of operator and shapes only once."""

    def __init__(self) -> None:
        self._kinds: dict[Operator, str] = {}
        self._outputs: dict[Any, list[Any]] = {}

    def run(self, operator: Operator, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The operator's outputs: meta tensors of the right shapes, strides and types.

        An operator that writes in place allocates nothing, so its first argument is returned as it is.
        """
        kind = self._kinds.get(operator) or self._kind(operator)
        if kind == "in place" and all(t.is_meta for t in tensors_in(args[:1])):
            return args[0] if operator._schema.returns else None
        key = (operator, key_of(args), key_of(kwargs)) if kind == "fresh" else NO_KEY
        if kind != "fresh" or NO_KEY in key:
            return operator(*args, **kwargs)
        if key in self._outputs:
            return rebuild(self._outputs[key])
        outputs = OWN.get(operator, operator)(*args, **kwargs)
        if shares_storage(outputs, args):
            self._kinds[operator] = "other"  # a view that its declaration does not tell of
        elif all(t.is_meta for t in tensors_in(outputs)):
            self._outputs[key] = describe(outputs)
        return outputs

    def _kind(self, operator: Operator) -> str:
        """Writes "in place", makes "fresh" tensors alone, or does something "other" (such as a view)."""
        schema = operator._schema
        changes_shape = torch.Tag.inplace_view in operator.tags or operator.__name__.startswith(CHANGES_SHAPE)
        writes_first = bool(schema.arguments) and _writes(schema.arguments[0])
        if schema.is_mutable and writes_first and not changes_shape and _name(operator).endswith("_"):
            kind = "in place"
        elif operator.namespace != "aten" or schema.is_mutable or any(r.alias_info for r in schema.returns):
            kind = "other"
        else:
            kind = "fresh"
        self._kinds[operator] = kind
        return kind


def _grouped_product(
    a: Tensor, b: Tensor, offsets: Tensor | None = None, bias: Tensor | None = None, dtype: Any = None
) -> Tensor:
    """The product of each expert's rows with its own weights; PyTorch's own for meta takes bfloat16 alone."""
    if a.dim() == b.dim():  # one product for each expert: what the weights' gradient is made of
        batch = a.shape[:1] if a.dim() == 3 or offsets is None else offsets.shape
        shape = (*batch, a.shape[-2], b.shape[-1])
    else:
        shape = (a.shape[-2], b.shape[-1])
    return torch.empty(shape, dtype=dtype or a.dtype, device="meta")


def _name(operator: Operator) -> str:
    return operator._schema.name.split("::")[-1]


def _writes(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def key_of(value: Any) -> Any:
    """Something hashable that decides the output's shape; it has ``NO_KEY`` if a tensor is not on meta."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype) if value.is_meta else NO_KEY
    if isinstance(value, (list, tuple)):
        parts = tuple(key_of(v) for v in value)
        return NO_KEY if NO_KEY in parts else parts
    if isinstance(value, dict):
        return key_of([(k, v) for k, v in value.items()]) if value else None
    return type(value), value


def describe(outputs: Any) -> Any:
    """Outputs without their storages: ``rebuild`` makes meta tensors of it, as often as they are needed."""
    if isinstance(outputs, Tensor):
        return _Empty(outputs)
    if isinstance(outputs, (list, tuple)):
        return type(outputs), [describe(o) for o in outputs]
    return outputs


def rebuild(described: Any) -> Any:
    """New meta tensors like those that were described."""
    if isinstance(described, _Empty):
        return described.make()
    if isinstance(described, tuple):
        kind, parts = described
        return kind([rebuild(p) for p in parts])
    return described


class _Empty:
    """Shape, strides, type and storage of an output, and how to make another one."""

    __slots__ = ("dtype", "elements", "shape", "strides")

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self.strides, self.dtype = tensor.shape, tensor.stride(), tensor.dtype
        held, needed = tensor.untyped_storage().nbytes(), tensor.numel() * tensor.element_size()
        self.elements = (
            held // tensor.element_size() if held > needed else 0
        )  # some are made larger than needed

    def make(self) -> Tensor:
        if self.elements:
            room = torch.empty(self.elements, dtype=self.dtype, device="meta")
            return room.as_strided(self.shape, self.strides)
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device="meta")


def shares_storage(outputs: Any, inputs: Any) -> bool:
    """Whether an output is an input, or a view of one."""
    given = {t.untyped_storage()._cdata for t in tensors_in(inputs)}
    return any(t.untyped_storage()._cdata in given for t in tensors_in(outputs))


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of an operator's arguments or outputs, lists of them included."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for part in value for t in tensors_in(part)]
    return []


ATTRIBUTE = "_accum_value"
LARGEST = 2**25  # elements; a mask of 16 x 1024 x 1024 has half as many
aten = torch.ops.aten
ALSO_FLOATS = (
    aten.ones.default, aten.detach.default, aten.stack.default, aten.cat.default, aten._to_copy.default,
)  # fmt: skip
OWN = {aten._grouped_mm.default: _grouped_product}


class UnknownValueError(Exception):
    """A meta tensor whose values are not known."""


def give(tensor: Tensor, value: Tensor) -> Tensor:
    """Let a meta tensor have these values."""
    setattr(tensor, ATTRIBUTE, value)
    return tensor


def value_of(tensor: Tensor) -> Tensor:
    """The values of a tensor; one that is not on meta is its own.

    Raises:
        UnknownValueError: it has none.
    """
    if not tensor.is_meta:
        return tensor
    value = getattr(tensor, ATTRIBUTE, None)
    if value is None:
        raise UnknownValueError
    return value


def is_known(tensor: Tensor) -> bool:
    """Whether it has values."""
    return not tensor.is_meta or getattr(tensor, ATTRIBUTE, None) is not None


def carry(operator: Operator, args: tuple, kwargs: dict[str, Any], outputs: Any) -> None:
    """Give the outputs their values, if those of all inputs are known."""
    made = tensors_in(outputs)
    if not made or (operator not in ALSO_FLOATS and made[0].dtype.is_floating_point):
        return
    if torch.Tag.nondeterministic_seeded in operator.tags or made[0].numel() > LARGEST:
        return
    try:
        found = operator(*real(args, value_of), **real(kwargs, value_of))
    except UnknownValueError:
        for tensor in made:
            tensor.__dict__.pop(ATTRIBUTE, None)
        return
    for tensor, value in zip(made, tensors_in(found), strict=True):
        if tensor.is_meta:
            give(tensor, value)


def real(value: Any, of_tensor: Callable[[Tensor], Tensor]) -> Any:
    """An operator's arguments as the CPU takes them: ``of_tensor`` instead of each tensor."""
    if isinstance(value, Tensor):
        return of_tensor(value)
    if isinstance(value, (list, tuple)):
        return type(value)(real(v, of_tensor) for v in value)
    if isinstance(value, dict):
        return {k: real(v, of_tensor) for k, v in value.items()}
    return torch.device("cpu") if value == torch.device("meta") else value
