"""One race: one batch size and one recipe, all learning rates and seeds at once, through ``accumulate``."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.lenses.races.replicas import Replicas, give_each_its_rate
from accum_lib.records.races import Race

LARGEST_MICRO_BATCH = 64  # unless another is asked for, a larger B is accumulated from so many
EVALUATIONS = 24  # in one race, spread evenly over the logarithm of the updates

Tell = Callable[[], None]  # called at each evaluation


@dataclass(frozen=True)
class Recipe:
    """How an update is made from a gradient.

    Attributes:
        name: in words.
        optimizer: "SGD" or "Adam".
        momentum: of SGD.
        beta2: of Adam.
        warm_up: updates over which the learning rate rises to its full height, in equal steps; 0 for none.
    """

    name: str
    optimizer: str = "SGD"
    momentum: float = 0.0
    beta2: float = 0.999
    warm_up: int = 0

    def make(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer with a learning rate of 1, which ``give_each_its_rate`` then shortens."""
        if self.optimizer == "SGD":
            return torch.optim.SGD(parameters, lr=1.0, momentum=self.momentum)
        return torch.optim.Adam(parameters, lr=1.0, betas=(0.9, self.beta2), foreach=True)

    def height(self, update: int) -> float:
        """The share of the full learning rate at an update; the first is 0."""
        return min(1.0, (update + 1) / self.warm_up) if self.warm_up else 1.0


def race(
    replicas: Replicas, batch_size: int, recipe: Recipe, updates: int, tell: Tell | None = None,
    micro_batch_size: int = LARGEST_MICRO_BATCH,
) -> Race:  # fmt: skip
    """Train every copy for so many updates, and look at the held-out loss on the way.

    Args:
        replicas: data, seeds and learning rates.
        batch_size: B; beyond the micro-batch size a multiple of it, and accumulated.
        recipe: how to update.
        updates: how many.
        tell: called at each evaluation; what it raises ends the race.
        micro_batch_size: M, if B is that large.

    Raises:
        ValueError: the batch size does not fit, or a loss is not finite (a rate is too high).
    """
    micro = max(1, min(batch_size, micro_batch_size))
    if batch_size % micro or not 1 <= batch_size <= replicas.num_samples:
        raise ValueError(
            f"batch_size must be at most the {replicas.num_samples} examples, and beyond {micro} a multiple "
            f"of {micro}; got {batch_size}"
        )
    model = replicas.make_model()
    optimizer, rates = recipe.make(list(model.parameters())), torch.tensor(replicas.rates)
    give_each_its_rate(optimizer, lambda update: rates * recipe.height(update))
    stream = windows(replicas.micro_batches(micro, batch_size), batch_size // micro)
    looks, seen = _looks(updates), [replicas.held_out(model)]
    for made, window in enumerate(islice(stream, updates), start=1):
        accumulate(model, window, replicas.loss_sum, replicas.count)
        apply_update(model, optimizer)
        if made in looks:
            seen.append(replicas.held_out(model))
            if tell:
                tell()
    losses, accuracies = (torch.stack(each).numpy() for each in zip(*seen, strict=True))
    moments = np.array([0, *sorted(looks)])
    return Race(recipe.name, batch_size, np.array(replicas.rates), moments, losses, accuracies)


def evaluations(updates: int) -> int:
    """How often a race of so many updates calls ``tell``."""
    return len(_looks(updates))


def _looks(updates: int) -> set[int]:
    return set(np.geomspace(1, updates, EVALUATIONS).round().astype(int).tolist())
