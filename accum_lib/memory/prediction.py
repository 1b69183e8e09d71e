"""The memory of an update for every M and K, from a few short traces and without allocating it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial

import numpy as np

from accum_lib.memory.cpu import CPU
from accum_lib.memory.cuda import CUDA
from accum_lib.memory.layers import trace
from accum_lib.memory.lines import Lines, envelope, through
from accum_lib.memory.records import CATEGORIES, Peaks, Timeline
from accum_lib.memory.settings import Settings
from accum_lib.memory.splice import TRACED_STEPS, Splice, second_pass, splice
from accum_lib.memory.trace import UntraceableError
from accum_lib.memory.trace.device import Device
from accum_lib.memory.trace.storages import Tape
from accum_lib.memory.workloads import Workload
from accum_lib.words import first_line

TRACED = (2, 16, 7)  # two values of M make the lines, the third has to lie on them (of an unknown model)
LARGEST_M = 2**20
FEW = 3  # so many M of an octave are traced each by itself, before lines through the octave are tried


def predict(
    workload: Workload,
    settings: Settings | None = None,
    device: str | Device = "cuda",
    hopper: bool = True,
) -> "Prediction":
    """Trace an update and predict its memory for every M and K.

    Args:
        workload: what is trained.
        settings: how; AdamW in float32 by default.
        device: "cuda" or "cpu", or a ``CUDA`` with particulars: what the prediction is for. It is made
            on any machine.
        hopper: of "cuda": compute capability 9.0 or higher.

    Raises:
        UntraceableError: the model reads values, or runs an operator whose memory is not known.
        TraceMismatchError: the traces do not line up.
    """
    settings = settings or Settings()
    if isinstance(device, str):
        return _traced_once(workload, settings, device, hopper)
    return _traced(workload, settings, _device(device, settings, hopper))


def _traced(workload: Workload, settings: Settings, described: Device) -> "Prediction":
    sizes = TRACED[:2] if workload.known else TRACED
    tapes = {m: _trace(workload, m, settings, described) for m in sizes}
    own = partial(_own, workload, settings, described)
    return Prediction(workload.name, settings, described, through(tapes), own)


@lru_cache(maxsize=64)
def _traced_once(workload: Workload, settings: Settings, device: str, hopper: bool) -> "Prediction":
    """Traced once: it serves every M, K, B and card of the kind."""
    return _traced(workload, settings, _device(device, settings, hopper))


def _trace(workload: Workload, micro_batch_size: int, settings: Settings, device: Device) -> Tape:
    """A trace, and in one sentence what the model or PyTorch says against it."""
    try:
        return trace(workload, micro_batch_size, TRACED_STEPS, settings, device)
    except UntraceableError:
        raise
    except Exception as error:  # whatever a model raises
        raise UntraceableError(
            f"{workload.name} cannot be traced in {settings.precision} for {device.name} with a micro-batch "
            f"of {micro_batch_size}: {first_line(error)}"
        ) from error


def _own(workload: Workload, settings: Settings, device: Device, micro_batch_size: int) -> Lines:
    """From a trace of this very M; what is raised at M = 1, ``Prediction`` puts into words."""
    if micro_batch_size == 1:
        tape = trace(workload, 1, TRACED_STEPS, settings, device)
    else:
        tape = _trace(workload, micro_batch_size, settings, device)
    return Lines(tape, tape.nbytes.astype(float), np.zeros(len(tape.nbytes)))


def _device(device: str | Device, settings: Settings, hopper: bool) -> Device:
    if isinstance(device, Device):
        return device
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda'; got {device!r}")
    return CPU() if device == "cpu" else CUDA(attention=settings.attention, hopper=hopper)


@dataclass(frozen=True)
class Requests:
    """What an update asks of an allocator, in order.

    Attributes:
        resident_bytes: (residents,) what is there before: parameters, buffers, the window's inputs.
        optimizer_bytes: (states,) the optimizer's state, which its first update makes.
        update_at: the event with which the optimizer begins.
        nbytes: (storages,) the size of each.
        storage, sign: (events,) whose birth (+1) or death (-1) it is.
    """

    resident_bytes: np.ndarray
    optimizer_bytes: np.ndarray
    update_at: int
    nbytes: np.ndarray
    storage: np.ndarray
    sign: np.ndarray


class Prediction:
    """Bytes of one update, for every micro-batch size M and number of accumulation steps K.

    Args:
        name: of what is trained.
        settings, device: how, and what the prediction speaks for.
        lines: every storage's size for every M >= 2, from traces with K = 2.
        own: gives them for one M alone. It is called when that is needed: for M = 1, a case of its own (some
            models copy less then, and some refuse it), and for every M if the lines are not straight.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        device: Device,
        lines: Lines,
        own: Callable[[int], Lines],
    ) -> None:
        self.name, self.settings, self.device, self.lines = name, settings, device, lines
        self._own = cache(own)
        self._octaves: dict[int, Lines | None] = {}
        self._asked: dict[int, set[int]] = {}
        self._splices: dict[tuple[int, int, bool], Splice] = {}

    @cached_property
    def _of_one(self) -> Lines | Exception:
        try:
            return self._own(1)
        except (ValueError, RuntimeError) as error:
            return error

    def takes(self, micro_batch_size: int) -> bool:
        """Whether the model runs with this M (BatchNorm over features refuses a single sample)."""
        return micro_batch_size > 1 or not isinstance(self._of_one, Exception)

    def smallest(self) -> int:
        """The smallest M that the model takes."""
        return 1 if self.takes(1) else 2

    def peak_bytes(self, micro_batch_size: int, accumulation_steps: int = 1) -> int:
        """The most bytes alive at once, as the device's allocator rounds them.

        Raises:
            ValueError: M or K is below 1.
        """
        _check(micro_batch_size, accumulation_steps)
        return int(self._levels(micro_batch_size, accumulation_steps).max())

    def requested_bytes(self, micro_batch_size: int, accumulation_steps: int = 1) -> int:
        """The same without rounding any request, the workspace included: what the trace itself says."""
        _check(micro_batch_size, accumulation_steps)
        lines = self._lines(micro_batch_size)
        cut = self._cut(lines, accumulation_steps, short=True)
        return int(cut.levels(lines.nbytes(micro_batch_size)).max()) + self.device.workspace_bytes

    def floor_bytes(self, accumulation_steps: int = 1) -> int:
        """What the peak tends to as M gets smaller: the highest of the parts that do not depend on M."""
        _check(1, accumulation_steps)
        return int(self._levels(0, accumulation_steps).max())

    def peaks(self, micro_batch_sizes: Iterable[int], accumulation_steps: Iterable[int]) -> Peaks:
        """The peak over a grid."""
        sizes, steps = list(micro_batch_sizes), list(accumulation_steps)
        return Peaks(
            np.array(sizes),
            np.array(steps),
            np.array([[self.peak_bytes(m, k) for m in sizes] for k in steps]),
            np.array([self.floor_bytes(k) for k in steps]),
        )

    def envelope(self, accumulation_steps: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The lines ``constant + per_sample * M`` that are the peak of the requested bytes somewhere.

        Scratch that is no straight line is left out.
        """
        cut = self._cut(self.lines, accumulation_steps)
        constant = cut.levels(self.lines.constant) + self.device.workspace_bytes
        return envelope(constant, cut.levels(self.lines.per_sample))

    def largest_micro_batch(self, limit_bytes: float, accumulation_steps: int = 1) -> int:
        """The largest M whose peak is within the limit; 0 if none is."""

        def fits(size: int) -> bool:
            return self.peak_bytes(size, accumulation_steps) <= limit_bytes

        if not fits(2):
            return 1 if self.takes(1) and fits(1) else 0
        low, high = 2, 4
        while high <= LARGEST_M and fits(high):
            low, high = high, 2 * high
        return last_that(fits, low, high)

    def flops(self, micro_batch_size: int, accumulation_steps: int = 1) -> float:
        """Floating-point operations of all passes of one update; what is recomputed counts each time."""
        _check(micro_batch_size, accumulation_steps)
        tape = self.lines.tape
        return float(tape.flops[second_pass(tape)].sum()) / TRACED[0] * micro_batch_size * accumulation_steps

    def operators(self, accumulation_steps: int = 1) -> int:
        """How many operators all passes of one update start, whatever M is."""
        _check(1, accumulation_steps)
        return len(self.lines.tape.flops[second_pass(self.lines.tape)]) * accumulation_steps

    def resident_bytes(self) -> int:
        """Parameters, their gradients and the optimizer's state: what sharding would split between cards."""
        tape, nbytes = self.lines.tape, self.lines.constant
        whole = [nbytes[tape.category == c].sum() for c in ("parameters", "optimizer state")]
        gradients = self.timeline(2, 2).bytes_by_category[CATEGORIES.index("gradients")].max()
        return int(sum(whole) + gradients)

    def part_at_peak(self, numbers: int, micro_batch_size: int, accumulation_steps: int = 1) -> float:
        """The part of the peak that is in tensors of so many numbers for each example, such as logits."""
        lines = self._lines(micro_batch_size)
        cut = self._cut(lines, accumulation_steps, short=True)
        nbytes = lines.nbytes(micro_batch_size)
        total = cut.levels(nbytes)
        alike = np.isin(nbytes, [micro_batch_size * numbers * size for size in (2, 4)])
        return float(cut.levels(np.where(alike, nbytes, 0))[int(total.argmax())] / total.max())

    def timeline(self, micro_batch_size: int, accumulation_steps: int = 1, moments: int = 160) -> Timeline:
        """Bytes by category over one update, at the fullest moment of each of ``moments`` slices."""
        _check(micro_batch_size, accumulation_steps)
        lines = self._lines(micro_batch_size)
        cut = self._cut(lines, accumulation_steps)
        nbytes = lines.nbytes(micro_batch_size, self.device.granularity)
        parts = np.array([cut.levels(nbytes, category) for category in CATEGORIES])
        parts[CATEGORIES.index("workspace")] += self.device.workspace_bytes
        total = parts.sum(axis=0)
        chosen = _fullest(cut.operator, total, moments)
        peak = int(total.argmax())
        return Timeline(
            micro_batch_size=micro_batch_size,
            accumulation_steps=accumulation_steps,
            operators=cut.operator[chosen],
            bytes_by_category=parts[:, chosen],
            phases=cut.phases,
            peak_bytes=int(total[peak]),
            peak_phase=[n for n, first in cut.phases if first <= cut.operator[peak]][-1],
        )

    def requests(self, micro_batch_size: int, accumulation_steps: int = 1) -> Requests:
        """Every request for memory, for a replay of an allocator."""
        _check(micro_batch_size, accumulation_steps)
        lines = self._lines(micro_batch_size)
        cut, tape = self._cut(lines, accumulation_steps), lines.tape
        nbytes = lines.nbytes(micro_batch_size).round().astype(np.int64)
        inputs, states = (tape.resident & (tape.category == c) for c in ("inputs", "optimizer state"))
        batches = np.tile(nbytes[inputs][: inputs.sum() // TRACED_STEPS], accumulation_steps)
        return Requests(
            resident_bytes=np.concatenate([nbytes[tape.resident & ~inputs & ~states], batches]),
            optimizer_bytes=nbytes[states],
            update_at=cut.update_at,
            nbytes=nbytes,
            storage=tape.storage[cut.event],
            sign=tape.sign[cut.event],
        )

    def _levels(self, micro_batch_size: int, accumulation_steps: int) -> np.ndarray:
        lines = self._lines(micro_batch_size)
        cut = self._cut(lines, accumulation_steps, short=True)
        return (
            cut.levels(lines.nbytes(micro_batch_size, self.device.granularity)) + self.device.workspace_bytes
        )

    def _lines(self, micro_batch_size: int) -> Lines:
        if micro_batch_size != 1:
            straight = self.lines.straight or not micro_batch_size
            return self.lines if straight else self._curved(micro_batch_size)
        if isinstance(self._of_one, Exception):
            raise ValueError(f"{self.name} does not take M = 1: {self._of_one}") from self._of_one
        return self._of_one

    def _curved(self, micro_batch_size: int) -> Lines:
        """Where scratch is no straight line over all M: from a trace of this M, or lines over its octave."""
        octave = (micro_batch_size - 1).bit_length()  # above 2 ** (octave - 1), up to 2 ** octave
        asked = self._asked.setdefault(octave, set())
        asked.add(micro_batch_size)
        if len(asked) <= FEW or octave < 3:
            return self._own(micro_batch_size)
        if octave not in self._octaves:
            self._octaves[octave] = self._straight_between(2 ** (octave - 1), 2**octave)
        return self._octaves[octave] or self._own(micro_batch_size)

    def _straight_between(self, low: int, high: int) -> Lines | None:
        """Lines through both ends, if what is traced in the middle is on them."""
        try:
            lines = through({m: self._own(m).tape for m in (low, high, (low + high) // 2)})
        except ValueError:  # the traces do not line up, or a kernel cannot be tried at this size
            return None
        return lines if lines.straight else None

    def _cut(self, lines: Lines, accumulation_steps: int, short: bool = False) -> Splice:
        key = id(lines), accumulation_steps, short
        if key not in self._splices:
            self._splices[key] = splice(lines.tape, accumulation_steps, short)
        return self._splices[key]


def last_that(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number of which it holds, by halving; it holds of ``low`` and not of ``high``."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _fullest(operator: np.ndarray, total: np.ndarray, moments: int) -> np.ndarray:
    """For each slice of the operators, the event after which most is alive."""
    edges = np.linspace(0, operator[-1] + 1, moments + 1)
    starts = np.unique(np.searchsorted(operator, edges[:-1]))
    starts = starts[starts < len(operator)]
    return np.array(
        [s + int(part.argmax()) for s, part in zip(starts, np.split(total, starts[1:]), strict=True)]
    )


def _check(micro_batch_size: int, accumulation_steps: int) -> None:
    if micro_batch_size < 1:
        raise ValueError(f"the micro-batch size M must be 1 or more; got {micro_batch_size}")
    if accumulation_steps < 1:
        raise ValueError(f"the accumulation steps K must be 1 or more; got {accumulation_steps}")


def leanest(prediction: Prediction) -> int:
    """The lowest peak that accumulation can reach."""
    return prediction.peak_bytes(prediction.smallest(), 2)
