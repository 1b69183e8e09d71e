"""What a problem is: data that can be cut into micro-batches, a model, a loss sum and its count."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Problem(Protocol):
    """Something to descend. ``num_samples`` is N; ``default_learning_rate`` suits plain SGD."""

    name: str
    num_samples: int
    default_learning_rate: float

    def make_model(self, seed: int = 0) -> nn.Module:
        """A new model, the same for the same seed; the global random state is left alone."""
        ...

    def batch(self, indices: Tensor) -> Any:
        """The micro-batch of these samples; ``indices`` has shape (micro_batch,)."""
        ...

    def loss_sum(self, model: nn.Module, batch: Any) -> Tensor:
        """The scalar sum of the batch's losses."""
        ...

    def count(self, batch: Any) -> float:
        """How many terms that sum has."""
        ...


def micro_batches(
    problem: Problem, micro_batch_size: int, generator: torch.Generator | None = None
) -> Iterator[Any]:
    """One epoch of micro-batches: every sample once, in random order; the last may be smaller.

    The order depends on the generator alone, never on the micro-batch size, so two runs with the same
    seed and the same M·K put the same samples into the same update.

    Args:
        problem: where the samples come from.
        micro_batch_size: M, from 1 to N.
        generator: draws the order; None keeps the samples in their own order.

    Raises:
        ValueError: M is not between 1 and N.
    """
    if not 1 <= micro_batch_size <= problem.num_samples:
        raise ValueError(
            f"micro_batch_size must be between 1 and the data set's {problem.num_samples} samples; "
            f"got {micro_batch_size}"
        )
    n = problem.num_samples
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    for indices in order.split(micro_batch_size):
        yield problem.batch(indices)
