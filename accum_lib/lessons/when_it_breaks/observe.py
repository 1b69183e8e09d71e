"""Which check would catch it? Every fault of the catalogue under the observations that people make.

People look at the loss curve and at the accuracy; careful ones compare parameters with another run. All of
these are tried here on handwritten digits, which come in pages of 2 to 14, so that micro-batches are ragged.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from accum_lib.check import check_case
from accum_lib.check.faults.catalogue import FAULTS, Fault
from accum_lib.check.faults.loops import loss_mean, right
from accum_lib.check.loop import Loop, call_loop
from accum_lib.lessons.when_it_breaks.record import LineUp, Sightings
from accum_lib.machine import one_thread
from accum_lib.problems.digits import Digits, mlp
from accum_lib.vectors import flat
from accum_lib.words import N_

PAGES, STEPS, EPOCHS, SEEDS = 72, 5, 4, 4
LINE_UP_EPOCHS = 6
SUSPECTS = (  # of the line-up, in the order in which they stand; "" is a right loop
    "", "mean_of_means", "leaked_tail", "", "divided_twice", "cleared_mid_window", "", "no_division",
    "off_by_one", "", "scheduler_per_micro_batch", "", "dropped_tail", "wrong_denominator", "",
    "tail_divided_by_k",
)  # fmt: skip
OBSERVATIONS = (N_("loss curve"), "accuracy", N_("weights, Adam"), N_("weights, SGD"), N_("this checker"))
UNITS = (
    N_("final training loss, in standard deviations of right runs with other seeds"),
    N_("held-out accuracy, in standard deviations of right runs with other seeds"),
    N_("distance to the right run's weights after one epoch of Adam, relative to the way that they went"),
    N_("the same with SGD"),
    N_("largest relative error of a gradient in float64"),
)
Page = tuple[Tensor, Tensor]


class Pages:
    """Digits in pages of 2 to 14, of which one in four carries no label; 300 more digits are held out."""

    def __init__(self) -> None:
        problem = Digits()
        sizes = np.random.default_rng(0).integers(2, 15, PAGES)
        rows = torch.randperm(problem.num_samples, generator=torch.Generator().manual_seed(0))
        self.held_out = problem.batch(rows[-300:])
        self.train = [problem.batch(part) for part in rows[: sizes.sum()].split(sizes.tolist())]
        self.train = [(x, y.masked_fill(torch.arange(len(y)) % 4 == 3, -100)) for x, y in self.train]

    def shuffled(self, seed: int) -> list[Page]:
        """The pages in another order."""
        order = np.random.default_rng(seed).permutation(len(self.train))
        return [self.train[i] for i in order]


def sightings(
    faults: Sequence[Fault], pages: Pages | None = None, progress: Callable[[int, int], None] | None = None
) -> Sightings:
    """Train with every wrong loop and its right one, and see what shows.

    Args:
        faults: rows of the result.
        pages: the data.
        progress: called with (done, of how many).

    Returns:
        The table. A loss or an accuracy is seen if it is more than two standard deviations from right runs;
        weights are seen if they are ten times as far from a right run's as rounding puts them; the checker
        sees what it names.
    """
    with one_thread():
        return _sightings(faults, pages or Pages(), progress)


def _sightings(
    faults: Sequence[Fault], pages: Pages, progress: Callable[[int, int], None] | None
) -> Sightings:
    outcomes = cache(lambda loop: [_outcome(loop, pages, seed) for seed in range(SEEDS)])
    rows, spread = [], np.std(outcomes(right), axis=0, ddof=1)
    for number, fault in enumerate(faults):
        wrong, rightly = outcomes(fault.wrong), outcomes(fault.right)
        gaps = np.abs(np.mean(wrong, axis=0) - np.mean(rightly, axis=0)) / spread
        report = check_case(fault.wrong, fault.case())
        distances = [_distance(fault, pages, optimizer) for optimizer in (torch.optim.Adam, torch.optim.SGD)]
        rows.append([*gaps, *distances, report.relative_error, float(bool(report.codes))])
        if progress:
            progress(number + 1, len(faults))
    table = np.array(rows)
    rounding = [_rounding(pages, optimizer) for optimizer in (torch.optim.Adam, torch.optim.SGD)]
    normal = np.array([2.0, 2.0, 10 * rounding[0], 10 * rounding[1], 0.0])
    seen = np.column_stack([table[:, :4] > normal[:4], table[:, 5] > 0])
    return Sightings(tuple(f.code for f in faults), OBSERVATIONS, table[:, :5], seen, UNITS, normal)


def train(
    loop: Loop, batches: Sequence[Page], make_optimizer: Any, epochs: int, seed: int, dtype: torch.dtype,
    seen: list[float] | None = None,
) -> nn.Module:  # fmt: skip
    """Train the digits' MLP with a loop, and return it; ``seen`` gets the mean loss of every micro-batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = mlp().to(dtype)
    rate = 0.3 if make_optimizer is torch.optim.SGD else 2e-3
    optimizer = make_optimizer(model.parameters(), lr=rate)
    offers: dict[str, Any] = {
        "model": model, "optimizer": optimizer, "accumulation_steps": STEPS, "epochs": 1, "ema": _NoAverage(),
        "scheduler": LambdaLR(optimizer, lambda tick: 0.97**tick), "max_grad_norm": None,
    }  # fmt: skip
    pages = [(x.to(dtype), y) for x, y in batches]
    if seen is not None:
        labels = {x.data_ptr(): y for x, y in pages}

        def look(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            seen.append(float(loss_mean(output.detach(), labels[inputs[0].data_ptr()])))

        model.register_forward_hook(look)
    for _ in range(epochs):
        call_loop(loop, offers | {"batches": pages})
    return model


def line_up(progress: Callable[[int, int], None] | None = None) -> LineUp:
    """Train with right loops and with broken ones, each from another seed, and keep what a log would show.

    Args:
        progress: called with (done, of how many).
    """
    pages, losses = Pages(), []
    faults = {fault.code: fault for fault in FAULTS}
    with one_thread():
        for number, code in enumerate(SUSPECTS):
            seen: list[float] = []
            loop = faults[code].wrong if code else right
            seed = SEEDS + number  # not those of the sightings
            train(loop, pages.shuffled(seed), torch.optim.Adam, LINE_UP_EPOCHS, seed, torch.float32, seen)
            losses.append(seen)
            if progress:
                progress(number + 1, len(SUSPECTS))
    titles = tuple(faults[code].heading if code else "" for code in SUSPECTS)
    return LineUp(titles, np.array(losses), len(pages.train))


class _NoAverage:
    """Stands in for an average of the weights, which no observation here looks at."""

    def update_parameters(self, _: nn.Module) -> None:
        return None


def _outcome(loop: Loop, pages: Pages, seed: int) -> tuple[float, float]:
    """The training loss over all pages and the held-out accuracy, after some epochs of Adam."""
    model = train(loop, pages.shuffled(seed), torch.optim.Adam, EPOCHS, seed, torch.float32)
    with torch.no_grad():
        inputs, labels = (torch.cat(parts) for parts in zip(*pages.train, strict=True))
        loss = float(loss_mean(model(inputs), labels))
        images, digits = pages.held_out
        return loss, float((model(images).argmax(1) == digits).float().mean())


def _distance(fault: Fault, pages: Pages, make_optimizer: Any) -> float:
    return _apart(fault.wrong, fault.right, pages, make_optimizer, torch.float32, torch.float32)


def _rounding(pages: Pages, make_optimizer: Any) -> float:
    """How far rounding alone puts two right runs apart: one in float32, one in float64."""
    return _apart(right, right, pages, make_optimizer, torch.float32, torch.float64)


def _apart(
    one: Loop, other: Loop, pages: Pages, make_optimizer: Any, dtype: torch.dtype, other_dtype: torch.dtype
) -> float:
    ends = [
        flat(train(loop, pages.train, make_optimizer, 1, 0, kind).parameters())
        for loop, kind in ((one, dtype), (other, other_dtype))
    ]
    start = flat(train(other, [], make_optimizer, 0, 0, other_dtype).parameters())
    return apart(ends[0], ends[1], start)


def apart(end: Tensor, right: Tensor, start: Tensor) -> float:
    """How far the weights at the end of two trainings differ, relative to the way that the right one went."""
    return float((end - right).norm() / (right - start).norm())
