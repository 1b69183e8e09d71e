"""Many tensors as one vector, to measure how far two gradients or two models are apart."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


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
