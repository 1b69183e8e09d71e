"""The loop that most guides print, and cases to try it on, for notebook 06."""

from functools import cache
from typing import Any

from torch import nn

from accum_lib.lenses.equivalence import Case, check_case
from accum_lib.records.equivalence import Report
from accum_lib.roberta.problem import RobertaTask


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
    problem = RobertaTask(task, num_samples=14, max_tokens=16, dropout=dropout)
    return Case.of_problem(problem, micro_batch_size=2, accumulation_steps=3)


@cache
def usual_report(task: str) -> Report:
    """What the checker says of the usual loop on a task; worked out once."""
    return check_case(usual, case_of(task))
