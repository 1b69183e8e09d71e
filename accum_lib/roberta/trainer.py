"""Train for real: every window through ``accumulate``, every update through ``apply_update``, and recovery.

All that happens between two updates (evaluation, logging, saving) leaves the training as it is, so a run that
is killed and resumed ends with the same parameters, bit for bit on the CPU, as one that was left in peace.
"""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from accum_lib.accumulate import Count, WindowResult, apply_update
from accum_lib.lenses.memory.workloads import checkpoint, longest_list
from accum_lib.lenses.variance import NoiseScaleMonitor
from accum_lib.records.training import Evaluation, Training, Update
from accum_lib.roberta import checkpoints, random_state, recovery
from accum_lib.roberta.evaluation import evaluate
from accum_lib.roberta.logs import Reporter
from accum_lib.roberta.optimizer import make_optimizer, make_schedule
from accum_lib.roberta.order import epoch_windows
from accum_lib.roberta.settings import TrainingSettings, as_plain, differences
from accum_lib.roberta.sizes import cut
from accum_lib.roberta.tasks import Task

CHECKPOINTS = "checkpoints"
NOISE_WINDOWS = 50  # the last so many make the estimate that is shown
PROCESS = psutil.Process()


class Trainer:
    """Trains a model on a task.

    Args:
        model: moved to the device, and trained in place.
        train, held_out: what to learn and what to measure on.
        settings: how.
        output: the folder for checkpoints and the log; None keeps nothing.
        facts: what else must be the same in a resumed run, such as the model's name; JSON values.
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        show: draw a progress bar.
        tensorboard: write for TensorBoard too.
        on_update: called with each ``Update`` once it is done.
    """

    def __init__(
        self, model: nn.Module, train: Task, held_out: Task, settings: TrainingSettings,
        output: Path | str | None = None, *, facts: dict[str, Any] | None = None, device: str | None = None,
        show: bool = False, tensorboard: bool = False,
        on_update: Callable[[Update], Any] = lambda update: None,
    ) -> None:  # fmt: skip
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model, self.task, self.held_out, self.settings = model.to(self.device), train, held_out, settings
        self.output = Path(output) if output is not None else None
        self.show, self.tensorboard, self.on_update = show, tensorboard, on_update
        self.windows_per_epoch = -(-len(train) // settings.effective_batch_size)
        self.planned = min(
            settings.epochs * self.windows_per_epoch, settings.max_updates or settings.epochs * len(train)
        )
        if settings.checkpointing:
            checkpoint(model, longest_list(model))
        if settings.compile:
            model.compile(dynamic=True)
        self.optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
        self.scheduler = make_schedule(self.optimizer, self.planned, settings.warmup)
        self.scaler = torch.amp.GradScaler(self.device.type) if settings.precision == "fp16" else None
        self.facts = json.loads(json.dumps(as_plain(settings, {**self._own_facts(), **(facts or {})})))
        # Where the run is. Windows that were read are not all updates: some may have been left out.
        self.windows = self.updates = self.skipped = self.skips_in_a_row = 0
        self.micro_batch_size = settings.micro_batch_size
        self.evaluations: list[Evaluation] = []
        self._epoch: tuple[int, list[list[int]]] = (-1, [])
        self._noise_scale: float | None = None

    def run(self, resume: bool = False) -> Training:
        """Train to the end, from the start or from the newest whole checkpoint.

        Raises:
            CheckpointError: there is nothing to resume from, or other settings were saved there; or, without
                ``resume``, the output folder holds a run already.
            OutOfMemoryAtOneError, NonFiniteError: see ``recovery``. The last checkpoint remains.
            NotSavedError: the last checkpoint of all could not be written.
        """
        started = time.perf_counter()
        with random_state.preserved(), ExitStack() as stack:  # the caller's random numbers are left alone
            random_state.seed_all(self.settings.seed)
            found = self._find(resume)
            self.reporter = Reporter(self.output, self.planned, self.windows, self.show, self.tensorboard)
            stack.callback(self.reporter.close)
            self._tell_beginning(found)
            self._prepare(stack)
            while self.windows < self.planned:
                self._one_window()
                self._between_windows()
        return Training(
            self.updates, tuple(self.evaluations), self.skipped, self.micro_batch_size,
            time.perf_counter() - started,
        )  # fmt: skip

    # --- One window, one update

    def _one_window(self) -> None:
        started = time.perf_counter()
        examples, epoch = self._examples(), self.windows // self.windows_per_epoch
        rate = self.scheduler.get_last_lr()[0]
        self.windows += 1
        try:
            result = self._gradient(examples, epoch)
        except recovery.NonFiniteError as error:
            return self._leave_out(error)
        self.skips_in_a_row = 0
        norm, skipped = self._move()
        self.updates += not skipped
        seconds = time.perf_counter() - started
        update = Update(
            self.updates, epoch, result.loss, result.count, norm, rate, self.micro_batch_size,
            result.micro_batches, sum(self.task.lengths[i] for i in examples), seconds, self._memory(),
            self._noise(), skipped,
        )  # fmt: skip
        self.reporter.update(update)
        self.on_update(update)

    def _gradient(self, examples: list[int], epoch: int) -> WindowResult:
        """Leave the window's gradient in ``.grad``, with a smaller M from here on if memory runs out."""

        def make_window(size: int) -> list[Any]:
            return [self.task.batch(part, epoch) for part in cut(examples, size)]

        result, self.micro_batch_size = recovery.accumulate_or_halve(
            self.model, make_window, self._loss_sum, self._count, self.micro_batch_size,
            scaler=self.scaler, on_halved=self._tell_halved,
        )  # fmt: skip
        if self.scaler is None:  # a scaler looks for itself
            recovery.check_gradients(self.model)
        return result

    def _move(self) -> tuple[float | None, bool]:
        """The optimizer's update: the gradient's norm, and whether a scaler skipped it."""
        try:
            done = apply_update(
                self.model, self.optimizer, max_grad_norm=self.settings.max_grad_norm,
                scheduler=self.scheduler, scaler=self.scaler,
            )  # fmt: skip
        except Exception as error:
            if recovery.is_out_of_memory(error):
                raise MemoryError(
                    "out of memory in the optimizer, whose state does not depend on M: parameters may have "
                    "moved in part. Take a smaller model, and resume from the last checkpoint"
                ) from error
            raise
        return done.grad_norm, done.skipped

    def _leave_out(self, error: recovery.NonFiniteError) -> None:
        """A window whose loss or gradient is not finite: stop, or go on without it."""
        self.optimizer.zero_grad(set_to_none=True)
        self.skips_in_a_row += 1
        self.skipped += 1
        self.reporter.event("not_finite", window=self.windows, update=self.updates, error=str(error))
        where = f"window {self.windows}, after update {self.updates}: {error}"
        if self.settings.on_non_finite == "stop":
            raise recovery.NonFiniteError(f"stopped at {where}. The parameters are as they were before it")
        if self.skips_in_a_row > self.settings.max_skips:
            raise recovery.NonFiniteError(
                f"stopped: {self.skips_in_a_row} windows in a row were not finite, and max_skips is "
                f"{self.settings.max_skips}. The last was {where}"
            )
        self.reporter.say(f"left out {where}")

    def _examples(self) -> list[int]:
        """The next window's examples."""
        settings, (epoch, i) = self.settings, divmod(self.windows, self.windows_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (
                epoch,
                epoch_windows(
                    self.task.lengths,
                    settings.effective_batch_size,
                    settings.length_pool,
                    settings.seed,
                    epoch,
                ),
            )
        return self._epoch[1][i]

    # --- Between windows

    def _between_windows(self) -> None:
        last = self.windows == self.planned
        if last or self._due(self.settings.evaluate_every):
            self._evaluate()
        if self.output is not None and (last or self._due(self.settings.save_every)):
            self._save(must=last)

    def _due(self, every: int | None) -> bool:
        return self.windows % (every or self.windows_per_epoch) == 0

    def _evaluate(self) -> None:
        found = evaluate(self.model, self.held_out, self.micro_batch_size, self.updates, self._predict)
        self.evaluations.append(found)
        self.reporter.evaluation(found)

    def _save(self, must: bool) -> None:
        """Save; a full disk in the middle of a run does not end it, but is said."""
        assert self.output is not None
        try:
            checkpoints.save(self.output / CHECKPOINTS, self.windows, self._state())
        except checkpoints.NotSavedError as error:
            self.reporter.event("checkpoint_failed", update=self.updates, error=str(error))
            if must:
                raise
            self.reporter.say(f"{error}. Training goes on")
        else:
            self.reporter.event("checkpoint", update=self.updates)

    # --- Beginning

    def _find(self, resume: bool) -> checkpoints.Found | None:
        if self.output is None:
            return None
        root = self.output / CHECKPOINTS
        if not resume:
            if checkpoints.folders(root):
                raise checkpoints.CheckpointError(
                    f"{self.output} holds a run already: go on with it (--resume), or choose another folder"
                )
            return None
        found = checkpoints.newest(root)
        other = differences(found.state[checkpoints.SETTINGS], self.facts)
        if other:
            raise checkpoints.CheckpointError(
                f"{found.folder} was made with other settings ({'; '.join(other)}): resume with the same "
                "ones, or start anew in another folder"
            )
        checkpoints.discard_newer(root, found.folder)
        self._restore(found.state)
        return found

    def _tell_beginning(self, found: checkpoints.Found | None) -> None:
        if found is None:
            return self.reporter.event("start", update=0, settings=self.facts)
        self.reporter.event("resume", update=self.updates, rejected=list(found.rejected))
        for problem in found.rejected:
            self.reporter.say(f"{problem}; an earlier checkpoint is used")
        self.reporter.say(f"resumed from {found.folder}, after update {self.updates}")

    def _prepare(self, stack: ExitStack) -> None:
        """Wrap the loss as the settings ask."""
        settings = self.settings
        self._count: Count = self.task.count
        self._loss_sum, self._predict = self.task.loss_sum, self.held_out.predict
        self.model.train()
        if settings.dtype is not None:  # the forward passes alone
            autocast = torch.autocast(self.device.type, settings.dtype)
            self._loss_sum, self._predict = autocast(self._loss_sum), autocast(self._predict)
        self._monitor = None
        if settings.noise_scale:
            self._monitor = stack.enter_context(
                NoiseScaleMonitor(self.model, self._loss_sum, self._count, scaler=self.scaler)
            )
            self._loss_sum, self._count = self._monitor.loss_sum, self._monitor.count

    # --- State

    def _state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on as if nothing had been."""
        return {
            checkpoints.SETTINGS: self.facts,
            "model.pt": self.model.state_dict(),
            "optimizer.pt": self.optimizer.state_dict(),
            "progress.pt": {
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict() if self.scaler else None,
                "random": random_state.capture(),
                "windows": self.windows,
                "updates": self.updates,
                "skipped": self.skipped,
                "skips_in_a_row": self.skips_in_a_row,
                "micro_batch_size": self.micro_batch_size,
            },
        }

    def _restore(self, state: dict[str, Any]) -> None:
        progress = state["progress.pt"]
        self.model.load_state_dict(state["model.pt"])
        self.optimizer.load_state_dict(state["optimizer.pt"])
        self.scheduler.load_state_dict(progress["scheduler"])
        if self.scaler:
            self.scaler.load_state_dict(progress["scaler"])
        random_state.restore(progress["random"])
        self.windows, self.updates = progress["windows"], progress["updates"]
        self.skipped, self.skips_in_a_row = progress["skipped"], progress["skips_in_a_row"]
        self.micro_batch_size = progress["micro_batch_size"]

    def _own_facts(self) -> dict[str, Any]:
        parameters = list(self.model.parameters())
        return {
            "task": self.task.name,
            "data": self.task.fingerprint(),
            "held_out_data": self.held_out.fingerprint(),
            "parameters": sum(p.numel() for p in parameters),
            "dtype": str(parameters[0].dtype),
            "device": self.device.type,
        }

    def _tell_halved(self, size: int, error: str) -> None:
        self.reporter.event("out_of_memory", update=self.updates, micro_batch_size=size, error=error)
        self.reporter.say(f"out of memory: the window is done anew with M = {size} ({error})")

    def _memory(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return PROCESS.memory_info().rss

    def _noise(self) -> float | None:
        """The estimate now and then, since to read numbers makes a GPU wait."""
        if self._monitor is not None and self.windows % 16 == 0:
            try:
                self._noise_scale = float(self._monitor.estimate(last=NOISE_WINDOWS).noise_scale)
            except ValueError:  # nothing is measured yet: windows of one micro-batch, or all overflowed
                self._noise_scale = None
        return self._noise_scale
