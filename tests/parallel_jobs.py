"""What each process of the training tests does; a module, so that new processes can import it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from small_training import make_trainer, parameters

from accum_lib.training import parallel

SETTINGS = dict(dropout=0.0, save_every=1, epochs=2)  # six windows of 32 examples, the third and last of 26


class CrashError(Exception):
    """What ends a run in a test."""


def several(jobs: list[tuple]) -> list[tuple]:
    """Run all jobs in these processes, one after the other; what each returned or the name of its error.

    One start of processes for many tests: to import PyTorch and Transformers takes longer than to train.
    """
    with joined():
        return [attempt(*job) for job in jobs]


def joined() -> AbstractContextManager[None]:
    """In the group of all processes, which ``several`` has joined already."""
    return nullcontext() if dist.is_initialized() else parallel.joined("cpu")


def attempt(job: Any, *arguments: Any) -> Any:
    try:
        return job(*arguments)
    except CrashError as error:
        return type(error).__name__


def train(folder: Any, resume: bool = False, crash_at: int | None = None, **settings: Any) -> tuple:
    """The parameters at the end, and the losses of the updates that were made."""
    losses = []

    def on_update(update) -> None:
        losses.append(update.loss)
        if update.update == crash_at:
            raise CrashError

    with joined():
        trainer = make_trainer(folder, on_update=on_update, **{**SETTINGS, **settings})
        done = trainer.run(resume=resume)
        return parameters(trainer), losses, done.skipped_windows


def train_with_dropout(folder: Any, resume: bool = False, crash_at: int | None = None) -> tuple:
    return train(folder, resume, crash_at, dropout=0.1)


def train_over_a_nan(folder: Any) -> tuple:
    """Process 1 meets a loss that is NaN in the second window; all leave it out."""
    with joined():
        trainer = make_trainer(folder, on_non_finite="skip", **SETTINGS)
        real = trainer.task.loss_sum

        def broken(model: Any, batch: Any) -> torch.Tensor:
            bad = parallel.rank_and_size()[0] == 1 and trainer.progress.windows == 2
            return real(model, batch) * (float("nan") if bad else 1.0)

        trainer.task.loss_sum = broken
        done = trainer.run()
        return parameters(trainer), done.updates, done.skipped_windows


def dropout_draws() -> list[float]:
    """A random number of each process, as a run begins."""
    from accum_lib.training.saving import random_state

    with joined():
        random_state.seed_all(0)
        parallel.draw_apart(0, 0)
        return torch.rand(3).tolist()
