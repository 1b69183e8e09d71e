"""A task as a ``Problem``, so that every lens of this project can look at the real thing."""

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.check import Case, check_case
from accum_lib.check.report import Report
from accum_lib.training.data.sources import load_data
from accum_lib.training.data.tasks import TASKS, Batch
from accum_lib.training.models import load_model
from accum_lib.words import _


class TaskProblem:
    """A model of this lab and the first examples of its data, with its own task's loss and count.

    Args:
        task: "classification" (counts samples) or "mlm" (counts hidden tokens).
        model: "tiny", "base", "large", a folder or a name on the hub; see ``load_model``.
        source: where the texts come from; see ``load_data``.
        num_samples: N; None takes all.
        max_tokens: longer texts are cut to this.
        dropout: probability everywhere; 0 makes accumulation exact.
        dtype: of the weights.

    Raises:
        ValueError, OSError: as ``load_data`` and ``load_model`` say, or there are fewer than N examples.
    """

    default_learning_rate = 0.3

    def __init__(
        self, task: str = "mlm", model: str = "tiny", source: str = "docstrings",
        num_samples: int | None = 256, max_tokens: int = 64, dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        data = load_data(source)
        if num_samples is not None and not 1 <= num_samples <= len(data.train):
            raise ValueError(f"num_samples must be between 1 and {len(data.train)}; got {num_samples}")
        self._load = partial(load_model, model, task, data, dropout)
        loaded = self._load()
        self._dtype = dtype
        self.task = TASKS[task](data.train[:num_samples], loaded.tokenizer, max_tokens)
        self.num_samples = len(self.task)
        self.name = _("{model}, {task}", model=loaded.name, task=task)

    def make_model(self, seed: int = 0) -> nn.Module:
        """The model in training mode, the same for the same seed."""
        return self._load(seed=seed).model.to(self._dtype)

    def batch(self, indices: Tensor) -> Batch:
        """The micro-batch of these examples, as the task makes it."""
        return self.task.batch(indices.tolist())

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        """The task's own: cross-entropy summed over what counts."""
        return self.task.loss_sum(model, batch)

    def count(self, batch: Batch) -> int:
        """Samples, or hidden tokens."""
        return self.task.count(batch)


def usual(model: nn.Module, optimizer: Any, batches: Any, accumulation_steps: int) -> list[Any]:
    """As most guides have it: the model's own mean loss, divided by K, and an update every K batches."""
    losses = []
    for step, batch in enumerate(batches):
        loss = model(**batch).loss
        (loss / accumulation_steps).backward()
        if (step + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss)
    return losses


def case_of(task: str, dropout: float = 0.0) -> Case:
    """Seven micro-batches of two docstrings for tiny RoBERTa, K = 3: two whole windows and a short one.

    Args:
        task: "classification" or "mlm".
        dropout: probability everywhere.
    """
    problem = TaskProblem(task, num_samples=14, max_tokens=16, dropout=dropout)
    return Case.of_problem(problem, micro_batch_size=2, accumulation_steps=3)


@cache
def usual_report(task: str) -> Report:
    """What the checker says of the usual loop on a task; worked out once."""
    return check_case(usual, case_of(task))
