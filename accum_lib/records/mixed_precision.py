"""What 16 bits do to a gradient."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PrecisionError:
    """One window's gradient in "fp32" or "bf16", from K micro-batches.

    Attributes:
        precision: of the forward and backward passes.
        accumulation_steps: K.
        relative_error: ||g - exact|| / ||exact||, exact being one big batch in float64.
    """

    precision: str
    accumulation_steps: int
    relative_error: float
