"""Another loss than the standard cases' mean cross-entropy: found in the loop's own first micro-batches.

What a backward pass adds to the buffer is the gradient of the loop's loss on one micro-batch, up to a factor.
So a loss that is a candidate must have that gradient's direction, whatever it is divided by.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import LossSum
from accum_lib.check.case import CLASSES, COUNTS, FEATURES, Case
from accum_lib.check.recorder import Recorder, Vectors
from accum_lib.check.reference import Reference, aligned
from accum_lib.losses import count_next_tokens, count_tokens
from accum_lib.vectors import IGNORE_INDEX
from accum_lib.words import _

DIRECTION = 1e-5  # what a gradient may be off its candidate's: a loop may round logits to float32
ANOTHER = 1e-3  # what is further off is another loss


@dataclass(frozen=True)
class OwnLoss:
    """A loss in words, and what makes a standard case one with this loss."""

    words: str
    on: Callable[[Case], Case]


def first_passes(recorder: Recorder, reference: Reference) -> Iterator[tuple[int, Vectors]]:
    """Each micro-batch's number with what its backward pass added; its weights are loaded then."""
    earlier = 0
    for update in recorder.updates:
        reference.load(update)
        for number in range(earlier, min(update.passes, len(reference.counts))):
            one = recorder.passes[number]
            yield number, {n: g - one.before[n] if n in one.before else g for n, g in one.after.items()}
        earlier = update.passes


def is_another(recorder: Recorder, reference: Reference) -> bool:
    """Whether the loop's first micro-batch that counts has another direction than each one of the case's."""
    for number, added in first_passes(recorder, reference):
        if reference.counts[number] > 0 and any(bool(g.any()) for g in added.values()):
            every = [reference.of_micro_batch(i) for i in range(len(reference.counts))]
            return _apart(added, every) > ANOTHER
    return False


def has_this_loss(recorder: Recorder, reference: Reference) -> bool:
    """Whether all first micro-batches have the direction of the case's loss."""
    some, most = False, 0.0
    for number, added in first_passes(recorder, reference):
        some = some or any(bool(g.any()) for g in added.values())
        most = max(most, _apart(added, [reference.of_micro_batch(number)]))
    return some and most < DIRECTION


def of_labels(recorder: Recorder, reference: Reference, case: Case) -> list[OwnLoss]:
    """Cross-entropy with label smoothing or with weights for classes, if the loop's loss is one."""
    smoothing, shares = set[float](), list[dict[int, float]]()
    for number, added in first_passes(recorder, reference):
        labels = case.batches[number][1]
        classes = sorted(set(labels[labels != IGNORE_INDEX].tolist()))
        if not classes:
            continue
        terms = [_only(case, c) for c in classes] + [_smooth]
        parts = [reference.with_loss(term).of_micro_batch(number) for term in terms]
        if _apart(added, parts) > DIRECTION:
            return []
        fitted = _fit(added, parts)[: len(parts)].tolist()
        *each, smooth = fitted
        if len(classes) < 2:  # both terms have a part in one class alone, which is not told apart
            continue
        share = smooth / (sum(each) / len(each) + smooth)
        if abs(share) < 1e-4:
            shares.append(dict(zip(classes, each, strict=True)))
        elif max(each) - min(each) < 1e-3 * max(map(abs, each)):
            smoothing.add(round(share, 4))
        else:
            return []
    if len(smoothing) == 1 and not shares:
        return [_smoothed(smoothing.pop())]
    weights = None if smoothing else _weights(shares)
    return [] if weights is None else _weighted(weights)


def _only(case: Case, label: int) -> LossSum:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        inputs, labels = batch
        return case.loss_sum(model, (inputs, labels.masked_fill(labels != label, IGNORE_INDEX)))

    return loss


