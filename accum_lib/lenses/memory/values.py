"""Whole numbers and truth values, carried along with their meta tensors.

A meta tensor has no values, yet some models look at theirs: Transformers asks whether a mask hides
anything at all, and takes another way through attention if it does. Token ids, labels and masks are
small, so whatever is computed from them alone is computed for real beside the trace, and questions
about it are answered truthfully. What depends on weights has no value here.
"""

from typing import Any

import torch
from torch import Tensor

from accum_lib.lenses.memory.shapes import Operator, tensors_in

ATTRIBUTE = "_accum_value"
LARGEST = 2**25  # elements; a mask of 16 x 1024 x 1024 has half as many
aten = torch.ops.aten
ALSO_FLOATS = (aten.detach.default, aten.stack.default, aten.cat.default, aten._to_copy.default)


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


def carry(operator: Operator, args: tuple, kwargs: dict[str, Any], outputs: Any) -> None:
    """Give the outputs their values, if those of all inputs are known."""
    made = tensors_in(outputs)
    if not made or (operator not in ALSO_FLOATS and made[0].dtype.is_floating_point):
        return
    if torch.Tag.nondeterministic_seeded in operator.tags or made[0].numel() > LARGEST:
        return
    try:
        real = operator(*_real(args), **_real(kwargs))
    except UnknownValueError:
        for tensor in made:
            tensor.__dict__.pop(ATTRIBUTE, None)
        return
    for tensor, value in zip(made, tensors_in(real), strict=True):
        if tensor.is_meta:
            give(tensor, value)


def _real(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value_of(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_real(v) for v in value)
    if isinstance(value, dict):
        return {k: _real(v) for k, v in value.items()}
    return torch.device("cpu") if value == torch.device("meta") else value
