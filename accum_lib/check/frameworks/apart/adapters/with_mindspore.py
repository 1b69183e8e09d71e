"""MindSpore: ``mindspore.boost.GradientAccumulation`` around an optimizer, in float32."""

from typing import Any

import mindspore as ms
import numpy as np
from adapter import Case, arrays, flat, serve, windows
from mindspore import Tensor, nn, ops
from mindspore.boost import GradientAccumulation


class Run:
    """A linear model, SGD, and the parameters after each micro-batch."""

    def __init__(self, case: Case) -> None:
        self.net = nn.Dense(len(case["weight"]), len(case["bias"]))
        self.net.weight.set_data(Tensor(np.array(case["weight"], np.float32).T))
        self.net.bias.set_data(Tensor(np.array(case["bias"], np.float32)))
        self.optimizer = nn.SGD(self.net.trainable_params(), case["rate"])
        self.taken, self.found = 0, {"dtype": "float32", "start": self.now(), "updates": []}

    def now(self) -> list[float]:
        return flat(self.net.weight.asnumpy().T, self.net.bias.asnumpy())

    def gradients(self, batch: Any, reduction: str) -> Any:
        """The loss and its gradients."""
        x, y = Tensor(batch[0]), Tensor(batch[1].astype(np.int32))
        self.taken += 1
        return ms.value_and_grad(
            lambda: ops.cross_entropy(self.net(x), y, reduction=reduction), None, self.optimizer.parameters
        )()

    def note(self) -> None:
        self.found["updates"].append((self.taken, self.now()))


def documented(case: Case) -> dict[str, Any]:
    run = Run(case)
    accumulate = GradientAccumulation(case["accumulation_steps"], run.optimizer)
    for _ in range(case["epochs"]):
        for batch in arrays(case, np.float32):
            accumulate(*run.gradients(batch, "mean"))
            run.note()
    return run.found


def mended(case: Case) -> dict[str, Any]:
    """Windows by hand, each gradient sum over the window's rows."""
    run = Run(case)
    for _ in range(case["epochs"]):
        for window in windows(arrays(case, np.float32), case["accumulation_steps"]):
            total = sum(len(y) for _, y in window)
            every = [run.gradients(batch, "sum")[1] for batch in window]
            run.optimizer(tuple(sum(parts) / total for parts in zip(*every, strict=True)))
            run.note()
    return run.found


serve(documented, mended)
