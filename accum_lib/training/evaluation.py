"""Measure on held-out data without leaving a trace: neither in random states nor in training mode."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.losses import IGNORE_INDEX, evaluating
from accum_lib.packing import packed
from accum_lib.training.data.tasks import HELD_OUT, Classification, Task
from accum_lib.training.records import Evaluation
from accum_lib.training.saving import random_state

Predict = Callable[[nn.Module, dict[str, Tensor]], tuple[Tensor, Tensor]]


def evaluate(
    model: nn.Module, task: Task, batch_size: int, update: int = 0, predict: Predict | None = None,
    max_tokens: float = math.inf,
) -> Evaluation:  # fmt: skip
    """Mean loss in nats and share of right answers over all examples of the task.

    Args:
        model: as it was before, when this returns.
        task: the held-out examples.
        batch_size: how many at a time; it changes rounding only.
        update: noted in the result.
        predict: ``task.predict``, or that under autocast.
        max_tokens: at most this many at a time, padding included, unless one example has more.

    Raises:
        ValueError: no label of all examples counts, so there is no mean.
    """
    loss, right, count = 0.0, 0, 0
    tally = None  # (classes, 3), as ``Evaluation.classes``
    with random_state.preserved(), evaluating(model), torch.no_grad():
        for indices in packed(task.lengths, max_tokens, most=batch_size):
            logits, labels = (predict or task.predict)(model, task.batch(indices, HELD_OUT))
            # Autocast ends with the forward pass, and a sum in 16 bits would depend on the batch size.
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss += float(F.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORE_INDEX))
            counts = labels != IGNORE_INDEX
            given = logits.argmax(dim=1)
            right += int((given == labels)[counts].sum())
            if isinstance(task, Classification):
                parts = (labels[counts], given[counts], labels[counts & (given == labels)])
                here = torch.stack([torch.bincount(p, minlength=logits.shape[1]) for p in parts], dim=1)
                tally = here if tally is None else tally + here
            count += int(counts.sum())
    if count == 0:
        raise ValueError(
            f"none of the {len(task)} held-out examples has a label that counts: hold out more, or others"
        )
    classes = () if tally is None else tuple(map(tuple, tally.tolist()))
    return Evaluation(update, loss / count, right / count, count, classes)
