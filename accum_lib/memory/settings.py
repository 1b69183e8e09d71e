"""What is decided about an update besides M and K: optimizer, precision, checkpointing, attention."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accum_lib.memory.optimizers import AdamA, AdamWInBackward, AdamWWithBf16Gradients

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
IMPLEMENTATIONS = ("foreach", "for-loop", "fused")
ATTENTION = ("auto", "flash", "efficient", "math")
RATE = 1e-3

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
    """

    optimizer: str = "adamw"
    implementation: str = "foreach"
    precision: str = "fp32"
    checkpointing: bool = False
    attention: str = "auto"
    set_to_none: bool = True

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("implementation", self.implementation, IMPLEMENTATIONS),
            ("precision", self.precision, PRECISIONS),
            ("attention", self.attention, ATTENTION),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
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
