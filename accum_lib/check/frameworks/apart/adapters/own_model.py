"""A model of the adapter's own in float64, and beside each update the gradients that tell what is in it."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from adapter import Case, windows
from torch import Tensor, nn

Rows = list[Any]


class Watched:
    """SGD on any model; each update is noted, with the gradient of every micro-batch before it.

    Args:
        model: it is watched; gradients are taken of a copy.
        batches: the micro-batches, each a list of rows.
        mean_loss: of rows, written out without the framework.
        counts: how many terms the mean has in each micro-batch.
        joint: a window's loss is no mean over its micro-batches' terms, so its gradient is needed, too.
    """

    def __init__(
        self, case: Case, model: nn.Module, batches: list[Rows],
        mean_loss: Callable[[nn.Module, Rows], Tensor], counts: list[int], joint: bool = False,
    ) -> None:  # fmt: skip
        self.model = model.double()
        self.twin, self.batches, self.mean_loss = copy.deepcopy(self.model), batches, mean_loss
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=case["rate"])
        self.taken = 0
        self.found: dict[str, Any] = {"start": self._now(), "counts": counts, "updates": [], "means": []}
        self.windows = windows(list(range(len(batches))), case["accumulation_steps"]) if joint else []
        if joint:
            self.found["big"] = []
        self.optimizer.register_step_pre_hook(lambda *_: self._before())
        self.optimizer.register_step_post_hook(
            lambda *_: self.found["updates"].append((self.taken, self._now()))
        )

    def _now(self) -> list[float]:
        return [x for p in self.model.parameters() for x in p.detach().flatten().tolist()]

    def _before(self) -> None:
        with torch.no_grad():
            for ours, theirs in zip(self.twin.parameters(), self.model.parameters(), strict=True):
                ours.copy_(theirs)
        self.found["means"].append([self._gradient(rows) for rows in self.batches])
        if self.windows:
            whole = [(w[-1] + 1, [row for i in w for row in self.batches[i]]) for w in self.windows]
            self.found["big"].append({stop: self._gradient(rows) for stop, rows in whole})

    def _gradient(self, rows: Rows) -> list[float]:
        self.twin.zero_grad()
        self.mean_loss(self.twin, rows).backward()
        every = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.twin.parameters()]
        return [x for g in every for x in g.flatten().tolist()]
