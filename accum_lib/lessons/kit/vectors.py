"""Many tensors as one vector, to measure how far two gradients or two models are apart."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def flat(tensors: Iterable[Tensor | None]) -> Tensor:
    """All entries in order, in float64 and detached; what is None is left out."""
    return torch.cat([t.detach().double().flatten() for t in tensors if t is not None])


def gradient_of(model: nn.Module) -> Tensor:
    """What ``.grad`` holds, of all parameters that have one."""
    return flat(p.grad for p in model.parameters())
