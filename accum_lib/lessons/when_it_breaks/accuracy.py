"""The claim "accumulation does not affect accuracy", on handwritten digits: where it holds, where it fails.

Each trial trains twice from the same weights, with the same samples in each update: once as it should be,
once accumulated. The first three go through the core; the last two are faults of the catalogue, on ragged
pages.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from accum_lib.check.faults import loops
from accum_lib.check.faults.models import digits_cnn
from accum_lib.check.loop import Loop
from accum_lib.descent import descend
from accum_lib.lessons.when_it_breaks.observe import Pages, train
from accum_lib.lessons.when_it_breaks.record import AccuracyTrial
from accum_lib.machine import one_thread
from accum_lib.problems.digits import Digits
from accum_lib.vectors import flat
from accum_lib.words import _

SEEDS, EPOCHS, HELD_OUT = 3, 3, 397
BATCH, MICRO_BATCH = 64, 4
End = tuple[nn.Module, nn.Module]  # as it should be, accumulated


class NormDigits(Digits):
    """1,400 digits for a CNN with another normalisation; the rest are held out."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__("cnn", torch.float64)
        self.norm, self.num_samples = norm, self.num_samples - HELD_OUT

    def make_model(self, seed: int = 0) -> nn.Module:
        return digits_cnn(self.norm, seed).double()


class PlainDigits(Digits):
    """1,400 digits for the MLP."""

    def __init__(self) -> None:
        super().__init__("mlp", torch.float64)
        self.num_samples -= HELD_OUT


def accuracy_trials(progress: Callable[[int, int], None] | None = None) -> list[AccuracyTrial]:
    """Run every trial.

    Args:
        progress: called with (trials done, of how many).
    """
    way = f"M = {MICRO_BATCH}, K = {BATCH // MICRO_BATCH}"
    pages = Pages()
    trials: list[tuple[str, Callable[[int], End], tuple[Tensor, Tensor]]] = [
        (_("MLP, {way}", way=way), _core(PlainDigits()), _held_out()),
        (
            _("CNN with GroupNorm, {way}", way=way),
            _core(NormDigits(lambda c: nn.GroupNorm(4, c))),
            _held_out(),
        ),
        (_("CNN with BatchNorm, {way}", way=way), _core(NormDigits(nn.BatchNorm2d)), _held_out()),
        (_("ragged pages, a mean of means"), _loop(loops.mean_of_means, pages), pages.held_out),
        (
            _("ragged pages, cleared within the window"),
            _loop(loops.cleared_mid_window, pages),
            pages.held_out,
        ),
    ]
    done = []
    with one_thread():
        for name, ends, held_out in trials:
            done.append(_trial(name, [ends(seed) for seed in range(SEEDS)], held_out))
            if progress:
                progress(len(done), len(trials))
    return done


def _core(problem: Digits) -> Callable[[int], End]:
    def ends(seed: int) -> End:
        sizes = ((BATCH, 1), (MICRO_BATCH, BATCH // MICRO_BATCH))
        big, accumulated = (
            descend(problem, micro_batch_size=m, accumulation_steps=k, epochs=EPOCHS, seed=seed).model
            for m, k in sizes
        )
        return big, accumulated

    return ends


def _loop(wrong: Loop, pages: Pages) -> Callable[[int], End]:
    def ends(seed: int) -> End:
        one, other = (
            train(loop, pages.shuffled(seed), torch.optim.SGD, EPOCHS, seed, torch.float64)
            for loop in (loops.right, wrong)
        )
        return one, other

    return ends


def _held_out() -> tuple[Tensor, Tensor]:
    digits = Digits(dtype=torch.float64)
    return digits.images[-HELD_OUT:], digits.labels[-HELD_OUT:]


def _trial(name: str, ends: list[End], held_out: tuple[Tensor, Tensor]) -> AccuracyTrial:
    accuracies = np.array([[_accuracy(model, held_out) for model in pair] for pair in ends])
    return AccuracyTrial(name, accuracies[:, 0], accuracies[:, 1], max(_apart(*pair) for pair in ends))


def _accuracy(model: nn.Module, held_out: tuple[Tensor, Tensor]) -> float:
    model.eval()
    with torch.no_grad():
        return float((model(held_out[0].double()).argmax(1) == held_out[1]).double().mean())


def _apart(one: nn.Module, other: nn.Module) -> float:
    """The distance of their weights, relative to the length of the first's."""
    a, b = (flat(model.parameters(), dtype=None) for model in (one, other))
    return float((a - b).norm() / a.norm())
