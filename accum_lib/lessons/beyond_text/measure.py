"""What BatchNorm makes of accumulation: gradient and running statistics against M, beside one big batch.

The windows go through the core, which weighs the losses rightly; what differs is what BatchNorm sees. The
weights stay fixed, so that nothing else differs. Sources: Ioffe and Szegedy 2015 (arXiv 1502.03167); Wu and
He 2018 (arXiv 1803.08494) for GroupNorm.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import accumulate
from accum_lib.lenses.vectors import flat, gradient_of
from accum_lib.problems.digits import Digits
from accum_lib.records.batch_norm import NormErrors

BATCH, SIZES, WINDOWS = 64, (1, 2, 4, 8, 16, 32, 64), 4
MOMENTUM = 0.1  # PyTorch's default: new = 0.9 old + 0.1 seen
Seen = tuple[Tensor, Tensor, Tensor]  # a window's gradient, then all running means, all running variances


def momentum_for(momentum: float, steps: int) -> float:
    """The momentum whose K moves leave as much of the old statistics as one move with ``momentum``.

    Each micro-batch moves the running statistics: after K of them (1 - momentum)^K of the old are left.
    """
    return 1 - (1 - momentum) ** (1 / steps)


def norm_errors(norm: str, corrected: bool = False) -> NormErrors:
    """Cut windows of 64 digits into micro-batches of every M of ``SIZES``, and compare with one big batch.

    Args:
        norm: "batch", "group" or "frozen".
        corrected: give BatchNorm ``momentum_for(0.1, K)``.

    Raises:
        ValueError: the norm is not known.
    """
    problem = Digits("cnn", torch.float64, norm=norm)
    order = torch.randperm(problem.num_samples, generator=torch.Generator().manual_seed(0))
    windows = order.split(BATCH)[:WINDOWS]
    big = _big_batches(problem, windows)
    errors = []
    for m in SIZES:
        momentum = momentum_for(MOMENTUM, BATCH // m) if corrected else MOMENTUM
        errors.append(_errors(_accumulated(problem, windows, m, momentum), big))
    gradients, means, variances, ratios = np.array(errors).T
    return NormErrors(norm, corrected, BATCH, np.array(SIZES), gradients, means, variances, ratios)


def calibrated(problem: Digits, momentum: float = MOMENTUM) -> nn.Module:
    """The problem's untrained model; its running statistics, if any, are those of all the data."""
    model = problem.make_model().train()
    norms = _batch_norms(model)
    for layer in norms:
        nn.BatchNorm2d.train(layer, True)  # also a frozen one, for this one pass
        layer.momentum = None  # the plain average of what is seen
    with torch.no_grad():
        model(problem.images)
    for layer in norms:
        layer.momentum = momentum
    return model.train()


def _accumulated(problem: Digits, windows: Sequence[Tensor], m: int, momentum: float) -> list[Seen]:
    model, seen = calibrated(problem, momentum), []
    for window in windows:
        batches = [problem.batch(indices) for indices in window.split(m)]
        accumulate(model, batches, problem.loss_sum, problem.count)
        seen.append((gradient_of(model), *_statistics(model)))
    return seen


def _big_batches(problem: Digits, windows: Sequence[Tensor]) -> list[Seen]:
    """One forward and backward pass for each window, without the core."""
    model, seen = calibrated(problem), []
    for window in windows:
        images, labels = problem.batch(window)
        loss = F.cross_entropy(model(images), labels)
        gradient = flat(torch.autograd.grad(loss, list(model.parameters())))
        seen.append((gradient, *_statistics(model)))
    return seen


def _errors(found: Sequence[Seen], reference: Sequence[Seen]) -> list[float]:
    """Relative distances of the three, and the ratio of the variances; means over the windows."""
    pairs = list(zip(found, reference, strict=True))
    distances = [[float((a - b).norm() / b.norm()) for a, b in zip(f, r, strict=True)] for f, r in pairs]
    ratio = [float((f[2] / r[2]).mean()) for f, r in pairs]
    return [*np.mean(distances, axis=0), float(np.mean(ratio))]


def _batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]


def _statistics(model: nn.Module) -> tuple[Tensor, Tensor]:
    """All running means and all running variances, copied; NaN if the model keeps none."""
    layers = _batch_norms(model)
    if not layers:
        return torch.tensor([torch.nan]), torch.tensor([torch.nan])
    kept = [(layer.running_mean, layer.running_var) for layer in layers]
    return flat([mean for mean, _ in kept]), flat([variance for _, variance in kept])
