"""Two traces give every M: each storage's size is a straight line in M, so the bytes alive are, too.

At every event, the bytes alive are a sum of lines, hence a line; the peak is the highest of them, the
*upper envelope*. All of this rests on the two traces running the same operators in the same order, and on
sizes that do grow in proportion: both are checked, and a third trace has to lie on the lines of the two.

A few kernels take scratch space by a rule of their own. There the rule is kept, and the straight line is that
of what the rule is about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from accum_lib.memory.trace import TraceMismatchError
from accum_lib.memory.trace.storages import Tape

ROUNDING_BYTES = 0.01  # of float64, in computing a line; sizes are whole bytes
ROUNDED = 0.0005  # of the peak: so much may libraries round their scratch, to pages or to blocks


@dataclass(frozen=True)
class Lines:
    """Every storage's bytes as ``constant + per_sample * M``.

    Attributes:
        tape: what all traces have in common: events, categories, operators.
        constant, per_sample: (storages,) bytes; 0 for the scratch.
        scratch: for a few storages the bytes at any M, which are no straight line.
        straight: False if kernels that had to be tried take another scratch at each M: then every M needs a
            trace of its own.
    """

    tape: Tape
    constant: np.ndarray
    per_sample: np.ndarray
    scratch: Mapping[int, Callable[[float], int]] = field(default_factory=dict)
    straight: bool = True

    def nbytes(self, micro_batch_size: float, granularity: int = 1) -> np.ndarray:
        """(storages,) the bytes of each at this M, rounded up to the allocator's granularity."""
        exact = self.constant + self.per_sample * micro_batch_size
        for storage, nbytes in self.scratch.items():
            exact[storage] = nbytes(micro_batch_size)
        return exact if granularity == 1 else np.ceil(exact / granularity) * granularity


def through(tapes: Mapping[int, Tape]) -> Lines:
    """The lines through the tapes of two values of M; those of any further ones have to lie on them.

    Raises:
        TraceMismatchError: the tapes do not line up, or a storage's size is no straight line in M.
    """
    (a, first), (b, second), *others = tapes.items()
    for size, tape in list(tapes.items())[1:]:
        _check_same_events(a, first, size, tape)
    per_sample = (second.nbytes - first.nbytes) / (b - a)
    constant, scratch = first.nbytes - per_sample * a, {}
    for (storage, at_a), (_, at_b) in zip(first.scratch, second.scratch, strict=True):
        constant[storage] = per_sample[storage] = 0
        scratch[storage] = partial(_on_a_line, at_a.nbytes, (a, at_a.number), (b, at_b.number))
    lines = Lines(first, constant, per_sample, scratch)
    straight = [_check_on_line(lines, (a, b, size), tape) for size, tape in others]
    return replace(lines, straight=all(straight))


def _on_a_line(
    nbytes: Callable[[float], int], at_a: tuple[int, int], at_b: tuple[int, int], micro_batch_size: float
) -> int:
    (a, first), (b, second) = at_a, at_b
    return nbytes(first + (second - first) / (b - a) * (micro_batch_size - a))


def envelope(constant: np.ndarray, per_sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lines that are highest somewhere in M >= 0, from the flattest to the steepest.

    Returns:
        ``constant`` and ``per_sample`` of those lines alone.
    """
    order = np.lexsort((-constant, per_sample))
    kept: list[tuple[float, float]] = []
    for c, s in zip(constant[order], per_sample[order], strict=True):
        if kept and s == kept[-1][1]:
            continue  # parallel and not higher
        while kept and (c >= kept[-1][0] or (len(kept) > 1 and _never_highest(kept[-2], kept[-1], (c, s)))):
            kept.pop()
        kept.append((float(c), float(s)))
    constants, slopes = zip(*kept, strict=True)
    return np.array(constants), np.array(slopes)


def _never_highest(left: tuple, middle: tuple, right: tuple) -> bool:
    """Whether ``right`` overtakes ``left`` before ``middle`` does."""
    return (left[0] - right[0]) * (middle[1] - left[1]) <= (left[0] - middle[0]) * (right[1] - left[1])


def _check_same_events(a: int, first: Tape, b: int, second: Tape) -> None:
    if first.operators != second.operators:
        pairs = zip(first.operators, second.operators, strict=False)
        shorter = min(len(first.operators), len(second.operators))
        at = next((i for i, (x, y) in enumerate(pairs) if x != y), shorter)
        raise _mismatch(f"operator {at} is {_at(first, at)} at M = {a} and {_at(second, at)} at M = {b}")
    for what in ("storage", "sign", "operator"):
        x, y = getattr(first, what), getattr(second, what)
        if len(x) != len(y) or (x != y).any():
            shorter = min(len(x), len(y))
            at = int(np.argmax(x[:shorter] != y[:shorter])) if (x[:shorter] != y[:shorter]).any() else shorter
            operator = first.operators[min(first.operator[min(at, len(x) - 1)], len(first.operators) - 1)]
            raise _mismatch(f"around {operator}, storages live and die otherwise at M = {a} than at M = {b}")


def _at(tape: Tape, index: int) -> str:
    return tape.operators[index] if index < len(tape.operators) else "none"


def _check_on_line(lines: Lines, sizes: tuple[int, int, int], tape: Tape) -> bool:
    """Whether what the tried kernels held is on its lines, as all else has to be."""
    a, b, c = sizes
    off = np.abs(lines.nbytes(c) - tape.nbytes)
    tried = [storage for storage, _ in tape.tried]
    straight = bool(off[tried].sum() <= ROUNDED * _peak(tape))
    off[tried] = 0
    worst = int(off.argmax())
    if off[worst] > ROUNDING_BYTES:
        raise _mismatch(
            f"a tensor made by {_maker(tape, worst)} has {tape.nbytes[worst]:,} bytes at M = {c}, where a "
            f"straight line through M = {a} and {b} has {lines.nbytes(c)[worst]:,.0f}"
        )
    return straight


def _peak(tape: Tape) -> float:
    alive = np.cumsum(tape.nbytes[tape.storage] * tape.sign)
    return float(alive.max() + tape.nbytes[tape.resident].sum())


def _maker(tape: Tape, storage: int) -> str:
    births = np.flatnonzero((tape.storage == storage) & (tape.sign > 0))
    if not len(births):
        return "no operator (it was there before)"
    return tape.operators[max(0, int(tape.operator[births[0]]) - 1)]


def _mismatch(what: str) -> TraceMismatchError:
    return TraceMismatchError(
        f"the traces do not line up: {what}. So no other M can be predicted: predict the M that you "
        "want by a trace of its own (trace_update), or make the model do the same for every M"
    )
