"""How a CTC loss is averaged under accumulation: three weightings, their gradients, and their training.

"window": the sum over all utterances, divided by all syllables of the window. Cutting changes nothing.
"mean of means": each micro-batch's mean over its own syllables, averaged over the K micro-batches.
"torch mean": what ``ctc_loss(reduction="mean")`` does, each loss divided by its own target's length and then
averaged over utterances. That is another objective: a syllable weighs less the longer its utterance is.

All three go through ``accumulate``, which is right whatever sum and count it is told; telling it the wrong
ones is what this lens is about.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.lenses.vectors import flat, gradient_of
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
from accum_lib.records.speech import SpeechRun, Weighting

BATCH, SIZES = 32, (1, 2, 4, 8, 16, 32)


def _syllables(batch: Utterances) -> int:
    return int(batch.lengths[can_be_aligned(batch)].sum())


Reduce = Callable[[Tensor, Utterances], Tensor]  # from each utterance's loss to one number
WEIGHTINGS: dict[str, tuple[Reduce, Callable[[Utterances], int]]] = {  # the loss sum, and its count
    "window": (lambda losses, batch: losses.sum(), _syllables),
    "mean of means": (lambda losses, batch: losses.sum() / _syllables(batch), lambda batch: 1),
    "torch mean": (lambda losses, batch: (losses / batch.lengths).sum(), len),
}


def weigh(name: str, problem: Audio | None = None) -> Weighting:
    """Measure one weighting on a window of 32 utterances, for every M of ``SIZES``, in float64.

    Args:
        name: one of ``WEIGHTINGS``.
        problem: 32 utterances or more, of which the first 32 are the window.

    Raises:
        ValueError: the name is not known, or there are too few utterances.
    """
    problem = problem or Audio(BATCH, torch.float64)
    if name not in WEIGHTINGS:
        raise ValueError(f"the weighting must be one of {', '.join(WEIGHTINGS)}; got {name!r}")
    if problem.num_samples < BATCH:
        raise ValueError(f"the window needs {BATCH} utterances; the problem has {problem.num_samples}")
    whole = problem.batch(torch.arange(BATCH))
    exact = _one_big_batch(problem, whole)
    found = [_through_the_core(name, problem, m) for m in SIZES]
    return Weighting(
        name=name,
        micro_batch_sizes=np.array(SIZES),
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

    window = [problem.batch(indices) for indices in torch.arange(BATCH).split(m)]
    accumulate(model, window, loss_sum, count)
    shares = torch.cat([losses.grad for losses in kept if losses.grad is not None])
    return gradient_of(model), shares


def _one_big_batch(problem: Audio, whole: Utterances) -> Tensor:
    """The gradient of the mean over all syllables, in one pass and without the core."""
    model = problem.make_model()
    loss = problem.losses(model, whole).sum() / whole.lengths.sum()
    return flat(torch.autograd.grad(loss, list(model.parameters())))
