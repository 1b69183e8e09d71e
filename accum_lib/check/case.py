"""What a loop is tried on: a model, one epoch of micro-batches, and the loss that counts as right.

The standard cases: small enough to run in a moment, uneven enough that no known fault can hide.

Even micro-batches hide a mean of means; an epoch that K divides hides what becomes of the trailing window. So
here micro-batches count 5, 1, 7, 2, 4, 3, 6 and so on tokens, some are ignored, and K divides nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import Count, LossSum
from accum_lib.losses import count_tokens
from accum_lib.problems.base import Problem, micro_batches
from accum_lib.vectors import IGNORE_INDEX, join_batches, map_tensors, parts_of, tensors_of
from accum_lib.words import _


@dataclass(frozen=True)
class Case:
    """One thing to try a loop on.

    Attributes:
        name: in words.
        make_model: makes a model, the same each time.
        batches: one epoch of micro-batches, in order.
        accumulation_steps: K.
        loss_sum, count: the right loss, as ``accumulate`` takes it.
        join: ``join(numbers)``, one big batch of the micro-batches with these numbers; None concatenates them
            with ``join_batches``.
        epochs: how often the loop goes through the data; 2 shows what leaks from one into the next.
        max_grad_norm: if the loop is meant to clip the whole window's gradient once, to what norm; None takes
            the default of the loop's parameter of this name, if it has one.
        learning_rate: of the SGD that the loop is given.
        auxiliary: a part of ``loss_sum`` that is added to the main loss, such as a router's; with it the
            checker tells which of the two weighs wrongly.

    Raises:
        ValueError: when it is tried: there are no micro-batches, a window counts 0, or K is below 1.
    """

    name: str
    make_model: Callable[[], nn.Module]
    batches: Sequence[Any]
    accumulation_steps: int
    loss_sum: LossSum
    count: Count
    join: Callable[[Sequence[int]], Any] | None = None
    epochs: int = 2
    max_grad_norm: float | None = None
    learning_rate: float = 0.05
    auxiliary: LossSum | None = None

    @classmethod
    def of_problem(
        cls, problem: Problem, micro_batch_size: int, accumulation_steps: int, **more: Any
    ) -> "Case":
        """A case made of a ``Problem``: its samples in their own order, M at a time."""
        rows = torch.arange(problem.num_samples).split(micro_batch_size)
        return cls(
            name=f"{problem.name}, M = {micro_batch_size}, K = {accumulation_steps}",
            make_model=problem.make_model,
            batches=list(micro_batches(problem, micro_batch_size)),
            accumulation_steps=accumulation_steps,
            loss_sum=problem.loss_sum,
            count=problem.count,
            join=lambda numbers: problem.batch(torch.cat([rows[i] for i in numbers])),
            **more,
        )

    def big_batch(self, numbers: Sequence[int]) -> Any:
        """The micro-batches with these numbers, as one batch."""
        if self.join is not None:
            return self.join(numbers)
        return join_batches([self.batches[i] for i in numbers])

    def in_precision(self, dtype: torch.dtype) -> "Case":
        """The same case with the floating-point data in another precision.

        Raises:
            ValueError: there is no micro-batch, K is below 1, or a window counts nothing.
        """
        if not self.batches:
            raise ValueError(f"the case {self.name!r} has no micro-batches")
        if self.accumulation_steps < 1:
            raise ValueError(f"accumulation_steps must be 1 or more; got {self.accumulation_steps}")
        for window in self.windows():
            if not sum(float(self.count(self.batches[i])) for i in window) > 0:
                raise ValueError(f"the window of micro-batches {window} counts 0, so it has no mean")
        join = None if self.join is None else lambda numbers: cast(self.big_batch(numbers), dtype)
        return replace(self, batches=[cast(b, dtype) for b in self.batches], join=join)

    def windows(self) -> list[tuple[int, ...]]:
        """The micro-batches of each update of one epoch, by number; the last window may be shorter."""
        numbers = range(len(self.batches))
        return [tuple(numbers[i : i + self.accumulation_steps]) for i in numbers[:: self.accumulation_steps]]


def cast(value: Any, dtype: torch.dtype) -> Any:
    """The same batch with its floating-point tensors in another precision."""
    return map_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t, value)


def labels_of(batch: Any) -> Tensor | None:
    """The labels: those of this name, or the last tensor of what is no mapping."""
    parts = parts_of(batch) or {}
    if isinstance(batch, Mapping) or "labels" in parts:
        found = parts.get("labels")
        return found if isinstance(found, Tensor) else None
    every = tensors_of(batch)
    return every[-1] if every else None


def rows_of(batch: Any) -> int:
    """How many samples are in a batch: the length of its first tensor; 1 if that is none."""
    every = tensors_of(batch)
    return len(every[0]) if every and every[0].ndim else 1


FEATURES, CLASSES = 6, 4
COUNTS = (5, 1, 7, 2, 4, 3, 6, 8)  # tokens that count, for each micro-batch; K = 3 leaves a window of two


def token_model() -> nn.Module:
    """A small network that labels tokens: (tokens, 6) to (tokens, 4), 204 parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES), nn.LayerNorm(CLASSES)
        )


def token_batch(counted: int, ignored: int, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens (tokens, 6) with their labels (tokens,); the ignored ones come last."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(counted + ignored, FEATURES, generator=generator)
    labels = torch.randint(CLASSES, (counted + ignored,), generator=generator)
    labels[counted:] = IGNORE_INDEX
    return inputs, labels


def token_loss_sum(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Summed cross-entropy over the tokens that are not ignored."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, reduction="sum", ignore_index=IGNORE_INDEX)


def token_case(counts: tuple[int, ...], accumulation_steps: int, name: str, **more: object) -> Case:
    """A case whose micro-batches count the given numbers of tokens, plus two ignored ones each."""
    return Case(
        name=name,
        make_model=token_model,
        batches=[token_batch(n, ignored=2, seed=i) for i, n in enumerate(counts)],
        accumulation_steps=accumulation_steps,
        loss_sum=token_loss_sum,
        count=count_tokens,
        **more,  # type: ignore[arg-type]
    )


def standard_cases() -> list[Case]:
    """Ragged and even tokens with a trailing window, a short epoch, a micro-batch that counts nothing."""
    return [
        token_case(COUNTS, 3, _("ragged tokens, trailing window")),
        token_case((4, 4, 4, 4, 4), 2, _("even tokens, trailing window")),
        token_case((5, 2), 3, _("an epoch shorter than K")),
        token_case((3, 0, 6, 2), 2, _("a micro-batch in which nothing counts")),
    ]
