"""Small runs of the real trainer, for notebook 06: one that trains, and one that is stopped and resumed."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from accum_lib.records.training import Training, Update
from accum_lib.roberta.data import TextData, load_data
from accum_lib.roberta.models import load_model
from accum_lib.roberta.settings import TrainingSettings
from accum_lib.roberta.tasks import Classification
from accum_lib.roberta.trainer import Trainer
from accum_lib.threads import one_thread

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

    updates: tuple[Update, ...]
    training: Training
    majority: float
    model: str


class Stopped(Exception):  # noqa: N818
    """Raised on purpose, where a machine would have failed."""


def rehearse(
    epochs: int = 2, on_update: Callable[[Update, int], None] = lambda update, planned: None
) -> Rehearsal:
    """Train tiny RoBERTa on docstrings, M = 8 and K = 4, on one thread.

    Args:
        epochs: passes over the data.
        on_update: told each update, and how many there will be.
    """
    data, updates = load_data("docstrings"), []

    def tell(update: Update) -> None:
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
    """Train so many updates, once with a failure and a resumption, once without; dropout is on.

    Returns:
        The final weights of both as fingerprints: equal only if all bits are.
    """
    data = load_data("docstrings")
    data = replace(data, held_out=data.held_out[:32])  # what is measured on the way changes nothing
    settings = TrainingSettings(max_updates=updates, save_every=1, learning_rate=1e-3)

    def fail(update: Update) -> None:
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
    on_update: Callable[[Update], None] = lambda update: None,
) -> tuple[Trainer, str]:  # fmt: skip
    loaded = load_model("tiny", "classification", data)
    train, held_out = (
        Classification(part, loaded.tokenizer, MAX_TOKENS) for part in (data.train, data.held_out)
    )
    trainer = Trainer(loaded.model, train, held_out, settings, output, device="cpu", on_update=on_update)
    return trainer, loaded.name


def _fingerprint(model: torch.nn.Module) -> str:
    weights = [p.detach().flatten() for p in model.parameters()]
    return hashlib.sha256(torch.cat(weights).numpy().tobytes()).hexdigest()
