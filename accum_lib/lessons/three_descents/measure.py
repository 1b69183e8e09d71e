"""Where the three descents go on the regression's surface, under an equal budget.

One update in slow motion: what every backward pass adds to the gradient buffer, and the move after it.

Nothing here accumulates. The core's ``accumulate`` runs as it always does, and ``window_story`` reads
``.grad`` whenever the core asks for the next micro-batch's loss.
"""

from collections.abc import Collection
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from contourpy import contour_generator
from torch import Tensor, nn

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.descent import Run, descend
from accum_lib.lessons.three_descents.record import Comparison, CutWindow, Moment, Path, Surface, Weighing
from accum_lib.problems.base import micro_batches
from accum_lib.problems.regression import Regression

EPOCHS = 5  # the budget of equal examples, in passes over the data
UPDATES = 25  # the budget of equal updates
LEVELS = np.arange(-2.0, 2.01, 0.25)  # log10 of the losses at which contour lines are drawn
LOSS_LIMIT = 1e6  # a loss beyond this has diverged


def surface(problem: Regression, half_width: float = 4.2, points: int = 61) -> Surface:
    """The loss around its minimum, on a square grid of ``points`` x ``points`` weights."""
    minimum = problem.minimum()
    steps = np.linspace(-half_width, half_width, points)
    w1, w2 = minimum[0] + steps, minimum[1] + steps
    least = float(problem.loss_at(minimum))
    grid = np.stack(np.meshgrid(w1, w2), axis=-1)  # (rows, columns, 2)
    excess = problem.loss_at(grid) - least
    return Surface(w1, w2, excess, _contours(w1, w2, excess), minimum, least)


