"""Slow, obvious answers for the tests to compare with, and the small task that they are computed on.

The task labels tokens with one of three classes. A micro-batch is packed: ``inputs (tokens, features)``
and ``labels (tokens,)``, where label -100 marks a token that does not count.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES, CLASSES, IGNORED = 4, 3, -100

Batch = tuple[Tensor, Tensor]


def make_model(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Two layers, 43 parameters. Its weights are float32 numbers, so both precisions start equal."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    return model.to(dtype)


def make_batch(counted: int, ignored: int = 0, seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    """A micro-batch with so many tokens that count, and so many that do not."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(counted + ignored, FEATURES, generator=generator)
    labels = torch.randint(CLASSES, (counted + ignored,), generator=generator)
    labels[counted:] = IGNORED
    return inputs.to(dtype), labels


def make_window(*counted: int, dtype: torch.dtype = torch.float64) -> list[Batch]:
    """One micro-batch for each count, no two alike; each has a token that does not count as well."""
    return [make_batch(n, ignored=1, seed=seed, dtype=dtype) for seed, n in enumerate(counted)]


def loss_sum(model: nn.Module, batch: Batch) -> Tensor:
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, reduction="sum", ignore_index=IGNORED)


def count(batch: Batch) -> int:
    return sum(label != IGNORED for label in batch[1].tolist())


def big_batch_loss(model: nn.Module, window: list[Batch]) -> Tensor:
    """The mean loss over all of the window's tokens that count, in one forward pass."""
    inputs = torch.cat([batch[0] for batch in window])
    labels = torch.cat([batch[1] for batch in window])
    counted = labels != IGNORED
    return F.cross_entropy(model(inputs[counted]), labels[counted])


def big_batch_gradients(model: nn.Module, window: list[Batch]) -> tuple[Tensor, ...]:
    """The gradient of that mean loss, one tensor for each parameter; ``.grad`` is not touched."""
    return torch.autograd.grad(big_batch_loss(model, window), list(model.parameters()))


def flatten(tensors: object) -> Tensor:
    """Tensors as one float64 vector, copied."""
    return torch.cat([t.detach().double().flatten() for t in tensors])


def gradient(model: nn.Module) -> Tensor:
    """What ``.grad`` holds now, as one float64 vector."""
    return flatten(p.grad for p in model.parameters())


def weights(model: nn.Module) -> Tensor:
    """The parameters as one float64 vector."""
    return flatten(model.parameters())


def relative_error(value: Tensor, reference: Tensor) -> float:
    """The distance to the reference, relative to the reference's norm."""
    return float((value - reference).norm() / reference.norm())
