"""Ready-made loss sums and counts for ``accumulate``: samples, tokens, and losses that come as means.

A loss sum and its count belong together: the count is the number of terms in the sum. Both take the
micro-batch, the loss sum also takes the model.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib._device_reads import NARROW
from accum_lib.accumulate import Count, LossSum
from accum_lib.ranks import ALONE, Ranks
from accum_lib.vectors import IGNORE_INDEX, join_batches

Forward = TypeVar("Forward", bound=Callable[..., Any])
MeanLoss = Callable[[nn.Module, Any], Tensor]  # of the model and a micro-batch, a scalar


def classification_loss_sum(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Summed cross-entropy, in nats, in float32 or wider: in 16 bits, a sum overflows or loses its digits.

    Args:
        model: ``model(inputs)`` gives logits, (micro_batch, classes).
        batch: ``(inputs, labels)``; labels are class indices, (micro_batch,).
    """
    inputs, labels = batch
    return F.cross_entropy(_wide(model(inputs)), labels, reduction="sum")


def count_samples(batch: Any) -> int:
    """Samples in a micro-batch: the length of its labels.

    Args:
        batch: ``(inputs, labels)``, a mapping with ``"labels"``, as Transformers' collators give, or an
            object with ``labels``.

    Raises:
        ValueError: a class is -100, which the loss ignores: ``count_tokens`` counts the others. This is
            looked at on the CPU alone, since a GPU would be waited for.
    """
    labels = _labels(batch)
    # As a list, since reducing a short tensor takes longer than the rest of the count.
    one_each = isinstance(labels, Tensor) and labels.is_cpu and labels.ndim == 1
    if one_each and IGNORE_INDEX in labels.tolist() and labels.dtype == torch.long:
        raise ValueError(
            f"some of the {len(labels)} labels are {IGNORE_INDEX}, which the loss ignores, so it has fewer "
            "terms than samples: use count_tokens"
        )
    return len(labels)


def count_tokens(batch: Any, ignore_index: int = IGNORE_INDEX) -> int:
    """Label tokens that are not ignored, for a masked language model or token classification.

    A **causal** model shifts its labels by one, so its first label predicts nothing: use
    ``count_next_tokens``.

    Args:
        batch: as for ``count_samples``; labels of any shape.
        ignore_index: the label that does not count.
    """
    return int((_labels(batch) != ignore_index).sum())


def count_next_tokens(batch: Any, ignore_index: int = IGNORE_INDEX) -> int:
    """Label tokens that a causal language model predicts: ``labels[:, 1:]`` that are not ignored.

    Counting the unshifted labels is a bug that was shipped: it divides the mean by one token too many per
    sequence.

    Args:
        batch: as for ``count_samples``; labels are (..., tokens), not shifted yet.
        ignore_index: the label that does not count.
    """
    return int((_labels(batch)[..., 1:] != ignore_index).sum())


def sum_of_mean(mean_loss: MeanLoss, count: Count) -> LossSum:
    """Turn a loss that comes as a mean, ``mean_loss(model, batch)``, into the sum ``accumulate`` needs.

    Right only if ``count`` is what that mean was divided by: ``check_count`` tries it. A mean of several
    losses with a denominator each has no such count: use ``joint_loss``. The sum is taken in float32 or
    wider, since in 16 bits it would overflow, or lose its digits. Example, a Transformers model's own loss::

        loss_sum = sum_of_mean(lambda model, batch: model(**batch).loss, count_samples)

    Args:
        mean_loss: of the model and a micro-batch, a scalar tensor.
        count: of a micro-batch, what that mean was divided by.
    """
    return lambda model, batch: _wide(_mean(mean_loss, model, batch)) * count(batch)


def joint_loss(
    window: Sequence[Any],
    loss_sums: Callable[[nn.Module, Any], Sequence[Tensor]],
    counts: Sequence[Count],
    *,
    ranks: Ranks = ALONE,
) -> tuple[LossSum, Count]:
    """Several losses, each with a denominator of its own, as the one sum and count ``accumulate`` takes.

    The window's loss is the sum of each loss's mean over the whole window, as one big batch has it: such as
    masked tokens' mean plus sentence pairs' mean, or the means over start and end positions, of which those
    beyond the text do not count. One call for each window::

        def loss_sums(model, batch):  # one forward pass, a sum for each loss (reduction="sum")
            tokens, order = model(batch["input_ids"])
            return token_sum(tokens, batch["labels"]), order_sum(order, batch["next_sentence_label"])

        for window in windows(loader, accumulation_steps=4):
            loss_sum, count = joint_loss(window, loss_sums, [count_tokens, count_pairs])
            accumulate(model, window, loss_sum, count)

    Args:
        window: the micro-batches of one update, from ``windows``.
        loss_sums: of the model and a micro-batch; a factor between the losses belongs in here.
        counts: what each of these sums adds up, in the same order. A sum that counts 0 is left out.
        ranks: the same as is given to ``accumulate``.

    Returns:
        The loss sum, and a count of 1 for each micro-batch in which anything counts.

    Raises:
        TypeError: ``window`` or ``loss_sums``'s result is no list.
        ValueError: one of the losses counts 0 in the whole window, so it has no mean; a count is negative or
            not finite; there are more or fewer sums than counts; another window is accumulated, which counts
            otherwise.
    """
    if not isinstance(window, Sequence):
        raise TypeError(
            f"the window must be a list, since it is read several times; got {type(window).__name__}"
        )
    table = [[_checked(count(batch), i) for count in counts] for i, batch in enumerate(window)]
    mine = [math.fsum(row[number] for row in table) for number in range(len(counts))]
    totals = [ranks.add(number) for number in mine]
    for number, total in enumerate(totals):
        if not total > 0:
            raise ValueError(
                f"loss {number} counts {total:g} in the window's {len(window)} micro-batches, so it has no "
                "mean: leave this window out, or raise accumulation_steps"
            )

    runs = ranks.add(float(sum(any(row) for row in table)))
    asked: list[list[float]] = []  # what accumulate's window counts, until its first pass

    def any_counts(batch: Any) -> float:
        try:
            asked.append([count(batch) for count in counts])
        except BaseException:
            asked.clear()  # this window is given up
            raise
        return float(any(number > 0 for number in asked[-1]))

    def loss_sum(model: nn.Module, batch: Any) -> Tensor:
        counted = [math.fsum(numbers) for numbers in zip(*asked, strict=True)]
        asked.clear()
        if counted and counted != mine:
            raise ValueError(
                "this is another window than joint_loss was given, whose counts divide its losses: call "
                "joint_loss for each window"
            )
        sums = loss_sums(model, batch)
        if not isinstance(sums, Sequence) or len(sums) != len(counts):
            number = f"{len(sums)}" if isinstance(sums, Sequence) else f"a {type(sums).__name__}"
            raise ValueError(f"loss_sums must return {len(counts)} sums, one for each count; got {number}")
        terms = zip(sums, counts, totals, strict=True)
        shares = [_wide(one) * (runs / total) for one, count, total in terms if count(batch) > 0]
        return torch.stack(shares).sum()

    return loss_sum, any_counts


