"""Many copies of the digits MLP in one model, so that seeds and learning rates race at the price of one run.

A copy meets its own weights and its own examples only: the summed loss is a sum over the copies, so the
gradient that ``accumulate`` leaves for a copy is the one that it would have alone.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.lessons.variance.record import Race
from accum_lib.problems.digits import CLASSES, Digits

TRAIN = 1437  # of the 1,797 digits; the others are held out
Batch = tuple[Tensor, Tensor]


class Copies(nn.Module):
    """The MLP of ``Digits``, weights ``(rates, seeds, ...)``; a seed starts alike at every rate."""

    def __init__(self, models: list[nn.Module], rates: int) -> None:
        super().__init__()
        each = zip(*(model.parameters() for model in models), strict=True)
        stacked = [torch.stack([p.detach() for p in same]) for same in each]
        self.w1, self.b1, self.w2, self.b2 = (nn.Parameter(w.repeat(rates, *[1] * w.ndim)) for w in stacked)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``(rates, seeds, micro_batch, classes)`` of ``(seeds, micro_batch, 64)`` pixels."""
        hidden = torch.tanh(inputs @ self.w1.mT + self.b1.unsqueeze(-2))
        return hidden @ self.w2.mT + self.b2.unsqueeze(-2)


class Replicas:
    """``seeds`` initial weights and orders of the examples, each at ``rates`` learning rates.

    Args:
        rates: the learning rates that are tried.
        seeds: how many copies at each.
    """

    def __init__(self, rates: tuple[float, ...], seeds: int) -> None:
        self.num_samples, self.rates, self.seeds = TRAIN, rates, seeds
        self._digits = Digits("mlp")
        pixels, labels = self._digits.images.flatten(1), self._digits.labels
        self._pixels, self._labels = pixels[:TRAIN], labels[:TRAIN]
        self._held_out = pixels[TRAIN:].expand(seeds, -1, -1), labels[TRAIN:].expand(seeds, -1)

    def make_model(self) -> Copies:
        return Copies([self._digits.make_model(seed) for seed in range(self.seeds)], len(self.rates))

    def micro_batches(self, micro_batch_size: int, effective_batch_size: int) -> Iterator[Batch]:
        """Epoch after epoch without end: pixels ``(seeds, M, 64)``, labels ``(seeds, M)``, an order per seed.

        A trailing window is left out, so that all updates of a race are of one size.
        """
        generators = [torch.Generator().manual_seed(seed) for seed in range(self.seeds)]
        usable = self.num_samples // effective_batch_size * effective_batch_size
        while True:
            order = torch.stack([torch.randperm(self.num_samples, generator=d) for d in generators])
            for rows in order[:, :usable].split(micro_batch_size, dim=1):
                yield self._pixels[rows], self._labels[rows]

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sum over copies and examples; ``count`` counts the examples of one copy."""
        return self._losses(model(batch[0]), batch[1]).sum()

    def count(self, batch: Batch) -> int:
        return batch[1].shape[1]

    @torch.no_grad()
    def held_out(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Mean loss and share of right answers on the held-out digits, each ``(rates, seeds)``."""
        inputs, labels = self._held_out
        logits = model(inputs)
        return self._losses(logits, labels).mean(-1), (logits.argmax(-1) == labels).float().mean(-1)

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``(rates, seeds, micro_batch)``."""
        labels = labels.expand(logits.shape[:-1])
        losses = F.cross_entropy(logits.reshape(-1, CLASSES), labels.reshape(-1), reduction="none")
        return losses.reshape(labels.shape)


def give_each_its_rate(optimizer: torch.optim.Optimizer, rates: Callable[[int], Tensor]) -> None:
    """Let an optimizer with a learning rate of 1 move every copy at a rate of its own.

    Moves are proportional to the learning rate (SGD, momentum, Adam; no weight decay), so each is shortened
    after it was made: one optimizer for all copies is several times faster than one for each rate.

    Args:
        optimizer: over the parameters of ``Copies``, with ``lr=1``.
        rates: ``rates(update)``, shape (rates,), of the update that is being made; the first is 0.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before: list[Tensor] = []
    made = 0

    def remember(*_: object) -> None:
        before[:] = [p.detach().clone() for p in parameters]

    def shorten(*_: object) -> None:
        nonlocal made
        rate, made = rates(made), made + 1
        with torch.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.copy_(old.lerp(p, rate.reshape(-1, *[1] * (p.ndim - 1))))

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(shorten)


LARGEST_MICRO_BATCH = 64  # by default, a larger B is accumulated from micro-batches of this size
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


Job = tuple[Replicas, int, Recipe, int]  # what ``race`` takes


def race(
    replicas: Replicas, batch_size: int, recipe: Recipe, updates: int, tell: Tell | None = None,
    micro_batch_size: int = LARGEST_MICRO_BATCH,
) -> Race:  # fmt: skip
    """Train every copy for ``updates`` updates, and evaluate the held-out loss on the way.

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
    """How often a race of that many updates calls ``tell``."""
    return len(_looks(updates))


def _looks(updates: int) -> set[int]:
    return set(np.geomspace(1, updates, EVALUATIONS).round().astype(int).tolist())


def race_each(groups: Mapping[str, Sequence[Job]], tell: Tell | None = None) -> dict[str, tuple[Race, ...]]:
    """Run named groups of races; one that several groups contain is run once, under each group's recipe."""
    known: dict[tuple, Race] = {}

    def run(job: Job) -> Race:
        if _key(job) not in known:
            known[_key(job)] = race(*job, tell=tell)
        return replace(known[_key(job)], recipe=job[2].name)

    return {name: tuple(map(run, jobs)) for name, jobs in groups.items()}


def total_evaluations(groups: Mapping[str, Sequence[Job]]) -> int:
    """How often ``race_each`` calls ``tell``."""
    return sum(
        evaluations(updates) for *_, updates in {_key(job) for jobs in groups.values() for job in jobs}
    )


def counted(tell: Callable[[float], None] | None, total: int) -> Tell:
    """What to call ``total`` times, so that ``tell`` hears the share that is done."""
    done = itertools.count(1)
    return lambda: tell(next(done) / total) if tell else None


def _key(job: Job) -> tuple:
    """What decides a race, whatever it is called; the number of updates comes last."""
    replicas, batch_size, recipe, updates = job
    return replicas.rates, replicas.seeds, batch_size, replace(recipe, name=""), updates
