"""Cases drawn over (N, M, K), ragged counts and three models, and by reasoning where each fault must show."""

from dataclasses import dataclass
from functools import cache

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.check import Case
from accum_lib.check.case import token_batch, token_model
from accum_lib.losses import count_tokens
from accum_lib.problems.digits import Digits, mlp
from accum_lib.problems.roberta import PAD

MODELS = ("tokens", "digits", "roberta")


@dataclass(frozen=True)
class Setting:
    """What is drawn: how many labels count in each micro-batch, K, and the model."""

    counts: tuple[int, ...]
    accumulation_steps: int
    model: str
    clip: float | None = None

    @property
    def tail(self) -> int:
        """Micro-batches in the trailing window, 0 if it is a full one."""
        return len(self.counts) % self.accumulation_steps

    def windows(self) -> list[tuple[int, ...]]:
        """The counts of each window."""
        k = self.accumulation_steps
        return [self.counts[i : i + k] for i in range(0, len(self.counts), k)]

    def numbers(self) -> list[range]:
        """The micro-batches of each window."""
        k = self.accumulation_steps
        return [range(i, min(i + k, len(self.counts))) for i in range(0, len(self.counts), k)]

    def case(self) -> Case:
        make = {"tokens": (token_model, token_batch), "digits": (digits_model, digits_batch),
                "roberta": (roberta_model, roberta_batch)}  # fmt: skip
        make_model, make_batch = make[self.model]
        return Case(
            name=f"{self.model}, counts {self.counts}, K = {self.accumulation_steps}",
            make_model=make_model,
            batches=[make_batch(n, 1 + i % 2, i) for i, n in enumerate(self.counts)],
            accumulation_steps=self.accumulation_steps,
            loss_sum=loss_sum,
            count=count_tokens,
            join=None if self.model != "roberta" else self._join_text,
            max_grad_norm=self.clip,
        )

    def _join_text(self, numbers) -> tuple[Tensor, Tensor]:
        batches = [roberta_batch(self.counts[i], 1 + i % 2, i) for i in numbers]
        longest = max(ids.shape[1] for ids, _ in batches)
        ids = [F.pad(x, (0, longest - x.shape[1]), value=PAD) for x, _ in batches]
        labels = [F.pad(y, (0, longest - y.shape[1]), value=-100) for _, y in batches]
        return torch.cat(ids), torch.cat(labels)


@st.composite
def settings_of(draw: st.DrawFn, model: str, clip: float | None = None) -> Setting:
    micro_batches = draw(st.integers(1, 7), label="N / M")
    steps = draw(st.integers(1, 5), label="K")
    lowest = draw(st.sampled_from([0, 1]))
    counts = draw(st.lists(st.integers(lowest, 6), min_size=micro_batches, max_size=micro_batches))
    for start in range(0, micro_batches, steps):
        counts[start] = max(counts[start], 1)  # a window that counts nothing has no mean
    return Setting(tuple(counts), steps, model, clip)


def loss_sum(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, reduction="sum", ignore_index=-100)


# --- Two more models; the first is the standard cases' own


def digits_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mlp(hidden=12)


@cache
def digits() -> Digits:
    return Digits(num_samples=200)


def digits_batch(counted: int, ignored: int, seed: int) -> tuple[Tensor, Tensor]:
    problem = digits()
    rows = torch.randperm(200, generator=torch.Generator().manual_seed(seed))[: counted + ignored]
    images, labels = problem.batch(rows)
    labels = labels.clone()
    labels[counted:] = -100
    return images, labels


