"""M and K for a model, a card and a data set: the memory plan, the noise scale and the time model in one.

The memory lens says which M fit. The noise scale says which B is worth its examples. K is what is left:
the smallest that reaches B with an M that fits. Where times were measured, they say what that costs.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from accum_lib.lessons.choose_k.costs import examples_factor, time_factor, updates_factor
from accum_lib.lessons.choose_k.reasons import reasons
from accum_lib.lessons.choose_k.record import Advice, Landscape, TimeModel
from accum_lib.memory.cards import Card, find_card
from accum_lib.memory.planner import MARGIN, largest_micro_batch, reserved_bytes, smallest_steps
from accum_lib.memory.prediction import Prediction, last_that, predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload
from accum_lib.noise.records import NoiseScale

GOALS = ("balance", "time")
ENDLESS = 100  # times N: in place of a noise scale without an upper end, when times are weighed

Pair = tuple[int, int]


def advise(
    workload: Workload,
    card: Card | str,
    num_samples: int,
    noise: NoiseScale | None,
    times: TimeModel | None = None,
    goal: str = "balance",
    settings: Settings | None = None,
    margin: float = MARGIN,
) -> Advice:
    """Choose M and K.

    Args:
        workload: what is trained.
        card: a GPU or its name (see ``cards.find_card``), or a ``processor``.
        num_samples: N; no update has more examples.
        noise: the gradient noise scale with its interval, measured or assumed; None if nothing is known.
        times: measured on this card; None if nothing was, and then no time is named.
        goal: "balance" takes B at the noise scale, where updates and examples are both twice their least
            (McCandlish et al. 2018); "time" takes what ``times`` and the noise scale put first, and falls
            back to "balance" without times.
        settings: how an update is made; AdamW in float32 by default.
        margin: the part of the card's usable memory that is left free.

    Raises:
        ValueError: the card is not known, N, the margin or the noise scale is impossible, or the times are
            of another device.
        TypeError: the workload is no ``Workload``, or the noise no ``NoiseScale``.
    """
    _check_types(workload, noise)
    card = find_card(card) if isinstance(card, str) else card
    _check(num_samples, noise, goal, times, card, margin)
    prediction = predict(workload, settings or Settings(), card.device, card.hopper)
    chooser = Chooser.on(card, prediction, num_samples, times, margin)
    goal = goal if times else "balance"
    scales = (noise.noise_scale, noise.low, noise.high) if noise else ()
    ends = [chooser.choose(scale, goal) for scale in scales]
    return _advice(chooser, workload.name, card.name, noise, goal, ends)


class Chooser:
    """The rules, for one prediction, limit, data set and time model.

    Args:
        prediction: of the memory lens.
        limit_bytes: the highest peak that is allowed.
        num_samples: N.
        times: of this device, or None.
        card_bytes: what PyTorch's allocator may take for it.
    """

    def __init__(
        self, prediction: Prediction, limit_bytes: int, num_samples: int, times: TimeModel | None = None,
        card_bytes: float = math.inf,
    ) -> None:  # fmt: skip
        self.prediction, self.limit, self.card_bytes = prediction, limit_bytes, card_bytes
        self.n, self.times = num_samples, times

    @classmethod
    def on(
        cls, card: Card, prediction: Prediction, num_samples: int, times: TimeModel | None = None,
        margin: float = MARGIN,
    ) -> "Chooser":  # fmt: skip
        """Within the card's usable memory less the margin, for what is allocated and for what is reserved."""
        limit = card.limit_bytes(margin)
        return cls(prediction, limit, num_samples, times, card_bytes=limit)

    def choose(self, noise_scale: float, goal: str) -> Pair | None:
        """(M, K), or None if nothing fits."""
        return self.fastest(noise_scale) if goal == "time" else self.balance(noise_scale)

    def balance(self, noise_scale: float) -> Pair | None:
        """B at the noise scale, within 1 and N, with the smallest K that fits; or the largest B that does.

        The inputs of a whole window are on the card together, so even the smallest M may not reach B.
        """
        low, high = 0, round(min(max(noise_scale, 1), self.n)) + 1
        found = self._reach(high - 1)
        if found:
            return found
        low = last_that(lambda batch: self._reach(batch) is not None, low, high)  # 0 if none can be reached
        return self._reach(low) if low else None

    def _reach(self, batch: int) -> Pair | None:
        return smallest_steps(self.prediction, self.limit, batch, self.card_bytes)

    def fastest(self, noise_scale: float) -> Pair | None:
        """The (M, K) with the least predicted time to the same progress.

        For one K the time is convex in M, ``(1 + B_noise / (M K)) (K (a + b M) + c)``, so its lowest M is
        beside ``sqrt(B_noise (a + c / K) / (b K))`` or at an end. For one M it is lowest at ``K^2 = B_noise c
        / (M (a + b M))``, which M = 1 makes largest: beyond that no K can be best.
        """
        t, noise = self._times(), min(max(noise_scale, 1.0), ENDLESS * float(self.n))
        one = max(t.pass_seconds + t.example_seconds, 1e-12)
        last = min(self.n, max(2, math.ceil(math.sqrt(noise * t.update_seconds / one)) + 1))
        pairs = [pair for k in range(1, last + 1) for pair in self._near_best(noise, k)]
        return min(pairs, key=lambda pair: (time_factor(t, noise, *pair), pair[1]), default=None)

    def slower(self, pair: Pair, best: Pair, noise_scale: float) -> float:
        """Time of a pair over that of the best one."""
        noise = min(max(noise_scale, 1.0), ENDLESS * float(self.n))
        return time_factor(self._times(), noise, *pair) / time_factor(self._times(), noise, *best)

    def _near_best(self, noise: float, k: int) -> list[Pair]:
        t = self._times()
        largest = min(largest_fitting(self.prediction, self.limit, self.card_bytes, k), self.n // k)
        if largest < 1:
            return []
        spread = noise * (t.pass_seconds + t.update_seconds / k)
        best = math.sqrt(spread / (t.example_seconds * k)) if t.example_seconds > 0 else largest
        near = {min(max(m, 1), largest) for m in (math.floor(best), math.ceil(best), 1, 2)}
        return [(m, k) for m in sorted(near) if self.prediction.takes(m)]

    def _times(self) -> TimeModel:
        if self.times is None:
            raise ValueError("no time was measured on this card, so nothing can be put first by time")
        return self.times


@lru_cache(maxsize=65536)
def largest_fitting(prediction: Prediction, limit_bytes: int, card_bytes: float, steps: int) -> int:
    """``planner.largest_micro_batch``, looked for once."""
    return largest_micro_batch(prediction, limit_bytes, card_bytes, steps)


def _advice(
    chooser: Chooser, model: str, card: str, noise: NoiseScale | None, goal: str, ends: Sequence[Pair | None]
) -> Advice:
    prediction, limit, n = chooser.prediction, chooser.limit, chooser.n
    largest = largest_fitting(prediction, limit, chooser.card_bytes, 2)
    chosen, low, high = ends or [(min(largest, n), 0)] * 3
    m, k = chosen or (0, 0)
    scale, batch = (noise.noise_scale if noise else math.nan), min(m * k, n)
    fastest = chooser.fastest(scale) if chooser.times and noise and m else None
    advice = Advice(
        model=model, card=card, num_samples=n, goal=goal, noise=noise,
        micro_batch_size=m, accumulation_steps=k,
        steps_low=low[1] if low else 0, steps_high=high[1] if high else 0,
        batch_low=min(low[0] * low[1], n) if low else 0, batch_high=min(high[0] * high[1], n) if high else 0,
        largest_micro_batch=largest,
        peak_bytes=prediction.peak_bytes(m, k or 2) if m else _least_needed(prediction, limit),
        floor_bytes=prediction.floor_bytes(1), limit_bytes=limit,
        updates_factor=float(updates_factor(scale, batch)) if batch else math.nan,
        examples_factor=float(examples_factor(scale, batch)) if batch else math.nan,
        seconds=chooser.times.seconds(m, k) if chooser.times and batch else None,
        fastest=fastest, slower=chooser.slower((m, k), fastest, scale) if fastest else None,
        reasons=(),
    )  # fmt: skip
    return reasons(advice)


def landscape(
    chooser: Chooser, noise_scale: float | None, sizes: Sequence[int], batch_sizes: Sequence[int]
) -> Landscape:
    """Memory against M and work against B, for the screen.

    Args:
        chooser: for which card and data.
        noise_scale: None if nothing is known of it.
        sizes: M for the memory; the model must take each of them.
        batch_sizes: B; those above N are left out (NaN).
    """
    b = np.array(batch_sizes, dtype=float)
    pairs = smallest_pairs(chooser.prediction, chooser.limit, chooser.card_bytes, tuple(batch_sizes))
    m, k = pairs.T
    usable = (b <= chooser.n) & (m > 0)
    noise = math.nan if noise_scale is None else noise_scale
    with np.errstate(invalid="ignore"):
        updates, examples = updates_factor(noise, b), examples_factor(noise, b)
        passes = np.where(usable, updates * k, np.nan)
        times = np.array([chooser.times.seconds(*pair) if chooser.times else np.nan for pair in pairs])
        time = np.where(usable, updates * times, np.nan)
    within = np.where(b <= chooser.n, 1.0, np.nan)
    one, more = (peaks_over(chooser.prediction, tuple(sizes), steps) for steps in (1, 2))
    return Landscape(
        np.array(sizes), one, more, np.array(batch_sizes), k, updates * within, examples * within,
        _over_least(passes), _over_least(time),
    )  # fmt: skip


@lru_cache(maxsize=256)
def smallest_pairs(
    prediction: Prediction, limit_bytes: int, card_bytes: float, batch_sizes: tuple[int, ...]
) -> np.ndarray:
    """(B, 2): M and the smallest K for each B; 0 where nothing fits."""
    return np.array([smallest_steps(prediction, limit_bytes, b, card_bytes) or (0, 0) for b in batch_sizes])


@lru_cache(maxsize=256)
def peaks_over(prediction: Prediction, sizes: tuple[int, ...], steps: int) -> np.ndarray:
    """(sizes,) predicted peak bytes."""
    return np.array([prediction.peak_bytes(m, steps) if prediction.takes(m) else np.nan for m in sizes])


def _over_least(values: np.ndarray) -> np.ndarray:
    known = values[np.isfinite(values)]
    return values / known.min() if len(known) else np.full(len(values), np.nan)


def _least_needed(prediction: Prediction, limit_bytes: int) -> int:
    """The lowest peak of all (from K = 2 on there is one more set of gradients); if it is within the limit,
    what the allocator would take for it."""
    m = prediction.smallest()
    peak = prediction.peak_bytes(m, 1)
    return peak if peak > limit_bytes else reserved_bytes(prediction, m, 1)


def _check_types(workload: object, noise: object) -> None:
    if not isinstance(workload, Workload):
        raise TypeError(
            "the workload must be a Workload, such as lenses.memory.workloads.named('roberta-base', "
            f"'classification', 128); got {workload!r}"
        )
    if noise is not None and not isinstance(noise, NoiseScale):
        raise TypeError(f"the noise must be a NoiseScale, such as known_noise(400), or None; got {noise!r}")


def _check(
    num_samples: int, noise: NoiseScale | None, goal: str, times: TimeModel | None, card: Card, margin: float
) -> None:
    if isinstance(num_samples, bool) or not hasattr(num_samples, "__index__") or num_samples < 1:
        raise ValueError(f"the data set needs a whole number of examples, 1 or more; got N = {num_samples!r}")
    if goal not in GOALS:
        raise ValueError(f"goal must be one of {', '.join(GOALS)}; got {goal!r}")
    if not 0 <= margin < 1:
        raise ValueError(f"the margin is a part of the memory, from 0 to below 1; got {margin}")
    if noise is not None and not 0 <= noise.low <= noise.noise_scale <= noise.high:
        raise ValueError(
            f"a noise scale is 0 or more examples and within its interval; got {noise.noise_scale:g} "
            f"in {noise.low:g} to {noise.high:g}"
        )
    if times is not None and times.device != card.device:
        raise ValueError(
            f"the times were measured on {times.device!r} and say nothing of {card.name}: leave them out, or "
            "measure there"
        )


def known_noise(noise_scale: float, factor: float = 2.0) -> NoiseScale:
    """What a reader knows or assumes: a value, and within which factor it is known.

    Raises:
        ValueError: the value is not above 0, or the factor below 1.
        TypeError: the value is no number.
    """
    if not isinstance(noise_scale, int | float):
        raise TypeError(f"a noise scale is a number of examples; got {noise_scale!r}")
    if not 0 < noise_scale < math.inf:
        raise ValueError(f"a noise scale is a number of examples above 0; got {noise_scale}")
    if factor < 1:
        raise ValueError(f"it is known within a factor of 1 or more; got {factor}")
    low, high = noise_scale / factor, noise_scale * factor
    return NoiseScale(noise_scale, low, high, math.nan, math.nan, math.nan, 0)
