"""Models and losses that see the whole batch, so that no loop can accumulate them; and what helps.

Faults in a loop can be mended in the loop. These are limits of the method: BatchNorm normalises by the
statistics of the batch it is given, dropout draws new masks for each one, and a contrastive loss compares
each example with all others of its batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.check import Case, core_loop
from accum_lib.check.loop import Loop
from accum_lib.losses import classification_loss_sum, count_samples
from accum_lib.problems.digits import Digits, FrozenBatchNorm, cnn
from accum_lib.problems.roberta import Roberta
from accum_lib.words import _

TEMPERATURE = 0.5


def digits_cnn(norm: Callable[[int], nn.Module], seed: int = 0) -> nn.Module:
    """The digits' CNN with another normalisation: ``norm(channels)`` makes it. Same convolutions for each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cnn(channels=8)
    for name, module in list(model.named_children()):
        if isinstance(module, nn.BatchNorm2d):
            setattr(model, name, norm(module.num_features))
    return model


def norm_case(name: str, norm: Callable[[int], nn.Module]) -> Case:
    """56 digits, seven micro-batches of 8, K = 3: classify them with this normalisation."""
    return _digits_case(name, lambda: digits_cnn(norm))


def dropout_case(probability: float) -> Case:
    """The same digits, with an MLP that drops units with this probability."""

    def make() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            dropout = nn.Dropout(probability)
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), dropout, nn.Linear(32, 10))

    return _digits_case(f"dropout {probability:g}", make)


def _digits_case(name: str, make_model: Callable[[], nn.Module]) -> Case:
    problem = Digits(num_samples=56)
    batches = [problem.batch(rows) for rows in torch.arange(56).split(8)]
    return Case(name, make_model, batches, 3, problem.loss_sum, problem.count)


def every_model() -> list[tuple[str, Loop, Case]]:
    """Models and losses of all kinds, each with the right loop for it, as (name, loop, case)."""
    core = core_loop(classification_loss_sum, count_samples)
    roberta = Roberta(size="tiny", num_samples=40)
    return [
        (_("digits, MLP"), core, dropout_case(0.0)),
        (
            _("words, RoBERTa (tiny)"),
            core_loop(roberta.loss_sum, roberta.count),
            Case.of_problem(roberta, 8, 3),
        ),
        (_("digits, CNN with GroupNorm"), core, norm_case("GroupNorm", lambda c: nn.GroupNorm(4, c))),
        (_("digits, CNN with BatchNorm"), core, norm_case("BatchNorm", nn.BatchNorm2d)),
        (_("digits, CNN with frozen BatchNorm"), core, norm_case(_("frozen BatchNorm"), FrozenBatchNorm)),
        (_("digits, MLP with dropout"), core, dropout_case(0.2)),
        (_("pairs, contrastive loss"), accumulated_contrastive, contrastive_case()),
        (_("pairs, contrastive loss, gradient cache"), gradient_cache, contrastive_case()),
    ]


# --- A contrastive loss


def encoder() -> nn.Module:
    """Images (rows, 1, 8, 8) to embeddings (rows, 8)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 8))


def contrastive(one: Tensor, other: Tensor) -> Tensor:
    """Summed InfoNCE (van den Oord 2018, arXiv 1807.03748): each row's partner among all rows."""
    similar = F.normalize(one, dim=1) @ F.normalize(other, dim=1).T / TEMPERATURE  # (rows, rows)
    return F.cross_entropy(similar, torch.arange(len(one)), reduction="sum")


def contrastive_loss_sum(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The contrastive loss of a batch of two views."""
    return contrastive(model(batch[0]), model(batch[1]))


def contrastive_case() -> Case:
    """48 digits, each with a noisy second view: six micro-batches of 8, K = 3."""
    images = Digits(num_samples=48).images
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    views = zip(images.split(8), (images + 0.3 * noise).split(8), strict=True)
    return Case(_("contrastive loss"), encoder, list(views), 3, contrastive_loss_sum, count_samples)


def accumulated_contrastive(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int
) -> None:
    """Plain accumulation: right in the loop, and yet each example is compared with those of its M alone."""
    for window in windows(batches, accumulation_steps):
        accumulate(model, window, contrastive_loss_sum, count_samples)
        apply_update(model, optimizer)


def gradient_cache(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int
) -> None:
    """The exact gradient of a big batch's contrastive loss, M at a time (Gao et al. 2021, arXiv 2101.06983).

    First embed everything without a graph, then take the loss's gradient with respect to the embeddings,
    all at once: that is small. Then embed each micro-batch again, and go backward from its share of that
    gradient; those passes are ordinary accumulation, of a loss that is linear in the embeddings.
    """
    for window in windows(batches, accumulation_steps):
        with torch.no_grad():
            views = [torch.cat([model(batch[v]) for batch in window]).requires_grad_() for v in (0, 1)]
        gradients = torch.autograd.grad(contrastive(*views), views)  # of the sum, for each embedding
        sizes = [count_samples(batch) for batch in window]
        cached = zip(*(g.split(sizes) for g in gradients), strict=True)
        accumulate(model, list(zip(window, cached, strict=True)), _linear_loss_sum, _rows)
        apply_update(model, optimizer)


Part = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]  # a micro-batch's views, and their embeddings' gradients


def _linear_loss_sum(model: nn.Module, part: Part) -> Tensor:
    """A number whose gradient is the cached one: the embeddings times it."""
    return sum(((model(x) * g).sum() for x, g in zip(*part, strict=True)), torch.zeros(()))


def _rows(part: Part) -> int:
    return len(part[0][0])
