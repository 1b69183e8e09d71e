"""Many tensors as one vector, and micro-batches of any kind by their parts.

A batch may be a tensor, a tuple, a named tuple, a mapping, a dataclass or an object. What is made of it is of
its own type, since a loop may ask it for ``batch.labels`` or ``batch.to(device)``.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Parts = dict[Any, Any]  # by key, field or position
IGNORE_INDEX = -100  # the label that PyTorch's and Transformers' losses leave out
PADDING: dict[Any, float] = {
    "labels": IGNORE_INDEX,
    "attention_mask": 0,
}  # what fills up short rows; anything else gets 0


def flat(tensors: Iterable[Tensor | None], dtype: torch.dtype | None = torch.float64) -> Tensor:
    """All entries in order, detached, in a new tensor; None entries are left out.

    Args:
        tensors: of any shapes.
        dtype: of the result; None keeps that of the tensors.
    """
    return torch.cat([t.detach().to(dtype or t.dtype).flatten() for t in tensors if t is not None])


def gradient_of(model: nn.Module) -> Tensor:
    """What ``.grad`` holds, of all parameters that have one, in float64."""
    return flat(p.grad for p in model.parameters())


def parts_of(batch: Any) -> Parts | None:
    """What a batch is made of; None for a tensor, and for what is no container."""
    if isinstance(batch, Mapping):
        return dict(batch)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return dict(zip(batch._fields, batch, strict=True))
    if isinstance(batch, tuple | list):
        return dict(enumerate(batch))
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    if isinstance(batch, Tensor | nn.Module | type) or not hasattr(batch, "__dict__"):
        return None
    found = dict(vars(batch))
    return found if any(isinstance(value, Tensor) for value in found.values()) else None


def with_parts(batch: Any, parts: Parts) -> Any:
    """A batch of the same type with other parts; a mapping that cannot be written to becomes a dict."""
    if isinstance(batch, tuple):
        make: Any = getattr(type(batch), "_make", tuple)  # a named tuple's
        return make(parts.values())
    if isinstance(batch, list):
        return list(parts.values())
    if isinstance(batch, Mapping) and not hasattr(batch, "__setitem__"):
        return parts
    made = copy.copy(batch)
    for key, value in parts.items():
        if isinstance(batch, Mapping):
            made[key] = value
        else:
            object.__setattr__(made, key, value)  # a frozen dataclass, too
    return made


def map_tensors(change: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """``change`` every tensor of a batch, and leave the rest."""
    if isinstance(batch, Tensor):
        return change(batch)
    parts = parts_of(batch)
    if not parts:
        return batch
    return with_parts(batch, {key: map_tensors(change, value) for key, value in parts.items()})


def tensors_of(batch: Any) -> list[Tensor]:
    """All tensors of a batch, in order."""
    if isinstance(batch, Tensor):
        return [batch]
    return [tensor for value in (parts_of(batch) or {}).values() for tensor in tensors_of(value)]


def join_batches(batches: Sequence[Any]) -> Any:
    """One big batch, of the same type: tensors, or tuples, mappings, dataclasses, objects of tensors.

    Rows of different lengths are padded at their end: labels with -100, attention masks and all else with
    0. If your model needs another padding, or reads padding at all, write a ``join`` of your own.

    Args:
        batches: micro-batches of one kind, the examples along the first axis.

    Raises:
        TypeError: a micro-batch is of another kind, or holds a number or text that differs.
    """
    return _joined(list(batches), 0)


def _joined(values: list[Any], filling: float) -> Any:
    first, columns = values[0], [parts_of(value) for value in values]
    if isinstance(first, Tensor):
        return _cat(values, filling)
    if isinstance(first, list) and not tensors_of(values):  # such as a name for each row
        return [item for value in values for item in value]
    if columns[0] is None:
        if all(type(value) is type(first) and value == first for value in values[1:]):
            return first  # such as a flag, the same for all
        raise TypeError(f"can't join micro-batches of type {type(first).__name__}: give a join function")
    padding = _padding(first, columns[0])
    if any(column is None or list(column) != list(columns[0]) for column in columns):
        raise TypeError("can't join micro-batches that hold different things: give a join function")
    return with_parts(
        first, {key: _joined([c[key] for c in columns if c], padding.get(key, 0)) for key in columns[0]}
    )


def _padding(batch: Any, parts: Parts) -> dict[Any, float]:
    """What fills up short rows of each part: by its name; else the last one are labels, by habit."""
    last = next(reversed(parts), None)
    if isinstance(batch, Mapping) or "labels" in parts or not isinstance(parts.get(last), Tensor):
        return PADDING
    return PADDING if parts[last].is_floating_point() else {**PADDING, last: IGNORE_INDEX}


def _cat(parts: list[Tensor], filling: float) -> Tensor:
    if parts[0].ndim < 2 or len({p.shape[1:] for p in parts}) == 1:
        return torch.cat(parts)
    longest = max(p.shape[1] for p in parts)
    beyond = [0, 0] * (parts[0].ndim - 2)
    return torch.cat([F.pad(p, [*beyond, 0, longest - p.shape[1]], value=filling) for p in parts])
