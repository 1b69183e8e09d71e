"""skorch: it has no accumulation of its own; the recipe of its questions and answers."""

from typing import Any

from adapter import Case, serve, windows
from skorch import NeuralNet
from torch import nn
from torch_model import Noted, batches, window_backward


class Accumulating(NeuralNet):
    """Each loss over K, and a step at every K-th batch of an epoch."""

    def __init__(self, *args: Any, steps: int, **more: Any) -> None:
        super().__init__(*args, **more)
        self.steps = steps

    def get_loss(self, *args: Any, **more: Any) -> Any:
        return super().get_loss(*args, **more) / self.steps

    def train_step(self, batch: Any, **more: Any) -> Any:
        step = self.train_step_single(batch, **more)
        if len(self.history[-1, "batches"]) % self.steps == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


class ByWindow(NeuralNet):
    """Mended: a window is skorch's batch."""

    def train_step(self, batch: Any, **_: Any) -> Any:
        self.optimizer_.zero_grad()
        loss = window_backward(self.module_, batch)
        self.optimizer_.step()
        return {"loss": loss, "y_pred": None}


def documented(case: Case) -> dict[str, Any]:
    return fit(case, Accumulating, batches(case), steps=case["accumulation_steps"])


def mended(case: Case) -> dict[str, Any]:
    return fit(case, ByWindow, windows(batches(case), case["accumulation_steps"]))


def fit(case: Case, kind: type[NeuralNet], data: list[Any], **more: Any) -> dict[str, Any]:
    noted = Noted(case)
    net = kind(
        noted.model, nn.CrossEntropyLoss, lr=case["rate"], max_epochs=case["epochs"], train_split=None,
        iterator_train=lambda *_, **__: data, verbose=0, callbacks="disable", **more,
    )  # fmt: skip
    net.initialize()
    noted.note(net.optimizer_)
    net.partial_fit(batches(case)[0][0], batches(case)[0][1])  # it asks the iterator, not these
    return noted.found


serve(documented, mended)
