"""Advice on M and K: what was chosen and why, what was measured for it, and how it did when it was tried."""

from dataclasses import dataclass

import numpy as np

from accum_lib.lessons.variance.record import Race, ToTarget
from accum_lib.noise.records import NoiseScale


@dataclass(frozen=True)
class TimeModel:
    """Seconds of one update, ``K (pass_seconds + example_seconds M) + update_seconds``, as fitted.

    Attributes:
        device: what it was measured on; it says nothing of any other.
        pass_seconds: what a forward and backward pass takes besides its examples.
        example_seconds: what each example adds to a pass.
        update_seconds: what occurs once in an update: the optimizer.
        micro_batch_sizes, accumulation_steps: (pairs,) M and K of what was measured.
        measured: (pairs,) median seconds of an update of each.
    """

    device: str
    pass_seconds: float
    example_seconds: float
    update_seconds: float
    micro_batch_sizes: np.ndarray
    accumulation_steps: np.ndarray
    measured: np.ndarray

    def seconds(self, micro_batch_size: float, accumulation_steps: float) -> float:
        """One update, by the fitted model."""
        one_pass = self.pass_seconds + self.example_seconds * micro_batch_size
        return accumulation_steps * one_pass + self.update_seconds

    @property
    def worst(self) -> float:
        """The largest relative error of the model at what was measured."""
        pairs = zip(self.micro_batch_sizes, self.accumulation_steps, strict=True)
        fitted = np.array([self.seconds(m, k) for m, k in pairs])
        return float(np.abs(fitted / self.measured - 1).max())


@dataclass(frozen=True)
class Advice:
    """Which M and K to take for one model, one card and one data set, and why.

    Attributes:
        model, card: by name.
        num_samples: N.
        goal: "balance" (updates and examples alike) or "time" (least time, as measured).
        noise: what is known of the noise scale; None if nothing is.
        micro_batch_size, accumulation_steps: M and K; both 0 if nothing fits, K alone 0 if nothing is known
            of the noise.
        steps_low, steps_high: K at the ends of the noise scale's interval, by the same rule.
        batch_low, batch_high: B there.
        largest_micro_batch: the largest M that fits with K >= 2.
        peak_bytes, floor_bytes, limit_bytes: predicted peak of the choice, what no M and K go below, what is
            allowed. The peak is that of M = 1, K = 1 if nothing fits.
        updates_factor, examples_factor: predicted updates and examples over the least possible.
        seconds: of one update, by the fitted model; None if nothing was measured.
        fastest: (M, K) that the time model and the noise scale put first; None as before.
        slower: time to the same progress over that of ``fastest``; None as before.
        reasons: sentences.
    """

    model: str
    card: str
    num_samples: int
    goal: str
    noise: NoiseScale | None
    micro_batch_size: int
    accumulation_steps: int
    steps_low: int
    steps_high: int
    batch_low: int
    batch_high: int
    largest_micro_batch: int
    peak_bytes: int
    floor_bytes: int
    limit_bytes: int
    updates_factor: float
    examples_factor: float
    seconds: float | None
    fastest: tuple[int, int] | None
    slower: float | None
    reasons: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether any micro-batch does."""
        return self.micro_batch_size > 0

    @property
    def effective_batch_size(self) -> int:
        """B; a window never has more than the N examples."""
        return min(self.micro_batch_size * self.accumulation_steps, self.num_samples)


@dataclass(frozen=True)
class Landscape:
    """What every M costs in memory, and every B in work: predictions, and times where they were measured.

    Attributes:
        micro_batch_sizes: (sizes,) M.
        peak_one, peak_more: (sizes,) predicted peak bytes with K = 1 and with K = 2.
        batch_sizes: (B,) from 1 to N.
        steps: (B,) the smallest K that reaches B on the card; 0 if nothing fits.
        updates, examples: (B,) over the least possible; NaN if nothing is known of the noise.
        passes: (B,) forward and backward passes to the same progress, the least of them being 1; NaN where
            nothing fits.
        time: (B,) time to the same progress, the least being 1; NaN if it was not measured.
    """

    micro_batch_sizes: np.ndarray
    peak_one: np.ndarray
    peak_more: np.ndarray
    batch_sizes: np.ndarray
    steps: np.ndarray
    updates: np.ndarray
    examples: np.ndarray
    passes: np.ndarray
    time: np.ndarray


@dataclass(frozen=True)
class Trial:
    """The advised K raced against a quarter of it and four times it, each from several seeds.

    Attributes:
        name: of the problem.
        noise: what the advice was based on.
        micro_batch_size: M of all.
        steps: (3,) K / 4, K, 4 K.
        races: one for each of them.
        found: what each took to reach the target, at its best rate.
        same_updates, same_examples: how many of either all of them have made at least.
        losses_at_updates, losses_at_examples: (3, seeds) held-out loss there, each at its best rate.
    """

    name: str
    noise: NoiseScale
    micro_batch_size: int
    steps: tuple[int, int, int]
    races: tuple[Race, ...]
    found: ToTarget
    same_updates: int
    same_examples: int
    losses_at_updates: np.ndarray
    losses_at_examples: np.ndarray

    def predicted(self) -> np.ndarray:
        """(3,) updates to the target over those of the advised K, by the noise scale."""
        needed = 1 + self.noise.noise_scale / self.found.batch_sizes
        return needed / needed[1]

    def measured(self) -> np.ndarray:
        """(3, seeds) updates to the target over those of the advised K, seed by seed; NaN if not reached."""
        updates = np.where(np.isfinite(self.found.updates), self.found.updates, np.nan)
        return updates / updates[1]


@dataclass(frozen=True)
class Trials:
    """All trials, and the seconds that they took."""

    trials: tuple[Trial, ...]
    seconds: float
