"""What is decided about an update besides M and K: optimizer, precision, checkpointing, attention."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accum_lib.memory.optimizers import AdamA, AdamWInBackward, AdamWWithBf16Gradients
from accum_lib.words import _

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
WEIGHTS = {"fp32": torch.float32, "bf16": torch.bfloat16}
TRAINED = ("all", "lora", "head")
IMPLEMENTATIONS = ("foreach", "for-loop", "fused")
ATTENTION = ("auto", "flash", "efficient", "math")
RATE = 1e-3
MOST_CARDS = 16_384  # more is a slip of the hand

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda params, **how: torch.optim.SGD(params, momentum=0.9, **how),
    "adamw": torch.optim.AdamW,
    "adafactor": torch.optim.Adafactor,
    "adamw-in-backward": AdamWInBackward,
    "adama": AdamA,
    "adamw-bf16-gradients": AdamWWithBf16Gradients,
}


@dataclass(frozen=True)
class Settings:
    """How an update is made. Two equal settings have the same memory.

    Attributes:
        optimizer: "sgd", "momentum", "adamw", "adafactor", or one of ``alternatives``.
        implementation: "foreach" (all parameters at once: PyTorch's default on a GPU), "for-loop" (one
            after the other: its default on a CPU) or "fused" (one kernel).
        precision: "fp32", or "bf16" or "fp16" by autocast around the forward pass.
        checkpointing: recompute each block's activations in the backward pass and do not keep them.
        attention: on a GPU, the kernel that is pinned; "auto" takes the leanest that the types allow.
        set_to_none: False keeps the gradients of the last update until they are replaced.
        trained: "all"; "lora": small matrices beside each linear layer, and a new head; "head": that alone.
        rank: LoRA's, of those matrices.
        weights: "fp32", or "bf16" for the model itself; its gradients and the optimizer's state follow.
        chunked: a causal model's loss from the logits of some tokens at a time.
        cards: over which FSDP2 shards weights, gradients and the optimizer's state; the memory is one card's.

    Raises:
        ValueError: a value is none of these, or two of them do not go together.
    """

    optimizer: str = "adamw"
    implementation: str = "foreach"
    precision: str = "fp32"
    checkpointing: bool = False
    attention: str = "auto"
    set_to_none: bool = True
    trained: str = "all"
    rank: int = 16
    weights: str = "fp32"
    chunked: bool = False
    cards: int = 1

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("implementation", self.implementation, IMPLEMENTATIONS),
            ("precision", self.precision, PRECISIONS),
            ("attention", self.attention, ATTENTION),
            ("trained", self.trained, TRAINED),
            ("weights", self.weights, WEIGHTS),
        ):
            if value not in known:
                raise ValueError(
                    _(
                        "{name} must be one of {known}; got {value!r}",
                        name=name,
                        known=", ".join(known),
                        value=value,
                    )
                )
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"LoRA's rank must be a whole number from 1 on; got {self.rank!r}")
        if type(self.cards) is not int or not 1 <= self.cards <= MOST_CARDS:
            raise ValueError(
                _(
                    "the cards must be a whole number from 1 to {most:,}; got {cards!r}",
                    most=MOST_CARDS, cards=self.cards,
                )
            )  # fmt: skip
        if self.weights != "fp32" and self.precision == "fp16":
            raise ValueError("weights in bf16 are not run in fp16: take precision='fp32' or 'bf16'")
        if self.implementation == "fused" and self.optimizer not in ("sgd", "momentum", "adamw"):
            raise ValueError(f"{self.optimizer} has no fused implementation: take 'foreach' or 'for-loop'")

    @property
    def dtype(self) -> torch.dtype | None:
        """The 16-bit type of autocast, or None."""
        return PRECISIONS[self.precision]

    def make_optimizer(self, parameters: Iterable[Tensor], fused: bool = True) -> torch.optim.Optimizer:
        """The optimizer over these parameters; ``fused=False`` makes a stand-in where fused is refused."""
        how: dict[str, Any] = {"lr": RATE, "foreach": self.implementation == "foreach"}
        if self.implementation == "fused" and fused:
            how = {"lr": RATE, "fused": True}
        return OPTIMIZERS[self.optimizer](parameters, **how)
