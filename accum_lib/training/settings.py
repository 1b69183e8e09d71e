"""What is decided about a run before it starts. Two equal settings give the same run, bit for bit."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from accum_lib.memory.settings import PRECISIONS
from accum_lib.words import _

LARGEST = torch.finfo(torch.float32).max / 1000  # Adam divides by what is left of its betas
ON_NON_FINITE = ("stop", "skip")
# What a resumed run may change, since it does not touch the training: M and K at the same B only to rounding.
MAY_DIFFER = ("evaluate_every", "save_every", "held_out_data", "checkpointing")
SIZES = ("micro_batch_size", "accumulation_steps")
CUT = (*SIZES, "by_tokens")  # how a window is cut into passes
DATA_DIFFER = "the training data are not the same (another file, another tokenizer, or another --max-tokens)"


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. ``sizes.batch_sizes`` derives M and K; the defaults are RoBERTa's own for fine-tuning.

    Source: Liu et al. 2019 (arXiv 1907.11692), table 10.

    Attributes:
        micro_batch_size, accumulation_steps: M and K; an update averages over B = M K examples.
        epochs: passes over the data.
        max_updates: stop after this many windows, each of which is an update unless it is left out; the
            learning rate then decays until there.
        learning_rate: the highest one, reached after the warm-up.
        weight_decay: of weight matrices and embeddings; biases and LayerNorm have none.
        warmup: part of all updates in which the learning rate rises; then it falls to 0 in a line.
        max_grad_norm: clip the 2-norm of the whole window's gradient to this; None does not clip.
        precision: "fp32", or "bf16" or "fp16" by autocast around the forward pass.
        checkpointing: recompute each layer's activations in the backward pass and do not keep them.
        compile: let ``torch.compile`` translate the forward and backward pass.
        by_tokens: fill each pass up to M times the longest text's tokens, padding included, and not up to M
            texts. The windows, their gradients and the most memory stay the same; there are fewer passes.
        length_pool: sort examples by length within this many windows, which saves padding. 0 does not; 1 (the
            default) leaves every update as it is, since the order within a window does not matter. With
            ``noise_scale`` the windows stay the same and are not sorted.
        seed: of the order of the data, dropout and masks.
        evaluate_every: windows between two evaluations; None evaluates at the end of each epoch.
        save_every: windows between two checkpoints; None saves at the end of each epoch.
        on_non_finite: what to do if a loss or a gradient is NaN or infinite: "stop", or "skip" the window.
        max_skips: with "skip", at most this many windows in a row.
        noise_scale: estimate the gradient noise scale on the way (needs K >= 2, and no larger length_pool
            than 1).

    Raises:
        ValueError: a setting is out of its range, or two of them do not go together.
    """

    micro_batch_size: int = 8
    accumulation_steps: int = 4
    epochs: int = 3
    max_updates: int | None = None
    learning_rate: float = 2e-5
    weight_decay: float = 0.1
    warmup: float = 0.06
    max_grad_norm: float | None = 1.0
    precision: str = "fp32"
    checkpointing: bool = False
    compile: bool = False
    by_tokens: bool = False
    length_pool: int = 1
    seed: int = 0
    evaluate_every: int | None = None
    save_every: int | None = None
    on_non_finite: str = "stop"
    max_skips: int = 3
    noise_scale: bool = False

    def __post_init__(self) -> None:
        for name in ("micro_batch_size", "accumulation_steps", "epochs", "max_skips"):
            _check_at_least(name, getattr(self, name), 1)
        for name in ("max_updates", "evaluate_every", "save_every"):
            if getattr(self, name) is not None:
                _check_at_least(name, getattr(self, name), 1)
        _check_at_least("length_pool", self.length_pool, 0)
        _check_at_least("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise ValueError(_("seed must be below 2**63; got {seed}", seed=self.seed))
        _check_one_of("precision", self.precision, tuple(PRECISIONS))
        _check_one_of("on_non_finite", self.on_non_finite, ON_NON_FINITE)
        if not 0 <= self.warmup <= 1:
            raise ValueError(
                _("warmup is a part of all updates, from 0 to 1; got {warmup}", warmup=self.warmup)
            )
        if not 0 < self.learning_rate < LARGEST:
            raise ValueError(
                _("learning_rate must be above 0 and finite; got {rate}", rate=self.learning_rate)
            )
        if not 0 <= self.weight_decay * max(1, self.learning_rate) < LARGEST:
            raise ValueError(
                _("weight_decay must be 0 or more and finite; got {decay}", decay=self.weight_decay)
            )
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be above 0, or None; got {self.max_grad_norm}")
        if self.noise_scale and self.accumulation_steps < 2:
            raise ValueError(_("noise_scale compares the micro-batches of a window: take K = 2 or more"))
        if self.noise_scale and self.by_tokens:
            raise ValueError(
                _(
                    "noise_scale takes micro-batches for random samples, and by_tokens fills them with texts "
                    "of like length: leave one of the two out"
                )
            )
        if self.noise_scale and self.length_pool > 1:
            raise ValueError(
                "noise_scale takes windows for random samples, and a length_pool of "
                f"{self.length_pool} fills them with texts of like length: take 1 or 0"
            )

    @property
    def effective_batch_size(self) -> int:
        """B = M K, the examples in one update."""
        return self.micro_batch_size * self.accumulation_steps

    @property
    def order_pool(self) -> int:
        """The pool by which examples are really sorted.

        Sorted by length, a window's micro-batches would differ by more than chance, and the noise scale,
        which is made from their differences, came out up to twenty times too large.
        """
        return 0 if self.noise_scale else self.length_pool

    @property
    def dtype(self) -> torch.dtype | None:
        """The 16-bit type of autocast, or None."""
        return PRECISIONS[self.precision]


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What a resumed run would do otherwise than the saved one, each as "name: saved there, now here"."""
    same = (*MAY_DIFFER, *CUT) if _same_windows(saved, now) else MAY_DIFFER
    names = [name for name in sorted(saved.keys() | now.keys()) if name not in same]
    return [
        DATA_DIFFER
        if name == "data"
        else f"{name}: {saved.get(name)!r} in the checkpoint, {now.get(name)!r} now"
        for name in names
        if saved.get(name) != now.get(name)
    ]


def _same_windows(saved: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether B is the same, and M does not matter: it does to the noise scale, of which it is a part."""
    then, here = (math.prod(each.get(name, 0) for name in SIZES) for each in (saved, now))
    return then == here and not now.get("noise_scale")


def _check_at_least(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if value < least:
        raise ValueError(
            _("{name} must be {least} or more; got {value}", name=name, least=least, value=value)
        )


def _check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(
            _("{name} must be one of {known}; got {value!r}", name=name, known=", ".join(known), value=value)
        )
