"""Run logging: JSON lines, optional TensorBoard, a progress bar."""

import json
import math
import os
import reprlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accum_lib.machine import GIB
from accum_lib.training.records import Evaluation, UpdateRecord
from accum_lib.training.saving.lock import make_folder, without_following
from accum_lib.words import STANDARD_ERROR, first_line, printable

LOG, NO_EVENT = "log.jsonl", -1


class Reporter:
    """Writes every event to ``log.jsonl``, each update once, and shows what a person wants to see.

    Args:
        output: the run's folder; None writes nothing.
        total: windows planned, for the bar.
        done, updates: windows read and updates made before, in a resumed run.
        show: draw a progress bar on standard error.
        speak: report errors and what follows on standard error; one process does.
        tensorboard: write for TensorBoard too, into ``output/tensorboard``.

    Raises:
        ImportError: TensorBoard is wanted and not installed.
    """

    def __init__(
        self, output: Path | None, total: int, done: int = 0, *, updates: int = 0, show: bool = False,
        speak: bool = True, tensorboard: bool = False,
    ) -> None:  # fmt: skip
        from tqdm import tqdm  # comes with Transformers

        self.window = done  # that every event is about: updates alone would not do, since some are skipped
        self._board = _summary_writer(output, updates) if tensorboard and output else None
        self._lines = _Lines(output / LOG, done) if output else None
        self._bar = tqdm(total=total, initial=done, unit="update", disable=not show, file=STANDARD_ERROR)
        self._speak, self._held_out = speak, ""

    def event(self, name: str, **fields: Any) -> None:
        """One line of the log: the event's name, the windows read by then, and its fields."""
        if not self._lines:
            return
        plain = {key: _plain(value) for key, value in fields.items()}
        problem = self._lines.write(json.dumps({"event": name, "window": self.window, **plain}) + "\n")
        if problem:
            self.say(f"{problem}. Training goes on; what happens until there is room is not logged")

    def say(self, text: str) -> None:
        """A line for the person who watches, above the bar if there is one."""
        if self._speak:
            self._bar.write(printable(text, lines=True), file=STANDARD_ERROR)

    def update(self, done: UpdateRecord) -> None:
        self.event("update", **asdict(done), tokens_per_second=done.tokens_per_second)
        self._bar.update()
        self._bar.set_postfix_str(_postfix(done) + self._held_out, refresh=False)
        if self._board:
            for name in (
                "loss",
                "learning_rate",
                "grad_norm",
                "tokens_per_second",
                "memory_bytes",
                "noise_scale",
            ):
                value = getattr(done, name)
                if value is not None and math.isfinite(value):  # a curve has no place for infinity
                    self._board.add_scalar(f"training/{name}", value, done.update)

    def evaluation(self, found: Evaluation) -> None:
        known = {key: value for key, value in asdict(found).items() if key != "classes"}
        self.event("evaluation", **known, **({"macro_f1": found.macro_f1} if found.classes else {}))
        self._held_out = f", held-out accuracy {found.accuracy:.1%}"
        if self._board:
            self._board.add_scalar("held_out/loss", found.loss, found.update)
            self._board.add_scalar("held_out/accuracy", found.accuracy, found.update)

    def close(self) -> None:
        self._bar.close()
        for target in (self._lines, self._board):
            if target:
                target.close()


def read_log(path: Path | str) -> list[dict[str, Any]]:
    """The events of a log in order; half a line at the end, as a killed run leaves it, is none.

    Raises:
        ValueError: a line is no event; names the file and the line.
    """
    events = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n")[:-1], start=1):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: no event ({first_line(error)}): remove the line"
            ) from error
        if not isinstance(event, dict):
            raise ValueError(f"{path}, line {number}: no event, but {reprlib.repr(event)}: remove the line")
        events.append(event)
    return events


def _kept(content: bytes, done: int) -> int:
    """How many bytes of a log a run keeps that goes on after ``done`` windows, or from scratch after 0.

    A run that was killed has logged what it did after its last checkpoint, which is done once more; and
    perhaps half a line.
    """
    kept = 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n") or _windows(line) > (done or NO_EVENT):
            break
        kept += len(line)
    return kept


def _windows(line: bytes) -> int:
    """The windows read by then; older logs have the updates alone. Others' lines are let be."""
    try:
        event = json.loads(line)
        return int(event["window"] if "window" in event else event["update"])
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError):
        return NO_EVENT


class _Lines:
    """A file of lines, of which each is written whole or not at all, and at once.

    Args:
        path: of the file; what is there already is kept as far as ``done`` windows.

    Raises:
        OSError: it cannot be written, or its folder cannot be made.
    """

    def __init__(self, path: Path, done: int) -> None:
        self.path, self._complained = path, False
        make_folder(path.parent)
        try:
            self._file = open(path, "a+b", buffering=0, opener=without_following)  # noqa: SIM115
        except OSError as error:
            raise OSError(
                f"the log {path} cannot be written ({error.strerror}): choose another output folder"
            ) from error
        self._file.seek(0)
        self._file.truncate(_kept(self._file.read(), done))

    def write(self, line: str) -> str | None:
        """The line, or nothing of it if the disk is full; the first time, what is wrong."""
        whole, content = os.fstat(self._file.fileno()).st_size, line.encode()
        try:
            if self._file.write(content) == len(content):
                return None
            reason = "no space left on device"
        except OSError as error:
            reason = str(error.strerror)
        self._file.truncate(whole)
        said, self._complained = self._complained, True
        return None if said else f"the log {self.path} cannot be written ({reason})"

    def close(self) -> None:
        self._file.close()


def _summary_writer(output: Path, updates: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("TensorBoard is not installed: pip install tensorboard") from error
    return SummaryWriter(str(output / "tensorboard"), purge_step=updates + 1)


def _postfix(done: UpdateRecord) -> str:
    scale = done.noise_scale
    noise = ""
    if scale is not None:
        noise = f", noise scale {scale:.0f}" if math.isfinite(scale) else ", noise scale unknown"
    return (
        f"loss {done.loss:.3f}, {done.tokens_per_second:.0f} tokens/s, "
        f"{done.memory_bytes / GIB:.2f} GiB{noise}"
    )


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become words."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
