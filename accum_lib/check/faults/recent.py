"""Faults of losses that are made of parts, each with a model and a case of its own in which it shows.

Wrong and right loops side by side, as in ``loops``; what they need is too different for one scene.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from accum_lib.check.case import CLASSES, COUNTS, FEATURES, Case, token_batch, token_model
from accum_lib.check.faults.loops import Batches, loss_sum, totals
from accum_lib.losses import count_tokens
from accum_lib.words import _

# --- A micro-batch whose loss is NaN is skipped


def finite(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The tokens whose inputs are numbers."""
    inputs, labels = batch
    good = inputs.isfinite().all(dim=1)
    return inputs[good], labels[good]


def finite_loss_sum(model: nn.Module, batch: Any) -> Tensor:
    """Summed cross-entropy over these."""
    inputs, labels = finite(batch)
    return loss_sum(model(inputs), labels)


def damaged_case() -> Case:
    """Two of eight micro-batches hold NaN, and count nothing."""
    batches = [token_batch(n, ignored=2, seed=i) for i, n in enumerate(COUNTS)]
    batches[1][0].fill_(torch.nan)
    batches[5][0].fill_(torch.nan)
    return Case(
        _("ragged labels, two damaged micro-batches"), token_model, batches, 3, finite_loss_sum,
        lambda batch: count_tokens(finite(batch)),
    )  # fmt: skip


def skipped_in_divisor(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        if loss.isfinite():
            loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def skipped_everywhere(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> None:
    total = totals([finite(batch) for batch in batches], accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        if loss.isfinite():
            loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


# --- A policy's gradient, over sequences of different lengths


def policy_batch(lengths: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    """Sequences: what was seen (rows, length, 6), what was done, and how much better it was than usual."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    labels = torch.randint(CLASSES, (len(lengths), longest), generator=generator)
    labels[torch.arange(longest) >= torch.tensor(lengths).unsqueeze(1)] = -100
    return {
        "inputs": torch.randn(len(lengths), longest, FEATURES, generator=generator),
        "labels": labels,
        "advantages": torch.randn(len(lengths), generator=generator),
    }


def policy_terms(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """For each token (rows, length), minus its logarithmic probability times the advantage; 0 for padding."""
    losses = F.cross_entropy(model(batch["inputs"]).transpose(1, 2), batch["labels"], reduction="none")
    return losses * batch["advantages"].unsqueeze(1)


def policy_loss_sum(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The sum over all tokens."""
    return policy_terms(model, batch).sum()


def policy_case() -> Case:
    """Five micro-batches of two or three sequences, K = 2, a mean over tokens."""
    lengths = [(5, 2), (1, 7, 3), (4, 6), (2, 8, 5), (3, 1)]
    batches = [policy_batch(each, seed) for seed, each in enumerate(lengths)]
    return Case(_("a policy's sequences"), token_model, batches, 2, policy_loss_sum, count_tokens)


def sequence_denominator(
    model: nn.Module, optimizer: Optimizer, batches: Any, accumulation_steps: int
) -> None:
    for start in range(0, len(batches), accumulation_steps):
        window = batches[start : start + accumulation_steps]
        total = sum(len(batch["labels"]) for batch in window)
        for batch in window:
            lengths = (batch["labels"] != -100).sum(dim=1)
            (policy_terms(model, batch).sum(dim=1) / lengths).sum().div(total).backward()
        optimizer.step()
        optimizer.zero_grad()


def token_denominator(model: nn.Module, optimizer: Optimizer, batches: Any, accumulation_steps: int) -> None:
    for start in range(0, len(batches), accumulation_steps):
        window = batches[start : start + accumulation_steps]
        total = sum(int((batch["labels"] != -100).sum()) for batch in window)
        for batch in window:
            policy_terms(model, batch).sum().div(total).backward()
        optimizer.step()
        optimizer.zero_grad()


# --- A mixture of experts, and the auxiliary loss of its router

AUXILIARY = 0.1  # its coefficient


class Mixture(nn.Module):
    """Three experts and a router that mixes them: tokens (tokens, 6) to (tokens, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(FEATURES, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.Tanh()) for _ in range(3))

    def forward(self, inputs: Tensor) -> Tensor:
        shares = self.router(inputs).softmax(dim=-1)
        outputs = torch.stack([expert(inputs) for expert in self.experts], dim=-1)
        return (outputs * shares.unsqueeze(-2)).sum(dim=-1)

    def router_losses(self, inputs: Tensor) -> Tensor:
        """Each token's router z-loss (Zoph et al. 2022, arXiv 2202.08906), which keeps logits small."""
        return AUXILIARY * self.router(inputs).logsumexp(dim=-1).square()


def mixture() -> nn.Module:
    """The same one each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Mixture()


def router_loss_sum(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The auxiliary loss, summed over the tokens that count."""
    inputs, labels = batch
    return model.router_losses(inputs)[labels != -100].sum()


def mixture_loss_sum(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy and auxiliary loss, summed over these."""
    return loss_sum(model(batch[0]), batch[1]) + router_loss_sum(model, batch)


def mixture_case() -> Case:
    """Ragged labels, and a loss with an auxiliary part."""
    batches = [token_batch(n, ignored=2, seed=i) for i, n in enumerate(COUNTS)]
    return Case(
        _("ragged labels, mixture of experts"), mixture, batches, 3, mixture_loss_sum, count_tokens,
        auxiliary=router_loss_sum,
    )  # fmt: skip


def auxiliary_per_micro_batch(
    model: Any, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss = loss + model.router_losses(inputs)[labels != -100].mean()
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def auxiliary_divided(model: Any, optimizer: Optimizer, batches: Batches, accumulation_steps: int) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss = loss + model.router_losses(inputs)[labels != -100].sum() / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
