"""The processes that make one update together; here, one process alone.

``accumulate`` asks for no more than this class offers. ``accum_lib.distributed`` implements it on
``torch.distributed``.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from torch import Tensor

_NOTHING = nullcontext()  # it has no state, so one serves every pass


class WeightedBatch(NamedTuple):
    """A micro-batch to run, its index in the window, and its weight in the loss: 0 for a stand-in."""

    number: int
    batch: Any
    weight: float = 1.0


class Ranks:
    """One process. A subclass has several, each of which holds a part of the window."""

    world_size = 1  # the number of processes, over which gradients are averaged

    def agree(
        self, mine: list[WeightedBatch], count: float, micro_batches: int
    ) -> tuple[list[WeightedBatch], float, int]:
        """What this process runs, and the whole window's count and number of micro-batches.

        Stand-ins come last. Unless the whole window counts 0, there is something to run.
        """
        return mine, count, micro_batches

    def synchronized(self, last: bool) -> AbstractContextManager[None]:
        """Around each pass; ``last`` for the window's last one, in which gradients must be averaged."""
        return _NOTHING

    def complete(self, loss: Tensor) -> Tensor:
        """The loss, in whose backward pass every gradient that is averaged now gets averaged."""
        return loss

    def add(self, value: float) -> float:
        """The sum of every process's value."""
        return value

    def finish(self, loss_sum: float) -> float:
        """After the last pass: the sum of every process's losses."""
        return self.add(loss_sum)


ALONE = Ranks()
