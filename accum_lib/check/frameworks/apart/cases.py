"""Cases as arrays: a softmax regression, whose gradients are written out here in NumPy and float64."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FEATURES, CLASSES, EPOCHS, RATE, EVEN_ROWS, MOST_ROWS = 15, 4, 2, 0.1, 4, 6


@dataclass(frozen=True)
class ArrayCase:
    """Micro-batches of rows, each with a label; the loss is the mean cross-entropy over a window's rows.

    Attributes:
        name: such as "K = 3, ragged, tail".
        accumulation_steps: K.
        inputs: for each micro-batch its rows, of ``FEATURES`` numbers.
        labels: for each micro-batch the classes of its rows.
        weight, bias: the parameters at first.
        epochs, rate: of plain SGD; the micro-batches come in the same order each time.
    """

    name: str
    accumulation_steps: int
    inputs: list[list[list[float]]]
    labels: list[list[int]]
    weight: list[list[float]]
    bias: list[float]
    epochs: int = EPOCHS
    rate: float = RATE

    @property
    def counts(self) -> Array:
        """How many rows each micro-batch has."""
        return np.array([len(rows) for rows in self.labels], dtype=float)

    def windows(self) -> list[range]:
        """The micro-batches of each update of one epoch; the last window may be shorter."""
        total, steps = len(self.labels), self.accumulation_steps
        return [range(start, min(start + steps, total)) for start in range(0, total, steps)]

    def means(self, parameters: Array) -> Array:
        """The gradient of each micro-batch's mean loss at these parameters, a row for each."""
        weight = parameters[: FEATURES * CLASSES].reshape(FEATURES, CLASSES)
        bias = parameters[FEATURES * CLASSES :]
        rows = []
        for inputs, labels in zip(self.inputs, self.labels, strict=True):
            x, y = np.array(inputs), np.eye(CLASSES)[labels]
            logits = x @ weight + bias
            scores = np.exp(logits - logits.max(axis=1, keepdims=True))
            error = (scores / scores.sum(axis=1, keepdims=True) - y) / len(labels)
            rows.append(np.concatenate([(x.T @ error).ravel(), error.sum(axis=0)]))
        return np.array(rows)

    def start(self) -> Array:
        """The parameters at first, as one vector: the weight's rows, then the bias."""
        return np.concatenate([np.array(self.weight).ravel(), np.array(self.bias)])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def array_cases() -> list[ArrayCase]:
    """K of 2, 3, 4 and 8, even and ragged; without a tail, with one, and with an epoch shorter than K."""
    cases = []
    for steps in (2, 3, 4, 8):
        for rows in ("even", "ragged"):
            lengths = {"whole windows": 2 * steps, "tail": 2 * steps + (steps + 1) // 2, "short": steps - 1}
            for end, length in lengths.items():
                cases.append(array_case(f"K = {steps}, {rows}, {end}", steps, length, rows == "ragged"))
    return cases


def array_case(name: str, steps: int, length: int, ragged: bool) -> ArrayCase:
    """A case of ``length`` micro-batches, drawn from a seed."""
    draw = np.random.default_rng([steps, length, ragged])
    rows = [1 + (3 * i + i // 3) % MOST_ROWS if ragged else EVEN_ROWS for i in range(length)]
    return ArrayCase(
        name=name,
        accumulation_steps=steps,
        inputs=[draw.normal(size=(n, FEATURES)).tolist() for n in rows],
        labels=[draw.integers(CLASSES, size=n).tolist() for n in rows],
        weight=(0.3 * draw.normal(size=(FEATURES, CLASSES))).tolist(),
        bias=np.zeros(CLASSES).tolist(),
    )
