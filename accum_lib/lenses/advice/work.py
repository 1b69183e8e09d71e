"""How much work a batch size makes: updates and examples to the same progress, from the noise scale alone.

McCandlish et al. (2018), arXiv 1812.06162, section 2.3: with S updates and E = S B examples to a target,
``S / S_min = 1 + B_noise / B`` and ``E / E_min = 1 + B / B_noise``. At ``B = B_noise`` both are twice their
least. It is a model of SGD at a tuned learning rate; ``trial`` tests it.
"""

import numpy as np

from accum_lib.records.advice import TimeModel


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