def _contours(w1: np.ndarray, w2: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Lines of equal loss. Its root is straight along every ray from the minimum: best to interpolate."""
    generator = contour_generator(w1, w2, np.sqrt(np.maximum(excess, 0)))
    lines = [line for level in LEVELS for line in generator.lines(10 ** (level / 2))]
    between = np.full((1, 2), np.nan)
    return np.concatenate([part for line in lines for part in (line, between)])


class DescentComparison:
    """Compare full-batch, mini-batch and accumulated descent; runs that recur are kept.

    Args:
        problem: the regression to descend.
    """

    def __init__(self, problem: Regression) -> None:
        self.problem = problem
        self._least = float(problem.loss_at(problem.minimum()))
        self._run, self._path = cache(self._descend), cache(self._uncached_path)

    def compare(
        self,
        micro_batch_size: int,
        accumulation_steps: int,
        learning_rate: float,
        gradient: str = "mean",
        budget: str = "examples",
    ) -> Comparison:
        """Run what has not been run yet, and cut all to the budget.

        Args:
            micro_batch_size: M.
            accumulation_steps: K; beyond N/M, a window is the whole epoch.
            learning_rate: the same for all of them.
            gradient: "mean" or "sum" over the window's micro-batches.
            budget: "examples" or "updates".

        Raises:
            ValueError: a setting is out of range.
        """
        if budget not in ("examples", "updates"):
            raise ValueError(f"budget must be 'examples' or 'updates'; got {budget!r}")
        n, m = self.problem.num_samples, micro_batch_size
        big_batch = min(m * accumulation_steps, n)
        full, mini, big = (self._path(size, 1, learning_rate, "mean", budget) for size in (n, m, big_batch))
        accumulated = self._path(m, accumulation_steps, learning_rate, gradient, budget)
        shared = min(len(accumulated.weights), len(big.weights))
        gaps = accumulated.weights[:shared] - big.weights[:shared]
        return Comparison(
            budget=budget,
            gradient=gradient,
            learning_rate=learning_rate,
            num_samples=n,
            full=full,
            mini=mini,
            accumulated=accumulated,
            big=big,
            distance=float(np.linalg.norm(gaps, axis=1).max()),
        )

    def _uncached_path(self, m: int, k: int, learning_rate: float, gradient: str, budget: str) -> Path:
        return self._cut(self._run(m, k, learning_rate, gradient if k > 1 else "mean"), budget)

    def _descend(self, m: int, k: int, learning_rate: float, gradient: str) -> Run:
        updates_per_epoch = -(-self.problem.num_samples // (m * k))  # rounded up: the last may be short
        return descend(
            self.problem,
            micro_batch_size=m,
            accumulation_steps=k,
            learning_rate=learning_rate,
            gradient=gradient,
            epochs=max(EPOCHS, -(-UPDATES // updates_per_epoch)),
            loss_limit=LOSS_LIMIT,
            record=True,
        )

    def _cut(self, run: Run, budget: str) -> Path:
        within = run.examples_seen <= EPOCHS * self.problem.num_samples
        updates = int(within.sum()) if budget == "examples" else min(run.updates, UPDATES)
        assert run.trajectory is not None
        weights = run.trajectory[: updates + 1]
        examples = np.concatenate([[0], run.examples_seen[:updates]])
        return Path(
            micro_batch_size=run.micro_batch_size,
            accumulation_steps=run.accumulation_steps,
            weights=weights,
            excess=self.problem.loss_at(weights) - self._least,
            examples=examples,
            passes=-(-int(examples[-1]) // run.micro_batch_size),
            diverged=run.diverged and updates == run.updates,
        )


def window_story(
    problem: Regression, micro_batch_size: int, accumulation_steps: int, learning_rate: float, seed: int = 0
) -> list[Moment]:
    """Every moment of one epoch of accumulated descent, from a real run.

    Returns:
        For each window, one moment before it, one after each backward pass, one after the update.
    """
    model = problem.make_model(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    order = torch.Generator().manual_seed(seed)
    weights, story = [_vector(model)], []
    stream = windows(micro_batches(problem, micro_batch_size, order), accumulation_steps)
    for update, window in enumerate(stream):
        buffers: list[np.ndarray] = []

        def watched_loss(model: nn.Module, batch: Any, seen: list[np.ndarray] = buffers) -> Tensor:
            seen.append(_vector(model, gradient=True))  # what the micro-batches before this one left
            return problem.loss_sum(model, batch)

        big_batch = _one_big_batch(problem, model, window)
        result = accumulate(model, window, watched_loss, problem.count)
        shares = np.diff([*buffers, _vector(model, gradient=True)], axis=0)  # (K, 2)
        apply_update(model, optimizer)
        for passed in range(len(window) + 2):
            moved = passed > len(window)
            count = min(passed, len(window))
            if moved:
                weights = [*weights, _vector(model)]
            story.append(
                Moment(
                    update=update,
                    micro_batch=count,
                    window_length=len(window),
                    moved=moved,
                    samples=window[count - 1][0].numpy() if 0 < passed <= len(window) else np.empty((0, 2)),
                    shares=np.empty((0, 2)) if moved else shares[:count],
                    big_batch=big_batch,
                    weights=np.array(weights),
                    loss=result.loss if count == len(window) else None,
                )
            )
    return story


def cut_window(problem: Regression, cuts: Collection[int]) -> CutWindow:
    """Cut all N samples, as one window, before the given ones; weigh the micro-batches in two ways.

    Args:
        problem: its N samples are the window.
        cuts: from 1 to N - 1, in any order; two at one place are one.

    Raises:
        ValueError: a cut is not between two samples.
    """
    n = problem.num_samples
    if outside := [cut for cut in cuts if not 0 < cut < n]:
        raise ValueError(f"a cut must be from 1 to {n - 1}, between two samples; got {outside[0]}")
    rows = [torch.arange(*ends) for ends in pairwise(sorted({0, *cuts, n}))]
    return CutWindow(
        sizes=tuple(map(len, rows)),
        over_total=_weighing(problem, rows, means=False),
        mean_of_means=_weighing(problem, rows, means=True),
        big_batch=_one_big_batch(problem, problem.make_model(), [problem.batch(each) for each in rows]),
    )


def _weighing(problem: Regression, rows: list[Tensor], means: bool) -> Weighing:
    """Through ``accumulate``; a mean that counts as one makes it a mean of means.

    Where each sample's loss is a weight of its own, the buffer holds what each gradient is multiplied by.
    """
    own = nn.utils.skip_init(nn.Linear, problem.num_samples, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(own.weight)
    one_hot = torch.eye(problem.num_samples, dtype=torch.float64)

    def buffer(model: nn.Module, window: list[Any], loss_sum: Any) -> np.ndarray:
        def mean(model: nn.Module, batch: Any) -> Tensor:
            return loss_sum(model, batch) / len(batch[0])

        if means:
            accumulate(model, window, mean, lambda batch: 1)
        else:
            accumulate(model, window, loss_sum, lambda batch: len(batch[0]))
        return _vector(model, gradient=True)

    return Weighing(
        weights=buffer(own, [(one_hot[each],) for each in rows], lambda model, batch: model(batch[0]).sum()),
        gradient=buffer(problem.make_model(), [problem.batch(each) for each in rows], problem.loss_sum),
    )


def _one_big_batch(problem: Regression, model: nn.Module, window: list[Any]) -> np.ndarray:
    """The gradient of the mean loss of all the window's samples at once, without ``accumulate``."""
    x, y = (torch.cat(parts) for parts in zip(*window, strict=True))
    mean_loss = problem.loss_sum(model, (x, y)) / len(y)
    return torch.autograd.grad(mean_loss, list(model.parameters()))[0].flatten().numpy()


def _vector(model: nn.Module, gradient: bool = False) -> np.ndarray:
    """The two weights, or their gradient (zeros while the buffer is empty), copied."""
    (parameter,) = model.parameters()
    if not gradient:
        return parameter.detach().flatten().numpy().copy()
    return np.zeros(2) if parameter.grad is None else parameter.grad.flatten().numpy().copy()
