"""Before something runs on this machine: would it fit? If not, say so instead of being killed halfway."""

from accum_lib.machine import GIB, Machine, this_machine
from accum_lib.memory.prediction import Prediction, predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload
from accum_lib.words import _

RESERVE_BYTES = GIB // 4  # for what is not tensors: Python's objects, a data loader, the notebook itself


class WouldNotFitError(MemoryError):
    """The predicted peak exceeds what is free."""


def guard(
    workload: Workload,
    micro_batch_size: int,
    accumulation_steps: int = 1,
    settings: Settings | None = None,
    machine: Machine | None = None,
) -> Prediction:
    """Return the prediction of this update on the CPU if it fits into what is free now.

    Args:
        workload, micro_batch_size, accumulation_steps, settings: what is about to run.
        machine: where; by default the machine that runs this.

    Raises:
        WouldNotFitError: it does not; the message has the numbers, and the largest M that would fit.
    """
    found = predict(workload, settings or Settings(implementation="for-loop"), "cpu")
    free = (machine or this_machine()).free_bytes - RESERVE_BYTES
    peak = found.peak_bytes(micro_batch_size, accumulation_steps)
    refuse_unless_fits(found, workload.name, micro_batch_size, accumulation_steps, peak, free)
    return found


def refuse_unless_fits(
    found: Prediction, name: str, micro_batch_size: int, accumulation_steps: int, peak: int, free: float
) -> None:
    """Compare bytes, and say what would fit.

    Raises:
        WouldNotFitError: the peak exceeds what is free.
    """
    if peak <= free:
        return
    largest = found.largest_micro_batch(free, 2)
    floor = found.floor_bytes(2) / GIB
    advice = (
        _("Take M = {largest} or less, and more accumulation steps", largest=largest)
        if largest
        else _("No M is small enough: {floor:.2f} GiB are needed in any case", floor=floor)
    )
    raise WouldNotFitError(
        _(
            "{name} with M = {m}, K = {k} is predicted to need {peak:.2f} GiB, and {free:.2f} GiB are free "
            "here. {advice}.",
            name=name,
            m=micro_batch_size,
            k=accumulation_steps,
            peak=peak / GIB,
            free=max(0, free) / GIB,
            advice=advice,
        )
    )