def _smooth(model: nn.Module, batch: Any) -> Tensor:
    """The loss of a target that is the same for all classes."""
    inputs, labels = batch
    return -F.log_softmax(model(inputs)[labels != IGNORE_INDEX], dim=-1).mean(dim=-1).sum()


def _smoothed(share: float) -> OwnLoss:
    def loss_sum(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], reduction="sum", label_smoothing=share)

    words = _("cross-entropy with label smoothing of {share:g}", share=share)
    return OwnLoss(words, lambda case: replace(case, loss_sum=loss_sum))


def _weights(shares: list[dict[int, float]]) -> list[float] | None:
    """Each class's weight, the first one's being 1; None if micro-batches do not agree, or miss a class."""
    known = {0: 1.0}
    for _round in range(CLASSES):
        for one in shares:
            scale = next((known[c] / value for c, value in one.items() if c in known and value), None)
            for c, value in one.items() if scale else ():
                known.setdefault(c, value * (scale or 0))
    for one in shares:
        scales = [value / known[c] for c, value in one.items() if known.get(c)]
        if scales and max(scales) - min(scales) > 1e-3 * max(map(abs, scales)):
            return None
    return [round(known[c], 4) for c in range(CLASSES)] if len(known) == CLASSES else None


def _weighted(weights: list[float]) -> list[OwnLoss]:
    """The mean over the weights of the labels, as PyTorch has it, or over their number."""

    def loss_sum(model: nn.Module, batch: Any) -> Tensor:
        logits = model(batch[0])
        given = torch.tensor(weights, dtype=logits.dtype)
        return F.cross_entropy(logits, batch[1], weight=given, reduction="sum", ignore_index=IGNORE_INDEX)

    def count(batch: Any) -> float:
        labels = batch[1]
        return float(torch.tensor(weights, dtype=torch.float64)[labels[labels != IGNORE_INDEX]].sum())

    shown = ", ".join(f"{w:g}" for w in weights)
    by_weight = _("cross-entropy with class weights {weights}, over their sum", weights=shown)
    by_number = _("cross-entropy with class weights {weights}, over the number of labels", weights=shown)
    return [
        OwnLoss(by_weight, lambda case: replace(case, loss_sum=loss_sum, count=count)),
        OwnLoss(by_number, lambda case: replace(case, loss_sum=loss_sum)),
    ]


def _fit(added: Vectors, parts: Sequence[Vectors]) -> Tensor:
    columns = torch.stack([aligned(part, added) for part in parts], dim=1)
    return torch.linalg.lstsq(columns, aligned(added, added).unsqueeze(1), driver="gelsd").solution.squeeze(1)


def _apart(added: Vectors, parts: Sequence[Vectors]) -> float:
    """The part of a gradient that is no sum of multiples of these ones, relative."""
    target = aligned(added, added)
    if not target.isfinite().all():
        return 0.0  # another fault
    columns = torch.stack([aligned(part, added) for part in parts], dim=1)
    length = float(target.norm())
    return float((columns @ _fit(added, parts) - target).norm()) / length if length else 0.0


# --- Other data: targets that are numbers, and models that return their own loss


def other_data() -> list[tuple[str, list[Case]]]:
    """What is tried where the standard cases' integer labels do not fit: a loss in words, and its cases."""
    losses: list[tuple[str, Callable[[Tensor, Tensor], Tensor]]] = [
        (_("mean squared error"), lambda o, y: F.mse_loss(o, y, reduction="sum")),
        (_("binary cross-entropy"), lambda o, y: F.binary_cross_entropy_with_logits(o, y, reduction="sum")),
        (_("mean absolute error"), lambda o, y: F.l1_loss(o, y, reduction="sum")),
        (_("smooth L1 loss"), lambda o, y: F.smooth_l1_loss(o, y, reduction="sum")),
    ]
    shaped = [
        (words, _number_cases(words, loss, shape))
        for shape in ((1,), (), (CLASSES,))
        for words, loss in losses
    ]
    own = _("the model's own .loss")
    following = _("the loss of each next token")
    return [
        *shaped,
        *((own, _own_cases(own, as_pair, False)) for as_pair in (False, True)),
        (following, _own_cases(following, False, True)),
    ]


