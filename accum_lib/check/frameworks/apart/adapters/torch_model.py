"""The case's model in torch and float64, and a note of the parameters after each update."""

from collections.abc import Callable
from typing import Any

import torch
from adapter import Case, arrays, flat
from torch import Tensor, nn
from torch.nn import functional as F

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


class Noted:
    """A linear model and SGD; each step of the optimizer adds to ``updates``, each pass to ``taken``."""

    def __init__(self, case: Case) -> None:
        self.model = nn.Linear(len(case["weight"]), len(case["bias"]))
        with torch.no_grad():
            self.model.weight.copy_(torch.tensor(case["weight"]).T)
            self.model.bias.copy_(torch.tensor(case["bias"]))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=case["rate"])
        self.taken, self.updates = 0, []
        self.model.register_forward_hook(lambda *_: self._pass())
        self.note(self.optimizer)

    def note(self, optimizer: Any) -> None:
        """Note each step of this optimizer, if a framework makes its own."""
        optimizer.register_step_post_hook(lambda *_: self.updates.append((self.taken, self._now())))

    def _pass(self) -> None:
        self.taken += self.model.training

    def _now(self) -> list[float]:
        return flat(self.model.weight.detach().T.numpy(), self.model.bias.detach().numpy())

    @property
    def found(self) -> dict[str, Any]:
        """What the checker wants."""
        return {"updates": self.updates}


def batches(case: Case) -> list[tuple[Tensor, Tensor]]:
    """The micro-batches of one epoch."""
    return [(torch.tensor(x), torch.tensor(y)) for x, y in arrays(case)]


def loss_sum(model: nn.Module, batch: Any) -> Tensor:
    """Of one micro-batch."""
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")


def window_backward(
    model: nn.Module, window: list[Any], backward: Callable[[Tensor], Any] = Tensor.backward
) -> Tensor:
    """The window's mean loss, whose gradient is added up micro-batch by micro-batch."""
    total, mean = sum(len(y) for _, y in window), torch.zeros(())
    for batch in window:
        share = loss_sum(model, batch) / total
        backward(share)
        mean += share.detach()
    return mean
