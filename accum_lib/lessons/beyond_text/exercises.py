"""Exercises of notebook 07. Each check runs the reader's answer beside PyTorch's own layer or loss."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.lessons.kit.feedback import Feedback, is_blank, not_yet, right, runs
from accum_lib.words import N_, _

BLANK_ANSWER = N_("the function returns nothing yet: put your answer in place of the blank.")


@runs
def check_momentum(momentum: Callable[[float, int], float]) -> Feedback:
    """Exercise 1: ``momentum(big, steps)`` whose K moves forget as much as one move with ``big``."""
    given = momentum(0.1, 4)
    if is_blank(given):
        return not_yet(_(BLANK_ANSWER))
    for big, steps in ((0.1, 1), (0.1, 4), (0.5, 3)):
        left, wanted = _left(momentum(big, steps), steps), _left(big, 1)
        if not abs(left - wanted) <= 1e-9:  # true of a NaN, too
            return not_yet(
                _(
                    "after K = {steps} micro-batches with your {momentum:.4g}, a BatchNorm keeps "
                    "{left:.4f} of its old mean; one big batch with {big} keeps {wanted:.4f}. {hint}",
                    steps=steps,
                    momentum=momentum(big, steps),
                    left=left,
                    big=big,
                    wanted=wanted,
                    hint=_momentum_hint(momentum(big, steps), big, steps),
                )
            )
    return right(_("K micro-batches now forget as much of the old statistics as one big batch."))


def _momentum_hint(given: float, big: float, steps: int) -> str:
    near = [
        (big, _("K moves with the same momentum forget more than one does.")),
        (big / steps, _("Close, since (1 - m)^K is about 1 - K m; but only about.")),
        (big ** (1 / steps), _("What is multiplied K times is not the momentum but what is left.")),
        ((1 - big) ** (1 / steps), _("That is what each move should leave; the momentum is the rest.")),
    ]
    fallback = _("K moves multiply what is left K times: which momentum m has (1 - m)^K of it left?")
    return next((hint for value, hint in near if abs(given - value) < 1e-12), fallback)


@runs
def check_torch_mean(weights: Callable[[list[int]], Sequence[float]]) -> Feedback:
    """Exercise 2: ``weights(lengths)``, what ctc_loss(reduction="mean") multiplies each loss with."""
    lengths = [1, 2, 4, 3]
    given = weights(lengths)
    if is_blank(given):
        return not_yet(_(BLANK_ANSWER))
    if len(given) != len(lengths):
        return not_yet(
            _(
                "one weight for each of the {number} utterances; you give {given}.",
                number=len(lengths),
                given=len(given),
            )
        )
    wanted, found = _torch_weights(lengths), torch.tensor([float(w) for w in given])
    if torch.allclose(found, wanted, rtol=1e-4):
        return right(_("A short utterance's loss gets a large weight, and so does each of its symbols."))
    near = [
        (torch.full((4,), 1 / sum(lengths)), _("that is the mean over all symbols: what one would want")),
        (
            torch.full((4,), 1 / 4),
            _("that is the mean over utterances; each is divided by its own length, too"),
        ),
        (1 / torch.tensor(lengths), _("right up to a factor: these are summed, and torch takes the mean")),
    ]
    for value, hint in near:
        if torch.allclose(found, value, rtol=1e-4):
            return not_yet(_("{hint}.", hint=hint))
    return not_yet(
        _(
            "for lengths {lengths} you say {found}, and torch's loss has {wanted}. Divide by what, and then "
            "average over what?",
            lengths=lengths,
            found=[round(float(w), 3) for w in found],
            wanted=[round(float(w), 3) for w in wanted],
        )
    )


@runs
def check_alignable(alignable: Callable[[int, list[int]], bool]) -> Feedback:
    """Exercise 3: ``alignable(frames, target)``, whether CTC can spell ``target`` in that many frames."""
    if is_blank(alignable(4, [1, 2])):
        return not_yet(_(BLANK_ANSWER))
    for target in ([1], [1, 2], [1, 1], [2, 2, 2], [1, 2, 1], [3, 3, 1, 1]):
        for frames in range(1, 8):
            possible = bool(torch.isfinite(_ctc(frames, target)))
            if bool(alignable(frames, target)) != possible:
                hint = _alignment_hint(frames, target, possible)
                fact = _("can be spelled") if possible else _("cannot be spelled (its loss is infinite)")
                return not_yet(
                    _(
                        "{target} {fact} in {frames} frames, and you say otherwise: {hint}",
                        target=target,
                        fact=fact,
                        frames=frames,
                        hint=hint,
                    )
                )
    return right(_("Tried on six targets and one to seven frames, each beside the real loss."))


def _alignment_hint(frames: int, target: list[int], possible: bool) -> str:
    repeats = any(a == b for a, b in pairwise(target))
    if not possible:
        return _("what must stand between two equal symbols?") if repeats else _("each symbol needs a frame.")
    if frames > len(target) + sum(a == b for a, b in pairwise(target)):
        return _("a symbol may last for several frames, so frames to spare do no harm.")
    if not repeats and len(set(target)) < len(target):
        return _("equal symbols need a blank between them only if they are neighbours.")
    return _("no blank is needed but between two equal neighbours.")


def _left(momentum: float, steps: int) -> float:
    """What is left of an old running mean of 1 after ``steps`` batches of zeros went through BatchNorm."""
    layer = nn.BatchNorm1d(1, momentum=momentum, dtype=torch.float64)
    layer.running_mean = torch.ones(1, dtype=torch.float64)
    for _step in range(steps):
        layer(torch.zeros(4, 1, dtype=torch.float64))
    return float(layer.running_mean)


def _torch_weights(lengths: list[int]) -> Tensor:
    """Each utterance's factor in torch's mean, read off the gradients of one real batch of eight frames."""
    raw = torch.zeros(8, len(lengths), 6, requires_grad=True)
    targets = torch.cat([torch.arange(1, n + 1) for n in lengths])
    pull = {}
    for reduction in ("sum", "mean"):
        loss = F.ctc_loss(
            raw.log_softmax(-1),
            targets,
            torch.full((len(lengths),), 8),
            torch.tensor(lengths),
            reduction=reduction,
        )
        pull[reduction] = torch.autograd.grad(loss, raw)[0].norm(dim=(0, 2))  # one for each utterance
    return pull["mean"] / pull["sum"]


def _ctc(frames: int, target: list[int]) -> Tensor:
    scores = torch.zeros(frames, 1, 6).log_softmax(-1)
    lengths = torch.tensor([frames]), torch.tensor([len(target)])
    return F.ctc_loss(scores, torch.tensor([target]), *lengths, reduction="sum")
