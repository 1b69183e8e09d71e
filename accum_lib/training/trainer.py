"""Train for real: every window through ``accumulate``, every update through ``apply_update``, and recovery.

All that happens between two updates (evaluation, logging, saving) leaves the training as it is, so a run that
is killed and resumed ends with the same parameters, bit for bit on the CPU, as an uninterrupted run
(with as many processes; with another number it draws other dropout masks).
"""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from accum_lib.accumulate import ALONE, Count, NonFiniteGradientError, WindowResult, apply_update
from accum_lib.losses import in_precision
from accum_lib.machine import trim_heaps
from accum_lib.noise import NoiseScaleMonitor
from accum_lib.training import parallel, recovery
from accum_lib.training.data import TextData
from accum_lib.training.data.batches import planned_order
from accum_lib.training.data.tasks import Task
from accum_lib.training.evaluation import evaluate
from accum_lib.training.logs import Reporter
from accum_lib.training.machinery import make_machinery, planned_windows, windows_per_epoch
from accum_lib.training.models import Loaded
from accum_lib.training.records import Evaluation, Training, UpdateRecord
from accum_lib.training.saving import checkpoints, random_state, resumption
from accum_lib.training.saving.lock import only_run_in
from accum_lib.training.settings import TrainingSettings

NOISE_EVERY, NOISE_WINDOWS = 16, 50  # how often it is read, and the windows that make the estimate
LEAST_SCALE = 1.0  # of a loss in float16: below it, the gradient itself overflows, and no smaller one helps
PROCESS = psutil.Process()


@dataclass(frozen=True)
class Run:
    """What is to be trained, on which data, how, where, and what a resumed run has to agree with.

    Attributes:
        loaded: the model with its tokenizer.
        data: the texts as they were read, with the labels' names.
        train, held_out: the tasks made of them.
        settings: how it is trained.
        device: "cpu" or "cuda".
        output: the folder for checkpoints, log and the trained model.
        facts: see ``Trainer``.
    """

    loaded: Loaded
    data: TextData
    train: Task
    held_out: Task
    settings: TrainingSettings
    device: str
    output: Path
    facts: dict[str, Any]


