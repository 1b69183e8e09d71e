"""Transformers of several releases: ``Trainer`` on a torch model that gives its own mean loss.

With a third argument, "kwargs", the model's ``forward`` takes more, as most heads of Transformers do.
"""

import sys
from typing import Any

import torch
from adapter import Case, serve
from torch import nn
from torch.nn import functional as F
from torch_model import Noted, batches
from trainers import fit
from transformers import Trainer, TrainingArguments
from transformers import __version__ as version


class Plain(nn.Module):
    """Takes ``labels`` and returns the loss, as the Trainer's guide asks of a model that is not its own."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, inputs: Any, labels: Any = None) -> dict[str, Any]:
        logits = self.linear(inputs)
        return {"logits": logits, **({} if labels is None else {"loss": F.cross_entropy(logits, labels)})}


class Counted(Plain):
    """The Trainer counts a window's labels for a model that takes more; 4.46 asks for this very name."""

    def forward(self, inputs: Any, labels: Any = None, **loss_kwargs: Any) -> dict[str, Any]:
        return super().forward(inputs, labels)


def documented(case: Case) -> dict[str, Any]:
    """A data set of rows, and micro-batches of them."""
    noted = Noted(case)
    rows = [dict(inputs=x, labels=y) for batch in batches(case) for x, y in zip(*batch, strict=True)]
    return fit(
        case, Trainer, TrainingArguments, noted, [len(y) for y in case["labels"]],
        model=(Counted if sys.argv[3] == "kwargs" else Plain)(noted.model), train_dataset=rows,
    )  # fmt: skip


def mended(case: Case) -> dict[str, Any]:
    """Of ready micro-batches: Transformers 4.46 takes the number of examples for that of micro-batches.

    And it lets windows run on into the next epoch: batches without a label fill up the last one.
    """
    noted = Noted(case)
    ready, steps = [dict(inputs=x, labels=y) for x, y in batches(case)], case["accumulation_steps"]
    fillers = -len(ready) % steps if version.startswith("4.46") else 0
    parts = [1] * len(ready) + [0] * fillers
    ready += [{**ready[-1], "labels": torch.full_like(ready[-1]["labels"], -100)}] * fillers
    return fit(
        case, Trainer, TrainingArguments, noted, [1] * len(ready), parts, model=Counted(noted.model),
        train_dataset=ready, data_collator=lambda items: items[0], compute_loss_func=summed,
    )  # fmt: skip


def summed(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """A loss sum over what the Trainer counted in the window."""
    return F.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


serve(documented, mended)
