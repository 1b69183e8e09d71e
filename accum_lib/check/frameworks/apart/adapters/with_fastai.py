"""fastai: the ``GradientAccumulation`` callback, whose ``n_acc`` is a number of items."""

from typing import Any

import torch
from adapter import Case, serve, windows
from fastai.callback.core import Callback, CancelBatchException
from fastai.callback.training import GradientAccumulation
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from torch.nn import functional as F
from torch_model import Noted, batches


class WindowShares(Callback):
    """Mended: each mean times its share of the window's rows, and a step at each window's end."""

    order, run_valid = GradientAccumulation.order, False

    def __init__(self, parts: list[Any]) -> None:
        self.shares = [len(y) / sum(len(each) for _, each in part) for part in parts for _, y in part]
        self.ends = {i for i in range(len(self.shares)) if i + 1 in _ends(parts)}

    def after_loss(self) -> None:
        self.learn.loss_grad *= self.shares[self.iter]

    def before_step(self) -> None:
        if self.iter not in self.ends:
            raise CancelBatchException()


def _ends(parts: list[Any]) -> set[int]:
    return {sum(map(len, parts[: i + 1])) for i in range(len(parts))}


def documented(case: Case) -> dict[str, Any]:
    """With K times the largest micro-batch's items, as one who thinks in K micro-batches would set it."""
    items = case["accumulation_steps"] * max(len(y) for y in case["labels"])
    return fit(case, GradientAccumulation(n_acc=items))


def mended(case: Case) -> dict[str, Any]:
    return fit(case, WindowShares(windows(batches(case), case["accumulation_steps"])))


def fit(case: Case, callback: Callback) -> dict[str, Any]:
    noted = Noted(case)
    loaders = DataLoaders(Ready(batches(case)), Ready([]))
    learner = Learner(
        loaders, noted.model, loss_func=F.cross_entropy, cbs=[callback], train_bn=False,
        opt_func=lambda groups, **_: OptimWrapper(opt=noted.optimizer),
    )  # fmt: skip
    learner.remove_cb(learner.recorder)  # its running loss is float32, and may not be mixed with float64
    with learner.no_bar(), learner.no_logging():
        learner.fit(case["epochs"], lr=case["rate"])
    return noted.found


class Ready:
    """A loader of ready batches; fastai asks it for no more."""

    device = torch.device("cpu")

    def __init__(self, items: list[Any]) -> None:
        self.items, self.dataset, self.n = items, items, len(items)

    def __iter__(self) -> Any:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def to(self, device: Any) -> "Ready":
        return self


serve(documented, mended)
