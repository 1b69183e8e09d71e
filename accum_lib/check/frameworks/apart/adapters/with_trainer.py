"""Transformers of several releases: ``Trainer`` on a torch model that gives its own mean loss."""

import itertools
import logging
import tempfile
from typing import Any

import torch
from adapter import Case, serve
from torch import nn
from torch.nn import functional as F
from torch_model import Noted, batches
from transformers import Trainer, TrainingArguments
from transformers import __version__ as version
from transformers.utils.logging import set_verbosity

set_verbosity(logging.ERROR)


class Documented(nn.Module):
    """Takes ``labels`` and returns the loss, as the Trainer's guide asks of a model that is not its own."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, inputs: Any, labels: Any = None) -> dict[str, Any]:
        logits = self.linear(inputs)
        return {"logits": logits, **({} if labels is None else {"loss": F.cross_entropy(logits, labels)})}


class Counted(Documented):
    """Transformers 4.46 counts a window's labels for a model with this argument alone, by its name."""

    def forward(self, inputs: Any, labels: Any = None, **loss_kwargs: Any) -> dict[str, Any]:
        return super().forward(inputs, labels)


def summed(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """A loss sum over what the Trainer counted in the window."""
    return F.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


def documented(case: Case) -> dict[str, Any]:
    """A data set of rows, and micro-batches of them."""
    rows = [dict(inputs=x, labels=y) for batch in batches(case) for x, y in zip(*batch, strict=True)]
    ends = [sum(map(len, case["labels"][:i])) for i in range(len(case["labels"]) + 1)]
    numbers = [list(range(a, b)) for a, b in itertools.pairwise(ends)]
    return fit(case, Documented, torch.utils.data.DataLoader(rows, batch_sampler=numbers))


def mended(case: Case) -> dict[str, Any]:
    """4.46 lets windows run on into the next epoch: batches without a label fill up the last one."""
    ready, steps = [dict(inputs=x, labels=y) for x, y in batches(case)], case["accumulation_steps"]
    if version.startswith("4.46"):
        ready += [{**ready[-1], "labels": torch.full_like(ready[-1]["labels"], -100)}] * (-len(ready) % steps)
    loader = torch.utils.data.DataLoader(ready, batch_size=None)
    found = fit(case, Counted, loader, compute_loss_func=summed)
    return {"updates": [(_without_fillers(case, len(ready), at), now) for at, now in found["updates"]]}


def _without_fillers(case: Case, filled: int, position: int) -> int:
    epoch, inside = divmod(position, filled)
    return epoch * len(case["labels"]) + min(inside, len(case["labels"]))


def fit(case: Case, kind: type[Documented], loader: Any, **more: Any) -> dict[str, Any]:
    noted = Noted(case)

    class InOrder(Trainer):
        def get_train_dataloader(self) -> Any:
            return loader

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, gradient_accumulation_steps=case["accumulation_steps"], num_train_epochs=case["epochs"],
            max_grad_norm=0.0, use_cpu=True, save_strategy="no", logging_strategy="no", report_to=[],
            disable_tqdm=True,
        )  # fmt: skip
        schedule = torch.optim.lr_scheduler.ConstantLR(noted.optimizer, factor=1.0)
        trainer = InOrder(
            kind(noted.model), arguments, train_dataset=loader.dataset,
            optimizers=(noted.optimizer, schedule), **more,
        )  # fmt: skip
        trainer.train()
    return noted.found


serve(documented, mended)
