"""One B, cut into K micro-batches for several K: do the loss curves lie on top of each other?

They do, up to rounding, unless the model draws random numbers (dropout), for each forward pass
draws its own, or normalises by the examples of a pass (BatchNorm). Whether other random numbers matter is
seen beside one big batch that is trained once more with others.

How far a window's gradient is from the exact one in 32 and in 16 bits, whole and accumulated.

Autocast runs the forward and backward pass of each micro-batch in 16 bits where that is safe; weights, and
the ``.grad`` in which micro-batches add up, stay in float32 (Micikevicius et al. 2018, arXiv 1710.03740).

Small runs of the real trainer, for notebook 06: one that trains, and one that is stopped and resumed.
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from accum_lib.accumulate import LossSum, accumulate
from accum_lib.check.case import cast
from accum_lib.descent import Run, descend
from accum_lib.lessons.roberta.record import FixedBatch, PrecisionError
from accum_lib.losses import in_precision
from accum_lib.machine import one_thread
from accum_lib.memory.settings import PRECISIONS
from accum_lib.problems.base import Problem
from accum_lib.training.data import TextData
from accum_lib.training.data.sources import load_data
from accum_lib.training.data.tasks import Classification
from accum_lib.training.models import load_model
from accum_lib.training.records import Training, UpdateRecord
from accum_lib.training.settings import TrainingSettings
from accum_lib.training.trainer import Trainer
from accum_lib.vectors import flat, gradient_of


def fixed_batch(
    problem: Problem,
    batch_size: int = 32,
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
    updates: int = 20,
    learning_rate: float | None = None,
) -> FixedBatch:
    """Train with each K from the same weights, on the same examples in each update.

    Args:
        problem: what is trained, with SGD.
        batch_size: B, which each K must divide.
        steps: the K's; the first must be 1.
        updates: U, how many are compared.
        learning_rate: None takes the problem's own.

    Raises:
        ValueError: the first K is not 1, or one of them does not divide B.
    """
    if steps[0] != 1:
        raise ValueError(f"the first K must be 1, one big batch, with which others are compared; got {steps}")
    if odd := [k for k in steps if batch_size % k]:
        raise ValueError(f"each K must divide B = {batch_size}; {odd} do not")

    def train(k: int, masks: int = 0) -> Run:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(masks)
            return descend(
                problem,
                micro_batch_size=batch_size // k,
                accumulation_steps=k,
                learning_rate=learning_rate,
                epochs=-(-updates * batch_size // problem.num_samples) + 1,
                max_updates=updates,
            )

    runs, again = [train(k) for k in steps], train(1, masks=1)
    start, end = flat(problem.make_model().parameters()), flat(runs[0].model.parameters())
    way = float((end - start).norm())
    return FixedBatch(
        name=problem.name,
        parameters=len(start),
        batch_size=batch_size,
        steps=steps,
        losses=np.array([run.losses for run in runs]),
        again=again.losses,
        distances=np.array([float((flat(run.model.parameters()) - end).norm()) / way for run in runs]),
        distance_again=float((flat(again.model.parameters()) - end).norm()) / way,
        batch_norm=any(isinstance(layer, _BatchNorm) for layer in again.model.modules()),
    )


SHOWN_PRECISIONS = ("fp32", "bf16")  # float16 needs a loss scale, which is another lesson


def precision_errors(
    problem: Problem, batch_size: int = 32, steps: Sequence[int] = (1, 8)
) -> list[PrecisionError]:
    """The first window's gradient in each precision and for each K, against one big batch in float64.

    Args:
        problem: its first ``batch_size`` samples are the window; its model must draw no random numbers.
        batch_size: B.
        steps: the K's; B / K examples in each micro-batch.
    """
    exact = _gradient(problem.make_model().double(), problem, batch_size, 1, problem.loss_sum)
    model = problem.make_model()
    found = []
    for precision in SHOWN_PRECISIONS:
        loss_sum = in_precision(problem.loss_sum, PRECISIONS[precision], "cpu")
        for k in steps:
            gradient = _gradient(model, problem, batch_size, k, loss_sum)
            found.append(PrecisionError(precision, k, float((gradient - exact).norm() / exact.norm())))
    return found


def _gradient(model: nn.Module, problem: Problem, batch_size: int, steps: int, loss_sum: LossSum) -> Tensor:
    model.zero_grad(set_to_none=True)
    dtype = next(model.parameters()).dtype
    parts = torch.arange(batch_size).split(batch_size // steps)
    window = [cast(problem.batch(rows), dtype) for rows in parts]
    accumulate(model, window, loss_sum, problem.count)
    return gradient_of(model)


MAX_TOKENS = 48  # longer docstrings are cut, so that a run takes seconds


@dataclass(frozen=True)
class Rehearsal:
    """A finished small run.

    Attributes:
        updates: each as it was.
        training: how it ended, with its evaluations.
        majority: the share of the held-out data's most frequent label.
        model: in words.
    """

    updates: tuple[UpdateRecord, ...]
    training: Training
    majority: float
    model: str


class Stopped(Exception):  # noqa: N818
    """Raised on purpose, where a machine would have failed."""


def rehearse(
    epochs: int = 2, on_update: Callable[[UpdateRecord, int], None] = lambda update, planned: None
) -> Rehearsal:
    """Train tiny RoBERTa on docstrings, M = 8 and K = 4, on one thread.

    Args:
        epochs: passes over the data.
        on_update: called with each update, and how many there will be.
    """
    data, updates = load_data("docstrings"), []

    def tell(update: UpdateRecord) -> None:
        updates.append(update)
        on_update(update, trainer.planned)

    settings = TrainingSettings(epochs=epochs, learning_rate=1e-3)
    trainer, name = _trainer(data, settings, None, tell)
    with one_thread():
        training = trainer.run()
    held_out = [e.label for e in data.held_out]
    majority = max(held_out.count(label) for label in set(held_out)) / len(held_out)
    return Rehearsal(tuple(updates), training, majority, name)


def interrupted_and_not(updates: int = 6, stop_after: int = 3) -> tuple[str, str]:
    """Train ``updates`` updates, once with a failure and a resumption, once without; dropout is on.

    Returns:
        The final weights of both as fingerprints: equal only if all bits are.
    """
    data = load_data("docstrings")
    data = replace(data, held_out=data.held_out[:32])  # what is measured on the way changes nothing
    settings = TrainingSettings(max_updates=updates, save_every=1, learning_rate=1e-3)

    def fail(update: UpdateRecord) -> None:
        if update.update == stop_after:
            raise Stopped

    with tempfile.TemporaryDirectory() as folder, one_thread():
        trainer, _ = _trainer(data, settings, Path(folder, "stopped"), fail)
        try:
            trainer.run()
        except Stopped:
            trainer, _ = _trainer(data, settings, Path(folder, "stopped"))
            trainer.run(resume=True)
        straight, _ = _trainer(data, settings, Path(folder, "straight"))
        straight.run()
    return _fingerprint(trainer.model), _fingerprint(straight.model)


def _trainer(
    data: TextData, settings: TrainingSettings, output: Path | None,
    on_update: Callable[[UpdateRecord], None] = lambda update: None,
) -> tuple[Trainer, str]:  # fmt: skip
    loaded = load_model("tiny", "classification", data)
    train, held_out = (
        Classification(part, loaded.tokenizer, MAX_TOKENS) for part in (data.train, data.held_out)
    )
    trainer = Trainer(loaded.model, train, held_out, settings, output, device="cpu", on_update=on_update)
    return trainer, loaded.name


def _fingerprint(model: torch.nn.Module) -> str:
    return hashlib.sha256(flat(model.parameters(), dtype=None).numpy().tobytes()).hexdigest()
