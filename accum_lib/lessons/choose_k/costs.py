"""Seconds of an update against M and K: a model with three coefficients, fitted to what was measured here.

How much work a batch size makes: updates and examples to the same progress, from the noise scale alone.

McCandlish et al. (2018), arXiv 1812.06162, section 2.3: with S updates and E = S B examples to a target,
``S / S_min = 1 + B_noise / B`` and ``E / E_min = 1 + B / B_noise``. At ``B = B_noise`` both are twice their
least. It is a model of SGD at a tuned learning rate; ``trial`` tests it.
"""

from collections.abc import Sequence

import numpy as np

from accum_lib.lessons.choose_k.record import TimeModel
from accum_lib.lessons.memory.measure import pace
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload

PAIRS = ((1, 1), (4, 1), (16, 1), (64, 1), (256, 1), (1, 8), (4, 4), (16, 4))  # (M, K) that are timed
ROUNDS = 7


def measure_times(
    workload: Workload, settings: Settings, pairs: Sequence[tuple[int, int]] = PAIRS, rounds: int = ROUNDS
) -> TimeModel:
    """Time real updates on one thread of this machine's processor, and fit the model to their medians.

    Every pair is warmed up once, and all take turns (see ``pace``).
    """
    found = pace(workload, pairs, rounds, settings)
    return fit_times(
        found.micro_batch_sizes, found.accumulation_steps, np.median(found.seconds, axis=1), "cpu"
    )


def fit_times(
    micro_batch_sizes: np.ndarray, accumulation_steps: np.ndarray, seconds: np.ndarray, device: str
) -> TimeModel:
    """Least squares of relative errors, no coefficient below 0.

    Args:
        micro_batch_sizes, accumulation_steps: (pairs,) M and K, each with two values or more.
        seconds: (pairs,) of one update.
        device: where it was measured.

    Raises:
        ValueError: the pairs cannot tell the three coefficients apart, or a time is not above 0.
    """
    from scipy.optimize import nnls  # takes a while to import

    m, k, t = (np.asarray(each, dtype=float) for each in (micro_batch_sizes, accumulation_steps, seconds))
    if not (t > 0).all():
        raise ValueError(f"every time must be above 0 seconds; got {t.min():g}")
    rows = np.stack([k, k * m, np.ones(len(k))], axis=1)
    if np.linalg.matrix_rank(rows) < 3:
        raise ValueError("three coefficients need pairs with several M and several K; add some to the pairs")
    (one_pass, example, update), _ = nnls(rows / t[:, None], np.ones(len(t)))
    return TimeModel(device, float(one_pass), float(example), float(update), m, k, t)


def updates_factor(noise_scale: float, batch_size: float | np.ndarray) -> float | np.ndarray:
    """Updates over the least that any batch could do with.

    Raises:
        ValueError: the batch holds nothing.
    """
    _check(batch_size)
    return 1 + noise_scale / batch_size


def examples_factor(noise_scale: float, batch_size: float | np.ndarray) -> float | np.ndarray:
    """Examples over the least that any batch could do with; without noise one example would do.

    Raises:
        ValueError: the batch holds nothing.
    """
    _check(batch_size)
    return 1 + batch_size / noise_scale if noise_scale else batch_size * np.inf


def _check(batch_size: float | np.ndarray) -> None:
    least = batch_size.min() if isinstance(batch_size, np.ndarray) else batch_size
    if not least > 0:
        raise ValueError(f"an update needs B = M·K above 0: M and K of 1 or more; got B = {least:g}")


def time_factor(
    times: TimeModel, noise_scale: float, micro_batch_size: int, accumulation_steps: int
) -> float:
    """Seconds to the same progress, in units of the least number of updates."""
    needed = updates_factor(noise_scale, micro_batch_size * accumulation_steps)
    return float(needed * times.seconds(micro_batch_size, accumulation_steps))