def _number_cases(words: str, loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> list[Case]:
    """Targets of 0 and 1 as numbers, of this shape for each sample; a mean over all of them."""

    def loss_sum(model: nn.Module, batch: Any) -> Tensor:
        return loss(model(batch[0]).reshape(batch[1].shape), batch[1])

    def batch_of(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(rows, FEATURES, generator=generator)
        return inputs, torch.randint(2, (rows, *shape), generator=generator).double()

    return _three_cases(words, lambda: _network(shape[0] if shape else 1), batch_of, loss_sum, _numel)


def _numel(batch: Any) -> int:
    return int(batch[1].numel())


def _network(outputs: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, outputs))


def _three_cases(
    words: str, make_model: Callable[[], nn.Module], batch_of: Callable[[int, int], Any], loss_sum: LossSum,
    count: Callable[[Any], float],
) -> list[Case]:  # fmt: skip
    """As the standard cases, without the one in which a micro-batch counts nothing."""
    return [
        Case(
            f"{words}, {name}", make_model, [batch_of(n, i) for i, n in enumerate(counts)], k, loss_sum, count
        )
        for name, counts, k in (
            (_("ragged"), COUNTS, 3),
            (_("even, trailing window"), (4,) * 5, 2),
            (_("an epoch shorter than K"), (5, 2), 3),
        )
    ]


class TokenBatch(dict[str, Any]):
    """A dictionary that can be moved, as a tokenizer's batch."""

    def to(self, *where: Any, **more: Any) -> "TokenBatch":
        """The same batch elsewhere."""
        return TokenBatch({key: value.to(*where, **more) for key, value in self.items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Output(SimpleNamespace):
    """What such a model returns: ``.loss`` and ``.logits``, by name or by number."""

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, str):
            return getattr(self, key)
        return [value for value in (self.loss, self.logits) if value is not None][key]


class OwnLossModel(nn.Module):
    """Classes of tokens (rows, length), and the mean cross-entropy of those that are not ignored.

    Args:
        following: whether each token is to be predicted from the one before it.
    """

    def __init__(self, following: bool = False) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Embedding(30, FEATURES), _network(CLASSES))
        self._following = following

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None,
        num_items_in_batch: Any = None, **_: Any,
    ) -> Output:  # fmt: skip
        logits = self.network(input_ids)
        if labels is None:
            return Output(loss=None, logits=logits)
        total = self.loss_sum(logits, labels)
        count = (labels[..., 1:] if self._following else labels).ne(IGNORE_INDEX).sum()
        return Output(
            loss=total / (count if num_items_in_batch is None else num_items_in_batch), logits=logits
        )

    def loss_sum(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The summed loss."""
        if self._following:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        return F.cross_entropy(
            logits.flatten(0, -2), labels.flatten(), reduction="sum", ignore_index=IGNORE_INDEX
        )


def _own_cases(words: str, as_pair: bool, following: bool) -> list[Case]:
    def make_model() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return OwnLossModel(following)

    def batch_of(counted: int, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        length = counted + 1 + seed % 2
        ids = torch.randint(30, (1, length), generator=generator)
        labels = torch.randint(CLASSES, (1, length), generator=generator)
        labels[:, counted + following :] = IGNORE_INDEX
        if as_pair:
            return ids, labels
        return TokenBatch(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)

    def loss_sum(model: Any, batch: Any) -> Tensor:
        ids, labels = (batch["input_ids"], batch["labels"]) if isinstance(batch, Mapping) else batch
        return model.loss_sum(model(ids).logits, labels)

    return _three_cases(
        words, make_model, batch_of, loss_sum, count_next_tokens if following else count_tokens
    )
