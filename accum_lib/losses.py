"""Ready-made loss sums and counts for ``accumulate``: samples, tokens, and losses that come as means.

A loss sum and its count belong together: the count is the number of terms in the sum. Both take the
micro-batch, the loss sum also takes the model.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import Count, LossSum

Forward = TypeVar("Forward", bound=Callable)
IGNORE_INDEX = -100  # the label that PyTorch's and Transformers' losses leave out


def classification_loss_sum(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Summed cross-entropy of ``batch = (inputs, labels)``; logits have shape (micro_batch, classes)."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, reduction="sum")


def count_samples(batch: Any) -> int:
    """Samples in a micro-batch: the length of its labels.

    Accepts ``(inputs, labels)`` or a mapping with ``"labels"``, as Transformers' collators give.
    """
    return len(_labels(batch))


def count_tokens(batch: Any, ignore_index: int = IGNORE_INDEX) -> int:
    """Label tokens that are not ignored, for a masked language model or token classification.

    Accepts ``(inputs, labels)`` or a mapping with ``"labels"``; labels of any shape. A **causal**
    model shifts its labels by one, so its first label predicts nothing: use ``count_next_tokens``.
    """
    return int((_labels(batch) != ignore_index).sum())


def count_next_tokens(batch: Any, ignore_index: int = IGNORE_INDEX) -> int:
    """Label tokens that a causal language model predicts: ``labels[:, 1:]`` that are not ignored.

    Counting the unshifted labels is a bug that was shipped: it divides the mean by one token too many per
    sequence.
    """
    return int((_labels(batch)[:, 1:] != ignore_index).sum())


def sum_of_mean(mean_loss: Callable[[nn.Module, Any], Tensor], count: Count) -> LossSum:
    """Turn a loss that comes as a mean, ``mean_loss(model, batch)``, into the sum ``accumulate`` needs.

    Right only if ``count`` is what that mean was divided by. Example, a Transformers model's own loss::

        loss_sum = sum_of_mean(lambda model, batch: model(**batch).loss, count_samples)
    """
    return lambda model, batch: mean_loss(model, batch) * count(batch)


def in_precision(forward: Forward, dtype: torch.dtype | None, device_type: str) -> Forward:
    """A loss sum, or any forward pass, under autocast; None leaves it as it is.

    Autocast belongs around the forward pass alone, not around ``accumulate``: the backward pass follows it.

    Args:
        forward: a function of the model and a batch.
        dtype: of the passes, such as ``torch.bfloat16``.
        device_type: "cuda" or "cpu".
    """
    return forward if dtype is None else torch.autocast(device_type, dtype)(forward)


def _labels(batch: Any) -> Tensor:
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            raise KeyError(f"the batch has no 'labels'; its keys are {sorted(batch)}")
        return batch["labels"]
    return batch[1]
