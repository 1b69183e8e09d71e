"""mlx-lm: ``grad_accumulation_steps`` of its tuner, in float32: no other weights are saved."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from adapter import Case, arrays, flat, serve, windows
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, train

mx.set_default_device(mx.cpu)


def mean_loss(model: nn.Module, inputs: Any, labels: Any) -> Any:
    """As the tuner's own: a mean over what counts, and its number."""
    return nn.losses.cross_entropy(model(inputs), labels).mean(), mx.array(len(labels))


def weighted_loss(model: nn.Module, inputs: Any, labels: Any, weight: Any) -> Any:
    """A sum, times K over what counts in the window, since the tuner divides by K."""
    return nn.losses.cross_entropy(model(inputs), labels).sum() * weight, mx.array(len(labels))


def documented(case: Case) -> dict[str, Any]:
    data = [(mx.array(x, mx.float32), mx.array(y)) for x, y in arrays(case)]
    return fit(case, mean_loss, data)


def mended(case: Case) -> dict[str, Any]:
    """Batches of no weight fill up the last window."""
    data, steps = [], case["accumulation_steps"]
    for window in windows(arrays(case), steps):
        total = sum(len(y) for _, y in window)
        shares = [steps / total] * len(window) + [0.0] * (steps - len(window))
        filled = [*window, *[window[-1]] * (steps - len(window))]
        data += [
            (mx.array(x, mx.float32), mx.array(y), mx.array(share))
            for (x, y), share in zip(filled, shares, strict=True)
        ]
    return fit(case, weighted_loss, data)


def fit(case: Case, loss: Any, data: list[Any]) -> dict[str, Any]:
    model, updates = nn.Linear(len(case["weight"]), len(case["bias"])), []
    model.weight = mx.array(np.array(case["weight"]).T)
    model.bias = mx.array(case["bias"])
    start = now(model)
    length, filled = len(case["labels"]), len(data)

    class Note(TrainingCallback):
        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            epoch, inside = divmod(info["iteration"], filled)
            updates.append((epoch * length + min(inside, length), now(model)))

    def in_order(**_: Any) -> Iterator[Any]:
        return itertools.cycle(data)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArgs(
            iters=case["epochs"] * filled, steps_per_report=1,
            grad_accumulation_steps=case["accumulation_steps"], adapter_file=str(Path(folder, "kept")),
        )  # fmt: skip
        train(
            model, optim.SGD(case["rate"]), data, args=arguments, loss=loss, iterate_batches=in_order,
            training_callback=Note(),
        )  # fmt: skip
    return {"dtype": "float32", "start": start, "updates": updates}


def now(model: nn.Module) -> list[float]:
    return flat(np.array(model.weight).T, np.array(model.bias))


serve(documented, mended)