class TaggingRoberta(nn.Module):
    """Token ids (rows, tokens) to logits (rows, classes, tokens); padding is not attended to."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import RobertaConfig, RobertaForTokenClassification

        self.inner = RobertaForTokenClassification(
            RobertaConfig(
                vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                max_position_embeddings=20, type_vocab_size=1, hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0, num_labels=3,
            )
        )  # fmt: skip

    def forward(self, ids: Tensor) -> Tensor:
        return self.inner(ids, attention_mask=(ids != PAD).long()).logits.transpose(1, 2)


def roberta_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TaggingRoberta()


def roberta_batch(counted: int, ignored: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two sentences that share the labels which count; the rest is ignored, or padding."""
    generator = torch.Generator().manual_seed(seed)
    lengths = (counted - counted // 2 + ignored, counted // 2 + ignored)
    ids = torch.full((2, max(lengths)), PAD)
    labels = torch.full((2, max(lengths)), -100)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(4, 30, (length,), generator=generator)
        labels[row, : length - ignored] = torch.randint(3, (length - ignored,), generator=generator)
    return ids, labels


def _counted(s: Setting, numbers) -> list[int]:
    return [i for i in numbers if s.counts[i] > 0]


def pieces_if_off_by_one(s: Setting) -> list[set[int]]:
    """What each update of the first epoch is made of where the condition is i % K == 0; the rest, last."""
    pieces, piece = [], []
    for i in range(len(s.counts)):
        piece.append(i)
        if i % s.accumulation_steps == 0:
            pieces.append(set(_counted(s, piece)))
            piece = []
    left = set(_counted(s, piece))
    return [*pieces, left] if left else pieces


def ambiguous(code: str, s: Setting) -> bool:
    """Whether two faults give the very same updates here, so that either name would be right.

    Dividing by a count that is K/r times too large is dividing a short window by K, where there is no other.
    Where no window has two micro-batches that count, a mean of means is a division by the window's length
    (so dividing by K as well is both), and a buffer cleared mid-window leaves all of a gradient or nothing.
    """
    if code in ("mean_of_means", "cleared_mid_window", "divided_twice"):
        return all(len([n for n in w if n > 0]) == 1 for w in s.windows())
    if code != "wrong_denominator":
        return False
    shares = []
    for number, window in enumerate(s.windows()):
        first = number * s.accumulation_steps
        batches = s.case().batches[first : first + len(window)]
        positions = sum(labels.numel() for _, labels in batches)
        shares.append((sum(window) / positions, len(window) / s.accumulation_steps))
    return all(abs(found - tail) < 1e-9 for found, tail in shares)


def witness(code: str, model: str) -> Setting:
    """A setting in which each fault shows: ragged windows of two, and one micro-batch left for the tail."""
    return Setting((5, 1, 3, 2, 4), 2, model, clip_for(code))


def clip_for(code: str) -> float | None:
    """The norm to which a loop clips, where the fault is in the clipping."""
    return 1e-3 if code == "clipped_per_micro_batch" else None


# --- Where a fault must show: reasoned from what it does, not from what the checker looks at


def shows(code: str, s: Setting) -> bool:
    """Whether this fault changes anything in this setting; if not, the loop must not be accused."""
    k, windows = s.accumulation_steps, s.windows()
    several = [w for w in windows if len([n for n in w if n > 0]) > 1]  # more than one micro-batch counts
    match code:
        case "no_division":
            return bool(several)
        case "mean_of_means":
            return any(len(w) > 1 and len(set(w)) > 1 for w in windows)
        case "divided_twice":
            return k > 1
        case "wrong_denominator":
            return True  # each micro-batch has labels that are ignored
        case "tail_divided_by_k":
            return s.tail > 0
        case "dropped_tail" | "leaked_tail":
            return s.tail > 0
        case "off_by_one":
            return k > 1 and pieces_if_off_by_one(s) != [set(_counted(s, w)) for w in s.numbers()]
        case "cleared_mid_window":
            return bool(several) or any(w[-1] == 0 for w in windows)
        case "stepped_per_micro_batch" | "scheduler_per_micro_batch" | "ema_per_micro_batch":
            return k > 1 and len(s.counts) > 1
        case "last_loss_logged":
            return any(len(w) > 1 for w in windows)
        case "clipped_per_micro_batch":  # twice is more than once: torch divides by the norm plus 1e-6
            return any(len(w) > 1 for w in windows)
        case "low_precision_buffer":
            return True
    raise KeyError(code)
