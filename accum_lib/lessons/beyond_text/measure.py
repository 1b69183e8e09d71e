"""What BatchNorm makes of accumulation: gradient and running statistics against M, beside one big batch.

The windows go through the core, which weighs the losses rightly; what differs is what BatchNorm sees. The
weights stay fixed, so that nothing else differs. Sources: Ioffe and Szegedy 2015 (arXiv 1502.03167); Wu and
He 2018 (arXiv 1803.08494) for GroupNorm.

How a CTC loss is averaged under accumulation: three weightings, their gradients, and their training.

"window": the sum over all utterances, divided by all syllables of the window. Cutting changes nothing.
"mean of means": each micro-batch's mean over its own syllables, averaged over the K micro-batches.
"torch mean": what ``ctc_loss(reduction="mean")`` does, each loss divided by its own target's length and then
averaged over utterances. That is another objective: a syllable weighs less the longer its utterance is.

All three go through ``accumulate``, which is right whatever sum and count it is given; giving it the wrong
ones is what is measured here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.lessons.beyond_text.record import NormErrors, SpeechRun, Weighting
from accum_lib.problems.audio import (
    HOP,
    NAMES,
    SAMPLE_RATE,
    Audio,
    Utterances,
    can_be_aligned,
    sequence_error_rate,
    spelled,
)
from accum_lib.problems.base import micro_batches
from accum_lib.problems.digits import Digits
from accum_lib.vectors import flat, gradient_of

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


SPEECH_BATCH, SPEECH_SIZES = 32, (1, 2, 4, 8, 16, 32)


def _syllables(batch: Utterances) -> int:
    return int(batch.lengths[can_be_aligned(batch)].sum())


Reduce = Callable[[Tensor, Utterances], Tensor]  # from each utterance's loss to one number
WEIGHTINGS: dict[str, tuple[Reduce, Callable[[Utterances], int]]] = {  # the loss sum, and its count
    "window": (lambda losses, batch: losses.sum(), _syllables),
    "mean of means": (lambda losses, batch: losses.sum() / _syllables(batch), lambda batch: 1),
    "torch mean": (lambda losses, batch: (losses / batch.lengths).sum(), len),
}


def weigh(name: str, problem: Audio | None = None) -> Weighting:
    """Measure one weighting on a window of 32 utterances, for every M of ``SPEECH_SIZES``, in float64.

    Args:
        name: one of ``WEIGHTINGS``.
        problem: 32 utterances or more, of which the first 32 are the window.

    Raises:
        ValueError: the name is not known, or there are too few utterances.
    """
    problem = problem or Audio(SPEECH_BATCH, torch.float64)
    if name not in WEIGHTINGS:
        raise ValueError(f"the weighting must be one of {', '.join(WEIGHTINGS)}; got {name!r}")
    if problem.num_samples < SPEECH_BATCH:
        raise ValueError(f"the window needs {SPEECH_BATCH} utterances; the problem has {problem.num_samples}")
    whole = problem.batch(torch.arange(SPEECH_BATCH))
    exact = _one_big_batch(problem, whole)
    found = [_through_the_core(name, problem, m) for m in SPEECH_SIZES]
    return Weighting(
        name=name,
        micro_batch_sizes=np.array(SPEECH_SIZES),
        errors=np.array([float((gradient - exact).norm() / exact.norm()) for gradient, _ in found]),
        lengths=whole.lengths.numpy(),
        weights=np.array([(shares * _syllables(whole)).numpy() for _, shares in found]),
    )


def train(
    name: str, micro_batch_size: int = 4, accumulation_steps: int = 4, epochs: int = 10, seed: int = 0
) -> SpeechRun:
    """Train on 256 utterances with Adam, and read 128 others after each epoch. About 4 s on one thread."""
    problem, held_out = Audio(256), Audio(128, seed=1)
    model, generator = problem.make_model(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=problem.default_learning_rate)
    reduce, count = WEIGHTINGS[name]
    states = [_listen(held_out, model)]
    for _ in range(epochs):
        for window in windows(micro_batches(problem, micro_batch_size, generator), accumulation_steps):
            accumulate(model, window, lambda net, batch: reduce(problem.losses(net, batch), batch), count)
            apply_update(model, optimizer, max_grad_norm=5.0)  # the first updates of CTC are wild
        states.append(_listen(held_out, model))
    rates, scores, read = zip(*states, strict=True)
    said, seconds = words(held_out.targets[_SHOWN].tolist()), np.arange(len(scores[0])) * HOP / SAMPLE_RATE
    return SpeechRun(name, np.array(rates), seconds, np.array(scores), read, said)


_SHOWN = 14  # the held-out utterance whose reading is kept


def words(syllables: list[int]) -> str:
    """Syllables as they are said: [1, 2] is "ba da"; nothing at all is a dash."""
    return " ".join(NAMES[s - 1] for s in syllables) or "–"


def _listen(held_out: Audio, model: nn.Module) -> tuple[float, np.ndarray, str]:
    batch = held_out.batch(torch.tensor([_SHOWN]))
    with torch.no_grad():
        scores = model(batch.features, batch.frames)[:, 0]
    reading = words(spelled(scores, int(batch.frames[0])))
    return sequence_error_rate(held_out, model), scores.exp().numpy(), reading


def _through_the_core(name: str, problem: Audio, m: int) -> tuple[Tensor, Tensor]:
    """The window's gradient, and the share of each utterance's loss in it, as backward brought it."""
    model, (reduce, count) = problem.make_model(), WEIGHTINGS[name]
    kept: list[Tensor] = []

    def loss_sum(net: nn.Module, batch: Any) -> Tensor:
        kept.append(problem.losses(net, batch))
        kept[-1].retain_grad()
        return reduce(kept[-1], batch)

    window = [problem.batch(indices) for indices in torch.arange(SPEECH_BATCH).split(m)]
    accumulate(model, window, loss_sum, count)
    shares = torch.cat([losses.grad for losses in kept if losses.grad is not None])
    return gradient_of(model), shares


def _one_big_batch(problem: Audio, whole: Utterances) -> Tensor:
    """The gradient of the mean over all syllables, in one pass and without the core."""
    model = problem.make_model()
    loss = problem.losses(model, whole).sum() / whole.lengths.sum()
    return flat(torch.autograd.grad(loss, list(model.parameters())))
