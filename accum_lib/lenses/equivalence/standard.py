"""The standard cases: small enough to run in a moment, uneven enough that no known fault can hide.

Even micro-batches hide a mean of means; an epoch that K divides hides what becomes of the trailing window. So
here micro-batches count 5, 1, 7, 2, 4, 3, 6 and so on tokens, some are ignored, and K divides nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.lenses.equivalence.case import Case
from accum_lib.losses import IGNORE_INDEX, count_tokens
from accum_lib.words import _

FEATURES, CLASSES = 6, 4
COUNTS = (5, 1, 7, 2, 4, 3, 6, 8)  # tokens that count, for each micro-batch; K = 3 leaves a window of two


def token_model() -> nn.Module:
    """A small network that labels tokens: (tokens, 6) to (tokens, 4), 204 parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES), nn.LayerNorm(CLASSES)
        )


def token_batch(counted: int, ignored: int, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens (tokens, 6) with their labels (tokens,); the ignored ones come last."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(counted + ignored, FEATURES, generator=generator)
    labels = torch.randint(CLASSES, (counted + ignored,), generator=generator)
    labels[counted:] = IGNORE_INDEX
    return inputs, labels


def token_loss_sum(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Summed cross-entropy over the tokens that are not ignored."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, reduction="sum", ignore_index=IGNORE_INDEX)


def token_case(counts: tuple[int, ...], accumulation_steps: int, name: str, **more: object) -> Case:
    """A case in which the micro-batches count so many tokens, and each has two more that are ignored."""
    return Case(
        name=name,
        make_model=token_model,
        batches=[token_batch(n, ignored=2, seed=i) for i, n in enumerate(counts)],
        accumulation_steps=accumulation_steps,
        loss_sum=token_loss_sum,
        count=count_tokens,
        **more,  # type: ignore[arg-type]
    )


def standard_cases() -> list[Case]:
    """Ragged and even tokens with a trailing window, a short epoch, a micro-batch that counts nothing."""
    return [
        token_case(COUNTS, 3, _("ragged tokens, trailing window")),
        token_case((4, 4, 4, 4, 4), 2, _("even tokens, trailing window")),
        token_case((5, 2), 3, _("an epoch shorter than K")),
        token_case((3, 0, 6, 2), 2, _("a micro-batch in which nothing counts")),
    ]
