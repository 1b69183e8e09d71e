"""How much work a batch size makes: updates and examples to the same progress, from the noise scale alone.

McCandlish et al. (2018), arXiv 1812.06162, section 2.3: with S updates and E = S B examples to a target,
``S / S_min = 1 + B_noise / B`` and ``E / E_min = 1 + B / B_noise``. At ``B = B_noise`` both are twice their
least. It is a model of SGD at a tuned learning rate; ``trial`` tests it.
"""

import numpy as np

from accum_lib.records.advice import TimeModel


def updates_factor(noise_scale: float, batch_size: float | np.ndarray) -> float | np.ndarray:
    """Updates over the least that any batch could do with."""
    return 1 + noise_scale / batch_size


def examples_factor(noise_scale: float, batch_size: float | np.ndarray) -> float | np.ndarray:
    """Examples over the least that any batch could do with."""
    return 1 + batch_size / noise_scale


def time_factor(
    times: TimeModel, noise_scale: float, micro_batch_size: int, accumulation_steps: int
) -> float:
    """Seconds to the same progress, in units of the least number of updates."""
    needed = updates_factor(noise_scale, micro_batch_size * accumulation_steps)
    return float(needed * times.seconds(micro_batch_size, accumulation_steps))