class Trainer:
    """Trains a model on a task, once. Under torchrun each process has one, and they update together.

    Args:
        model: moved to the device, and trained in place.
        train, held_out: what to learn and what to measure on.
        settings: how.
        output: the folder for checkpoints and the log; None keeps nothing.
        facts: what else must be the same in a resumed run, such as the model's name; JSON values.
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        show: draw a progress bar.
        tensorboard: write for TensorBoard too.
        on_update: called with each ``UpdateRecord`` once it is done.
    """

    def __init__(
        self, model: nn.Module, train: Task, held_out: Task, settings: TrainingSettings,
        output: Path | str | None = None, *, facts: dict[str, Any] | None = None, device: str | None = None,
        show: bool = False, tensorboard: bool = False,
        on_update: Callable[[UpdateRecord], Any] = lambda update: None,
    ) -> None:  # fmt: skip
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model, self.task, self.held_out, self.settings = model.to(self.device), train, held_out, settings
        parallel.check(settings)
        self.first = parallel.rank_and_size()[0] == 0  # it alone writes
        self.output = Path(output) if output is not None else None
        self.show, self.tensorboard, self.on_update = show, tensorboard, on_update
        self.windows_per_epoch = windows_per_epoch(settings, len(train))
        self.planned = planned_windows(settings, len(train))
        self.machinery = make_machinery(self.model, settings, self.planned, self.device)
        self.facts = resumption.facts(self.model, train, held_out, settings, facts or {})
        self.progress = resumption.RunProgress(settings.micro_batch_size)
        self.evaluations: list[Evaluation] = []
        # What ``run`` replaces once the state is loaded: the ranks, the log, the loss under autocast.
        self.ranks = ALONE
        self.reporter = Reporter(None, self.planned)
        self._loss_sum, self._predict = train.loss_sum, held_out.predict
        self._count: Count = train.count
        self._monitor: NoiseScaleMonitor | None = None
        self._noise_scale: float | None = None
        self._noise_interval: tuple[float, float] | None = None
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @classmethod
    def of(cls, run: Run, *, show: bool = False, tensorboard: bool = False) -> "Trainer":
        """The trainer of a run."""
        return cls(
            run.loaded.model, run.train, run.held_out, run.settings, run.output, facts=run.facts,
            device=run.device, show=show, tensorboard=tensorboard,
        )  # fmt: skip

    def run(self, resume: bool = False, finish: Callable[[], Any] = lambda: None) -> Training:
        """Train to the end, from the start or from the newest whole checkpoint.

        Args:
            resume: from the checkpoint.
            finish: called in the first process at the end, while the output folder is still held.

        Raises:
            CheckpointError: there is nothing to resume from, or other settings were saved there; or, without
                ``resume``, the output folder holds a run already.
            FolderInUseError: another run is writing to the output folder.
            OutOfMemoryAtOneError, NonFiniteError: see ``recovery``. The last checkpoint remains.
            NotSavedError: the last checkpoint of all could not be written.
        """
        started = time.perf_counter()
        with random_state.preserved(), ExitStack() as stack:  # the caller's random numbers are left alone
            random_state.seed_all(self.settings.seed)
            if self.first and self.output is not None and (self.output.is_dir() or not resume):
                stack.enter_context(only_run_in(self.output))
            found = self._find(resume)
            done = self.progress.windows
            parallel.wait_for_all()  # before the first one saves over what others still read
            self.ranks = parallel.distribute(self.model)
            self.reporter = Reporter(
                self.output if self.first else None, self.planned, done, updates=self.progress.updates,
                show=self.show and self.first, speak=self.first, tensorboard=self.tensorboard,
            )  # fmt: skip
            stack.callback(self.reporter.close)
            self._tell_beginning(found)
            self._prepare(stack, resumption.measured(found.state) if found else None)
            while self.progress.windows < self.planned:
                self._one_window()
                self._between_windows()
            if not self.evaluations:  # a finished run was resumed
                self._evaluate()
            if self.first:
                finish()
        seconds, now = time.perf_counter() - started, self.progress
        return Training(
            now.updates, tuple(self.evaluations), now.skipped, now.micro_batch_size, seconds,
            self._noise_scale,
            self._noise_interval,
        )  # fmt: skip

    # --- One window, one update

    def _one_window(self) -> None:
        started, now = time.perf_counter(), self.progress
        epoch, examples = self._examples()
        rate = self.machinery.scheduler.get_last_lr()[0]
        now.windows += 1
        self.reporter.window = now.windows
        parallel.draw_apart(self.settings.seed, now.windows)
        try:
            result = self._gradient(examples, epoch)
            norm, skipped = self._move()
        except (recovery.NonFiniteError, NonFiniteGradientError) as error:
            return self._leave_out(error)
        if not skipped:
            now.updates += 1
            now.skips_in_a_row = 0
        update = UpdateRecord(
            now.updates, epoch, result.loss, result.count, norm, rate, now.micro_batch_size,
            result.micro_batches, sum(self.task.lengths[i] for i in examples), time.perf_counter() - started,
            self._memory(), self._noise(), skipped,
        )  # fmt: skip
        self.reporter.update(update)
        self.on_update(update)

    def _gradient(self, examples: list[int], epoch: int) -> WindowResult:
        """Leave the window's gradient in ``.grad``, with a smaller M from here on if memory runs out."""

        def make_window(size: int) -> list[Any]:
            mine = self.task.passes(parallel.part(examples), size, self.settings.by_tokens)
            return [self.task.batch(part, epoch) for part in mine]

        result, self.progress.micro_batch_size = recovery.accumulate_or_halve(
            self.model, make_window, self._loss_sum, self._count, self.progress.micro_batch_size,
            scaler=self.machinery.scaler, ranks=self.ranks, on_halved=self._tell_halved,
        )  # fmt: skip
        trim_heaps()  # before the optimizer, which needs most
        return result

    def _move(self) -> tuple[float | None, bool]:
        """The optimizer's update: the gradient's norm, and whether a scaler skipped it.

        Raises:
            NonFiniteGradientError: the gradient is not finite, and in float16 no smaller scale will help.
        """
        scaler = self.machinery.scaler
        update = partial(
            apply_update, self.model, self.machinery.optimizer, max_grad_norm=self.settings.max_grad_norm,
            scheduler=self.machinery.scheduler, scaler=scaler, error_if_nonfinite=True,
        )  # fmt: skip
        done = recovery.update_in_all(update, self.machinery, self.ranks, self._tell_repaired)
        if scaler and done.skipped and (scale := scaler.get_scale()) < LEAST_SCALE:
            raise NonFiniteGradientError(
                f"the gradient is not finite in float16, even with the loss scaled by {scale}: "
                "look at its data, lower the learning rate, or take bf16 or fp32"
            )
        return done.grad_norm, done.skipped

    def _leave_out(self, error: ValueError) -> None:
        """A window whose loss or gradient is not finite: stop, or continue without it."""
        now = self.progress
        self.machinery.optimizer.zero_grad(set_to_none=True)
        now.skips_in_a_row += 1
        now.skipped += 1
        where = f"window {now.windows}, after update {now.updates}: {error}"
        self.reporter.event("not_finite", update=now.updates, error=str(error))
        if self.settings.on_non_finite == "stop":
            raise recovery.NonFiniteError(f"stopped at {where}. The parameters are as they were before it")
        if now.skips_in_a_row > self.settings.max_skips:
            raise recovery.NonFiniteError(
                f"stopped: {now.skips_in_a_row} windows in a row were not finite, and max_skips is "
                f"{self.settings.max_skips}. The last was {where}"
            )
        self.reporter.say(f"left out {where}")

    def _examples(self) -> tuple[int, list[int]]:
        """The epoch, and the examples of the window that comes next."""
        settings, (epoch, i) = self.settings, divmod(self.progress.windows, self.windows_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = epoch, planned_order(self.task.lengths, settings, epoch)
        return epoch, self._epoch[1][i]

    # --- Between windows

    def _between_windows(self) -> None:
        last = self.progress.windows == self.planned
        if last or self._due(self.settings.evaluate_every):
            self._evaluate()
        if self.output is not None and (last or self._due(self.settings.save_every)):
            self._save(self.output / resumption.FOLDER, must=last)

    def _due(self, every: int | None) -> bool:
        return self.progress.windows % (every or self.windows_per_epoch) == 0

    def _evaluate(self) -> None:
        now = self.progress  # its M stays as it is: training has fitted
        longest = self.task.longest  # longer held-out texts may take no more memory than training does
        found, _ = recovery.halve_until_it_fits(
            lambda size: evaluate(
                self.model, self.held_out, size, now.updates, self._predict, max_tokens=size * longest
            ),
            now.micro_batch_size,
            lambda size, _: self.reporter.say(f"out of memory: held-out data are measured {size} at a time"),
        )
        if not math.isfinite(found.loss):  # the last update is seen by no further window
            raise recovery.NonFiniteError(
                f"the held-out loss is {found.loss} after update {now.updates}, whose own loss was finite: "
                "lower the learning rate. The last checkpoint, if there is one, is from before"
            )
        self.evaluations.append(found)
        self.reporter.evaluation(found)

    def _save(self, root: Path, must: bool) -> None:
        """Save; a full disk in the middle of a run is reported and does not end it."""
        now = self.progress
        if not self.first:
            return
        try:
            checkpoints.save(
                root, now.windows, resumption.take(self.machinery, now, self.facts, self._noise_state())
            )
        except checkpoints.NotSavedError as error:
            self.reporter.event("checkpoint_failed", update=now.updates, error=str(error))
            if must:
                raise
            self.reporter.say(f"{error}. Training goes on")
        else:
            self.reporter.event("checkpoint", update=now.updates)

    # --- Beginning

    def _find(self, resume: bool) -> checkpoints.LoadedCheckpoint | None:
        if self.output is None:
            return None
        if not resume:
            resumption.refuse_to_overwrite(self.output)
            return None
        check = partial(resumption.check, self.machinery, self.planned, self.facts)
        found = resumption.find(self.output, self.facts, check)
        resumption.put_back(self.machinery, self.progress, found.state)
        if resumption.saved_micro_batch_size(found.state) != self.settings.micro_batch_size:
            self.progress.micro_batch_size = self.settings.micro_batch_size  # as asked for now
        return replace(found, state=resumption.small_part(found.state))  # or the weights would be held twice

    def _tell_beginning(self, found: checkpoints.LoadedCheckpoint | None) -> None:
        if found is None:
            return self.reporter.event("start", update=0, settings=self.facts)
        now = self.progress
        self.reporter.event(
            "resume", update=now.updates, rejected=list(found.rejected), micro_batch_size=now.micro_batch_size
        )
        for problem in found.rejected:
            self.reporter.say(f"{problem}; an earlier checkpoint is used")
        if self.show:  # all is well, and without a bar only errors are reported
            self.reporter.say(f"resumed from {found.folder}, after update {self.progress.updates}")

    def _prepare(self, stack: ExitStack, measured: dict[str, Any] | None) -> None:
        """Wrap the loss as the settings ask; a monitor goes on from what was measured before."""
        dtype, device = self.settings.dtype, self.device.type
        self._loss_sum = in_precision(self.task.loss_sum, dtype, device)
        self._predict = in_precision(self.held_out.predict, dtype, device)
        self.model.train()
        if self.settings.noise_scale:
            self._monitor = stack.enter_context(
                NoiseScaleMonitor(self.model, self._loss_sum, self._count, scaler=self.machinery.scaler)
            )
            self._loss_sum, self._count = self._monitor.loss_sum, self._monitor.count
            if measured:
                try:
                    self._noise_scale = measured["noise_scale"]
                    self._noise_interval = measured.get("noise_interval")
                    self._monitor.load_state_dict(measured["monitor"])
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise checkpoints.CheckpointError(
                        "the checkpoint's measurements of the noise scale are damaged "
                        f"({type(error).__name__}): resume from another copy of it, or start from scratch"
                    ) from error

    # --- What is measured on the way

    def _tell_halved(self, size: int, error: str) -> None:
        self.reporter.event("out_of_memory", update=self.progress.updates, micro_batch_size=size, error=error)
        self.reporter.say(f"out of memory: retrying the window with M = {size} ({error})")

    def _tell_repaired(self) -> None:
        self.reporter.event("out_of_memory_in_update", update=self.progress.updates)
        self.reporter.say(
            "out of memory in the optimizer's update of one process, which took over what the others have"
        )

    def _memory(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return PROCESS.memory_info().rss

    def _noise(self) -> float | None:
        """The estimate now and then, since to read numbers makes a GPU wait."""
        now, last = self.progress.windows, self.progress.windows == self.planned
        if self._monitor is not None and (last or now % NOISE_EVERY == 0):
            try:
                found = self._monitor.estimate(last=NOISE_WINDOWS)
                self._noise_scale, self._noise_interval = found.noise_scale, (found.low, found.high)
            except ValueError:  # nothing is measured yet: windows of one micro-batch, or all overflowed
                self._noise_scale = self._noise_interval = None
        return self._noise_scale

    def _noise_state(self) -> dict[str, Any] | None:
        """What a resumed run needs to log the same estimates."""
        if self._monitor is None:
            return None
        return {
            "noise_scale": self._noise_scale,
            "noise_interval": self._noise_interval,
            "monitor": self._monitor.state_dict(),
        }