def check_count(
    model: nn.Module,
    mean_loss: MeanLoss,
    count: Count,
    batches: Sequence[Any],
    join: Callable[[Sequence[Any]], Any] = join_batches,
) -> None:
    """Try whether ``count`` is what a model's own mean loss is divided by; a few forward passes.

    The mean over two micro-batches together, times their count, must be the sum of both means, each times its
    count. The model is in evaluation mode meanwhile.

    Args:
        model, mean_loss, count: as ``sum_of_mean`` takes them.
        batches: two micro-batches or more that differ in what counts (labels that are ignored, lengths):
            where all count alike, a wrong count shows nothing.
        join: one batch of several; the default pads labels with -100, all else with 0.

    Raises:
        ValueError: it is not, with the numbers; or there are fewer than two micro-batches in which anything
            counts, or all have one and the same mean.
    """
    counted = [batch for batch in batches if count(batch) > 0]
    counts = [float(count(batch)) for batch in counted]
    means = _means(model, mean_loss, counted)
    if len({float(mean) for mean in means}) < 2:
        raise ValueError(
            f"the {len(batches)} micro-batches show nothing of the count: give two or more that differ, and "
            "in which something counts"
        )
    together = [join(pair) for pair in pairwise(counted)]
    for i, (batch, mean) in enumerate(zip(together, _means(model, mean_loss, together), strict=True)):
        total, allowed = float(count(batch)), max(1e-4, 4 * torch.finfo(mean.dtype).eps)
        expected = float(means[i]) * counts[i] + float(means[i + 1]) * counts[i + 1]
        if not abs(float(mean) * total - expected) <= allowed * abs(expected):
            raise ValueError(
                f"the count is not what the mean loss is divided by: micro-batches {i} and {i + 1} count "
                f"{counts[i]:g} and {counts[i + 1]:g}, with means of {means[i]:.5g} and {means[i + 1]:.5g}, "
                f"so their sum is {expected:.5g}, but one batch of both has {total:g} times {mean:.5g}. "
                "Count what the model's own loss does not ignore, or give it reduction='sum'; several losses "
                "with a denominator each take joint_loss"
            )


def _means(model: nn.Module, mean_loss: MeanLoss, batches: Sequence[Any]) -> list[Tensor]:
    """Each batch's mean loss, without dropout and the like."""
    with evaluating(model), torch.no_grad():
        return [_mean(mean_loss, model, batch) for batch in batches]


def _mean(mean_loss: MeanLoss, model: nn.Module, batch: Any) -> Tensor:
    """A model's own loss; an error if it is something else."""
    mean = mean_loss(model, batch)
    if not isinstance(mean, Tensor):
        raise TypeError(
            f"mean_loss must return a tensor; got {type(mean).__name__}. Of a model's output, take .loss"
        )
    if mean.ndim:
        raise ValueError(
            f"mean_loss must return a scalar; got shape {tuple(mean.shape)}: use reduction='mean'"
        )
    return mean


def _checked(count: float, index: int) -> float:
    if not 0 <= float(count) < math.inf:
        raise ValueError(f"a count of micro-batch {index} must be 0 or more and finite; got {float(count)}")
    return float(count)


def _wide(loss: Tensor) -> Tensor:
    """In float32 at least; the gradient is rounded once, as it goes back through this."""
    return loss.float() if loss.dtype in NARROW else loss


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode of the ``model`` inside; afterwards each module has the mode that it had."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


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
    if isinstance(batch, (tuple, list)) and not hasattr(batch, "labels"):  # it is not a named tuple
        if len(batch) != 2:
            raise ValueError(
                f"a batch of {len(batch)} parts: which of them are the labels? Give a count of your own, or "
                "batches that are (inputs, labels) or have a key 'labels'"
            )
        return batch[1]
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            raise KeyError(f"the batch has no 'labels'; its keys are {sorted(batch)}")
        return batch["labels"]
    if not hasattr(batch, "labels"):  # a dataclass may have them
        raise TypeError(
            f"a batch of type {type(batch).__name__} has no labels that are known: give a count of your own"
        )
    return batch.labels
