"""Keras 3 on torch: ``gradient_accumulation_steps`` of an optimizer, ``fit``, and the average of weights."""

import os

os.environ["KERAS_BACKEND"] = "torch"

from typing import Any

import keras
import numpy as np
from adapter import Case, arrays, flat, serve, windows

keras.config.set_floatx("float64")
MOMENTUM = 0.9


class InOrder(keras.utils.PyDataset):
    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]


class Note(keras.callbacks.Callback):
    """Keeps the parameters after each batch: an update has changed them or it has not."""

    def __init__(self, weights: Any, length: int, filled: int) -> None:
        super().__init__()
        self.weights, self.length, self.filled = weights, length, filled
        self.taken, self.updates = 0, []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.taken += 1
        epoch, inside = divmod(self.taken, self.filled)
        self.updates.append((epoch * self.length + min(inside, self.length), flat(*self.weights())))


class Average(keras.callbacks.Callback):
    """The mended moving average: at every K-th batch alone."""

    def __init__(self, weights: Any, steps: int) -> None:
        super().__init__()
        self.weights, self.steps, self.taken, self.average = weights, steps, 0, None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.taken += 1
        if self.taken % self.steps == 0:
            now = np.array(flat(*self.weights()))
            first = self.average is None
            self.average = now if first else MOMENTUM * self.average + (1 - MOMENTUM) * now


def documented(case: Case) -> dict[str, Any]:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return fit(case, loss, arrays(case), use_ema=True, ema_momentum=MOMENTUM)


def mended(case: Case) -> dict[str, Any]:
    """Sums, weighted by K over the window's rows; batches of no weight fill up the last window."""
    steps, batches = case["accumulation_steps"], []
    for window in windows(arrays(case), steps):
        total = sum(len(y) for _, y in window)
        batches += [(x, y, np.full(len(y), steps / total)) for x, y in window]
        x, y = window[-1]
        batches += [(x, y, np.zeros(len(y)))] * (steps - len(window))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    return fit(case, loss, batches)


def fit(case: Case, loss: Any, batches: list[Any], **average: Any) -> dict[str, Any]:
    keras.backend.clear_session()
    dense, steps = keras.layers.Dense(len(case["bias"])), case["accumulation_steps"]
    model = keras.Sequential([keras.Input((len(case["weight"]),)), dense])
    dense.set_weights([np.array(case["weight"]), np.array(case["bias"])])
    optimizer = keras.optimizers.SGD(case["rate"], gradient_accumulation_steps=steps, **average)
    note = Note(dense.get_weights, len(case["labels"]), len(batches))
    ours = Average(dense.get_weights, steps)
    model.compile(optimizer, loss)
    model.fit(InOrder(batches), epochs=case["epochs"], shuffle=False, verbose=0, callbacks=[note, ours])
    if not average and ours.average is not None:
        return {"updates": note.updates, "average": ours.average.tolist(), "momentum": MOMENTUM}
    optimizer.finalize_variable_values(model.trainable_variables)  # as fit's end does: the average
    return {"updates": note.updates, "average": flat(*dense.get_weights()), "momentum": MOMENTUM}


serve(documented, mended)
