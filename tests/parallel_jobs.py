"""What each process of the training tests does; a module, so that new processes can import it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
import torch.distributed as dist
from small_training import make_trainer, parameters

from accum_lib.accumulate import UpdateResult
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
    except (CrashError, MemoryError) as error:
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


def train_out_of_memory(
    where: str, at: int, m: int = 8, everywhere: bool = False, take_over: bool = True
) -> tuple:
    """Memory runs out once in the last process, with the ``at``-th call of something, 0 for the first.

    Args:
        where: "batch", "forward", "backward", "step", "evaluation"; anything else, and nothing happens.
        m: M at the beginning, of B = 32.
        everywhere: in every process at once.
        take_over: as it should; False leaves a half-made update as it is.

    Returns:
        The parameters, M in each update, whether memory did run out here, and what the trainer was told.
    """
    sizes, told = [], []
    with joined():
        trainer = make_trainer(
            None, on_update=lambda u: sizes.append(u.micro_batch_size),
            **{**SETTINGS, "epochs": 1, "micro_batch_size": m, "accumulation_steps": 32 // m},
        )  # fmt: skip
        rank, size = parallel.rank_and_size()
        fault = Fault(at if everywhere or rank == size - 1 else -1)
        with pytest.MonkeyPatch.context() as patch:
            if not take_over:
                patch.setattr(parallel.SurvivingRanks, "_take_over", lambda *_: UpdateResult(0.0, False))
            patch.setattr(trainer.task, "batch", fault.before(trainer.task.batch, where == "batch"))
            patch.setattr(trainer.task, "loss_sum", fault.before(trainer.task.loss_sum, where == "forward"))
            if where == "backward":
                patch.setattr(trainer.task, "loss_sum", fault.in_backward(trainer.task.loss_sum))
            if where == "step":
                fault.hook(trainer.machinery.optimizer)
            patch.setattr(
                trainer.held_out, "predict", fault.before(trainer.held_out.predict, where == "evaluation")
            )
            patch.setattr(trainer, "_tell_halved", lambda m, error: told.append(error))
            patch.setattr(trainer, "_tell_repaired", lambda: told.append("repaired"))
            trainer.run()
    return parameters(trainer), sizes, fault.calls > fault.at >= 0, told


class Fault:
    """Raises what a GPU raises, with one call; never, if that is call -1."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def due(self) -> bool:
        self.calls += 1
        return self.calls - 1 == self.at

    def strike(self, *_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def before(self, function: Any, here: bool) -> Any:
        def faulty(*arguments: Any, **named: Any) -> Any:
            if here and self.due():
                self.strike()
            return function(*arguments, **named)

        return faulty

    def in_backward(self, loss_sum: Any) -> Any:
        def faulty(model: Any, batch: Any) -> torch.Tensor:
            loss = loss_sum(model, batch)
            if self.due():  # the hook is the loss's own, and goes with it
                loss.register_hook(self.strike)
            return loss

        return faulty

    def hook(self, optimizer: torch.optim.Optimizer) -> None:
        """When the parameters have moved, one of them wrongly."""

        def after(*_: Any) -> None:
            if self.due():
                optimizer.param_groups[0]["params"][0].detach().zero_()
                self.strike()

        optimizer.register_step_post_hook(after)


def dropout_draws() -> list[float]:
    """A random number of each process, as a run begins."""
    from accum_lib.training.saving import random_state

    with joined():
        random_state.seed_all(0)
        parallel.draw_apart(0, 0)
        return torch.rand(3).tolist()
