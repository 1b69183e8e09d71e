"""Memory of one optimizer update: over time by category, against M and K, and which settings fit a card."""

from dataclasses import dataclass

import numpy as np

CATEGORIES = (
    "parameters",
    "optimizer state",
    "gradients",
    "weight copies",
    "inputs",
    "activations",
    "temporaries",
    "workspace",
)


@dataclass(frozen=True)
class Timeline:
    """Bytes alive during one update, at the fullest moment of each of its slices.

    Attributes:
        micro_batch_size, accumulation_steps: M and K.
        operators: (moments,) operators run so far.
        bytes_by_category: (categories, moments), in the order of ``CATEGORIES``.
        phases: (name, first operator) of "forward", "backward" and "update", in their order.
        peak_bytes: the most that is alive at once.
        peak_phase: the phase in which that is.
    """

    micro_batch_size: int
    accumulation_steps: int
    operators: np.ndarray
    bytes_by_category: np.ndarray
    phases: tuple[tuple[str, int], ...]
    peak_bytes: int
    peak_phase: str


@dataclass(frozen=True)
class Peaks:
    """The peak over a grid of M and K.

    Attributes:
        micro_batch_sizes: (sizes,) M.
        accumulation_steps: (steps,) K.
        peak_bytes: (steps, sizes).
        floor_bytes: (steps,) what no M is small enough to go below.
    """

    micro_batch_sizes: np.ndarray
    accumulation_steps: np.ndarray
    peak_bytes: np.ndarray
    floor_bytes: np.ndarray


@dataclass(frozen=True)
class Option:
    """One way to make the update, and the best M and K for it on a card.

    Attributes:
        precision, checkpointing, optimizer, implementation: as in the lens's ``Settings``.
        micro_batch_size, accumulation_steps: M and K: the smallest K that fits, and the smallest M that
            reaches B with it. Both are 0 if no M fits.
        largest_micro_batch: the largest M that fits with K >= 2.
        peak_bytes: at that M and K; that of M = 1 with accumulation if none fits.
        reserved_bytes: what PyTorch's allocator takes from the card for that, as free memory is in pieces.
        floor_bytes: what accumulation cannot go below, however small M is.
        seconds: an estimate for one update (see ``planner.estimated_seconds``), or None.
        reason: why this option, or why it does not fit, or why nothing is known about it, in words.
        predicted: False if there is no prediction of it: all sizes are 0 then.
        trained, weights, chunked: as in ``Settings``.
    """

    precision: str
    checkpointing: bool
    optimizer: str
    implementation: str
    micro_batch_size: int
    accumulation_steps: int
    largest_micro_batch: int
    peak_bytes: int
    reserved_bytes: int
    floor_bytes: int
    seconds: float | None
    reason: str
    predicted: bool = True
    trained: str = "all"
    weights: str = "fp32"
    chunked: bool = False

    @property
    def fits(self) -> bool:
        """Whether there is an M and a K for it."""
        return self.micro_batch_size > 0


def share_of(batch: int, cards: int) -> int:
    """How many of the examples of one update the card runs that has most of them."""
    return -(-batch // cards)


@dataclass(frozen=True)
class Plan:
    """What a planner has found for one model, one card and one effective batch.

    Attributes:
        model, card: by name.
        effective_batch_size: B.
        usable_bytes: what a process can allocate on the card.
        margin: the part of it that is left free.
        limit_bytes: the highest peak that is recommended.
        options: those that fit first, fastest first.
        verdict: whether accumulation helps here, in words, and what would if not.
        cards: over which FSDP2 shards the model; each option is one card's, which runs its share of B.
    """

    model: str
    card: str
    effective_batch_size: int
    usable_bytes: int
    margin: float
    limit_bytes: int
    options: tuple[Option, ...]
    verdict: str
    cards: int = 1

    @property
    def share(self) -> int:
        """Examples in one update that one card runs: B, or the most that one of several has."""
        return share_of(self.effective_batch_size, self.cards)

    @property
    def best(self) -> Option | None:
        """The option to take, or None if nothing fits."""
        return self.options[0] if self.options and self.options[0].fits else None


@dataclass(frozen=True)
class Alternative:
    """Another way to make an update of K micro-batches: what it saves, and what it gives up.

    Attributes:
        name: in words.
        peak_bytes, floor_bytes: predicted for the given M, and however small M is.
        arithmetic: floating-point operations, those of plain accumulation being 1.
        gradient_error: of the window's gradient against one big batch in float64, relative.
        second_moment_error: of what the second moment takes for the gradient.
        updates: made in one window; 1 is right.
    """

    name: str
    peak_bytes: int
    floor_bytes: int
    arithmetic: float
    gradient_error: float
    second_moment_error: float
    updates: int


@dataclass(frozen=True)
class Pace:
    """Measured times of one update for several (M, K), interleaved.

    Attributes:
        micro_batch_sizes, accumulation_steps: (pairs,) M and K.
        seconds: (pairs, rounds) of each update.
        peak_bytes: (pairs,) predicted.
    """

    micro_batch_sizes: np.ndarray
    accumulation_steps: np.ndarray
    seconds: np.ndarray
    peak_bytes: np.ndarray

    @property
    def per_example(self) -> np.ndarray:
        """(pairs,) median seconds for one example."""
        examples = self.micro_batch_sizes * self.accumulation_steps
        return np.median(self.seconds, axis=1) / examples


@dataclass(frozen=True)
class Clause:
    """One part of a common claim, whether it holds, and the numbers that say so."""

    claim: str
    holds: bool
    evidence: str
