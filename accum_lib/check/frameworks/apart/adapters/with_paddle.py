"""PaddlePaddle: ``Model.fit(accumulate_grad_batches=K)``."""

from typing import Any

import numpy as np
import paddle
from adapter import Case, arrays, flat, serve, windows

paddle.set_default_dtype("float64")


def documented(case: Case) -> dict[str, Any]:
    net, optimizer, updates = start(case)
    model = paddle.Model(net)
    model.prepare(optimizer, paddle.nn.CrossEntropyLoss())
    model.fit(
        Loader(case), epochs=case["epochs"], accumulate_grad_batches=case["accumulation_steps"],
        shuffle=False, verbose=0, callbacks=[Note(net, updates)],
    )  # fmt: skip
    return {"updates": updates}


def mended(case: Case) -> dict[str, Any]:
    """Windows by hand, each loss sum over the window's rows."""
    net, optimizer, updates = start(case)
    taken = 0
    for _ in range(case["epochs"]):
        for window in windows(tensors(case), case["accumulation_steps"]):
            for x, y in window:
                loss = paddle.nn.functional.cross_entropy(net(x), y, reduction="sum")
                (loss / sum(len(each) for _, each in window)).backward()
                taken += 1
            optimizer.step()
            optimizer.clear_grad()
            updates.append((taken, now(net)))
    return {"updates": updates}


class Loader(paddle.io.DataLoader):
    """Ready batches; ``Model.fit`` makes a loader of its own of anything else."""

    def __init__(self, case: Case) -> None:
        self.items = tensors(case)
        self.batch_sampler = self.items

    def __iter__(self) -> Any:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Note(paddle.callbacks.Callback):
    def __init__(self, net: Any, updates: list[Any]) -> None:
        super().__init__()
        self.net, self.updates, self.taken = net, updates, 0

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.taken += 1
        self.updates.append((self.taken, now(self.net)))


def start(case: Case) -> tuple[Any, Any, list[Any]]:
    net = paddle.nn.Linear(len(case["weight"]), len(case["bias"]))
    net.weight.set_value(np.array(case["weight"]))
    net.bias.set_value(np.array(case["bias"]))
    return net, paddle.optimizer.SGD(case["rate"], parameters=net.parameters()), []


def tensors(case: Case) -> list[Any]:
    return [(paddle.to_tensor(x), paddle.to_tensor(y)) for x, y in arrays(case)]


def now(net: Any) -> list[float]:
    return flat(net.weight.numpy(), net.bias.numpy())


serve(documented, mended)
