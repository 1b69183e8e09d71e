"""Which updates were clipped by norm, and by what factor: seen in the gradients, whatever the loop calls.

Clipped gradients have a norm in common, and each is a part of what the last backward pass left in the buffer.
With that factor taken out, the rest of the diagnosis reads a clipping loop as it reads any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from accum_lib.check.recorder import BackwardPass, RecordedUpdate
from accum_lib.check.reference import norm
from accum_lib.vectors import flat

SIGNIFICANT = 1e-6  # what is less, relative to the largest or to the whole, is none
ALIKE = 1e-4  # weights that agree to this are the same; the faults differ by much more


@dataclass(frozen=True)
class Clip:
    """Clipping of whole updates.

    Attributes:
        norm: the 2-norm that no update's gradient exceeds.
        factors: for each clipped update, by its number, what the buffer was multiplied by after the last
            backward pass; None if more was done to it.
        alone: nothing but clipping changes the buffer then, as the other updates show.
    """

    norm: float
    factors: dict[int, float | None]
    alone: bool


def clip_of(
    updates: Sequence[RecordedUpdate], passes: Sequence[BackwardPass], asked: float | None
) -> Clip | None:
    """How the loop clips; None if it does not.

    Args:
        asked: the norm that the loop was asked to clip to, if it was.
    """
    lengths = [norm(u.gradient) for u in updates]
    most = asked if asked is not None else max(lengths, default=0.0)
    shortened = [shortening(u, passes, updates[j - 1].passes if j else 0) for j, u in enumerate(updates)]
    slack = 1e-5 * most + 2e-6  # PyTorch divides by the norm plus 1e-6
    clipped = [j for j, n in enumerate(lengths) if n > 0 and abs(n - most) <= slack]
    others = [shortened[j] for j, n in enumerate(lengths) if n > 0 and j not in clipped]
    if not any((shortened[j] or 1) < 1 - ALIKE for j in clipped):
        return None
    plain = all(f is not None and abs(f - 1) <= ALIKE for f in others)  # nothing else changes the buffer
    if len(clipped) < 2 and not plain:
        return None
    return Clip(most, {j: shortened[j] for j in clipped}, bool(others) and plain)


def shortening(update: RecordedUpdate, passes: Sequence[BackwardPass], earlier: int) -> float | None:
    """The update's gradient as a multiple of what its last backward pass left; None if it is none."""
    if not earlier < update.passes <= len(passes):
        return None
    left = passes[update.passes - 1].after
    names = [n for n in left if n in update.gradient]
    if not names:
        return None
    return multiple(*(flat(some[n] for n in names) for some in (update.gradient, left)))


def multiple(found: Tensor, whole: Tensor) -> float | None:
    """By what number the second vector was multiplied to give the first; None if it was not."""
    square = float(whole @ whole)
    if not square > 0:
        return None
    factor = float(found @ whole) / square
    return factor if float((found - factor * whole).norm()) <= SIGNIFICANT * float(found.norm()) else None
