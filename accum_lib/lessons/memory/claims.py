"""'More accumulation steps, less memory, slower': true or not, clause by clause.

The claim does not say what stays the same. With M fixed, more steps make a larger batch; with B fixed they
make smaller micro-batches. So each half of it is two clauses. Memory is predicted; time is
measured, and given.
"""

import numpy as np

from accum_lib.lenses.memory.planner import useful_down_to
from accum_lib.lenses.memory.prediction import Prediction
from accum_lib.records.memory import GIB, Clause, Pace
from accum_lib.words import _, listed

CLEARLY = 0.03  # two median times that differ by less are called the same


def memory_clauses(prediction: Prediction, micro_batch_size: int, effective_batch_size: int) -> list[Clause]:
    """'Less memory': at fixed M, and at fixed B down to M = 1.

    Args:
        prediction: of the update.
        micro_batch_size: M that stays while K goes from 1 to 2 and 8.
        effective_batch_size: B that stays while K goes from 1 to 2, 4, ... B.
    """
    one, two, eight = (prediction.peak_bytes(micro_batch_size, k) for k in (1, 2, 8))
    fixed_m = Clause(
        _("at fixed M = {m}, less memory", m=micro_batch_size),
        two < one or eight < 0.99 * two,
        _(
            "K = 1, 2, 8: {peaks} GiB. The second costs a gradient buffer, further ones nothing",
            peaks=_gib(one, two, eight),
        ),
    )
    steps = _halvings(effective_batch_size)
    peaks = [prediction.peak_bytes(effective_batch_size // k, k) for k in steps]
    end = useful_down_to(prediction)
    fixed_b = Clause(
        _("at fixed B = {effective_batch_size}, less memory", effective_batch_size=effective_batch_size),
        peaks[-1] < peaks[0] and bool(np.all(np.diff(peaks) <= 0.001 * peaks[0])),
        _(
            "K = {steps}: {peaks} GiB. From M = {end} down nothing more is saved",
            steps=listed([str(k) for k in steps]),
            peaks=_gib(*peaks),
            end=end,
        ),
    )
    return [fixed_m, fixed_b]


def time_clauses(fixed_m: Pace, fixed_b: Pace) -> list[Clause]:
    """'Slower', for each example: at fixed M, and at fixed B.

    Args:
        fixed_m: measured with one M and growing K.
        fixed_b: measured with one B and growing K.
    """
    clauses = []
    for name, measured in (("M", fixed_m), ("B", fixed_b)):
        times = measured.per_example
        value = measured.micro_batch_sizes[0] if name == "M" else _batch(measured)
        clauses.append(
            Clause(
                _("at fixed {name} = {value}, slower", name=name, value=value),
                bool(times[-1] > (1 + CLEARLY) * times[0]),
                _(
                    "K = {steps}: {times} times the time of the first, per example",
                    steps=listed([str(k) for k in measured.accumulation_steps]),
                    times=listed([f"{t / times[0]:.2f}" for t in times]),
                ),
            )
        )
    return clauses


def _halvings(batch: int) -> list[int]:
    return [2**i for i in range(batch.bit_length()) if batch % 2**i == 0]


def _batch(measured: Pace) -> int:
    return int(measured.micro_batch_sizes[0] * measured.accumulation_steps[0])


def _gib(*values: int) -> str:
    return listed([f"{v / GIB:.2f}" for v in values])
