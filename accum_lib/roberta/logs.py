"""What a run says of itself: JSON lines to read back, TensorBoard if wanted, a progress bar for the eye."""

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accum_lib.records.memory import GIB
from accum_lib.records.training import Evaluation, Update

LOG = "log.jsonl"


class Reporter:
    """Writes every event to ``log.jsonl``, and shows what a person wants to see.

    Args:
        output: the run's folder; None writes nothing.
        total: updates planned, for the bar.
        done: updates made before, in a resumed run.
        show: draw a progress bar on standard error.
        tensorboard: write for TensorBoard too, into ``output/tensorboard``.

    Raises:
        ImportError: TensorBoard is wanted and not installed.
    """

    def __init__(
        self, output: Path | None, total: int, done: int = 0, show: bool = False, tensorboard: bool = False
    ) -> None:
        from tqdm import tqdm  # comes with Transformers

        self._board = _summary_writer(output, done) if tensorboard and output else None
        self._lines = _open_lines(output / LOG) if output else None
        self._bar = tqdm(total=total, initial=done, unit="update", disable=not show, file=sys.stderr)
        self._held_out = ""

    def event(self, name: str, **fields: Any) -> None:
        """One line of the log: the event's name and its fields."""
        if self._lines:
            plain = {key: _plain(value) for key, value in fields.items()}
            self._lines.write(json.dumps({"event": name, **plain}) + "\n")
            self._lines.flush()

    def say(self, text: str) -> None:
        """A line for the person who watches, above the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def update(self, done: Update) -> None:
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
                if getattr(done, name) is not None:
                    self._board.add_scalar(f"training/{name}", getattr(done, name), done.update)

    def evaluation(self, found: Evaluation) -> None:
        self.event("evaluation", **asdict(found))
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
    """The events of a log in order, without the updates that a resumption did anew.

    A run that is killed after its last checkpoint has logged updates that its successor makes once more.
    """
    events: list[dict[str, Any]] = []
    for line in Path(path).read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "resume":
            events = [e for e in events if e.get("update", 0) <= event["update"]]
        events.append(event)
    return events


def _open_lines(path: Path) -> Any:
    """Open for appending; half a line, which a kill may leave behind, is cut off."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the output folder {path.parent} cannot be made ({error.strerror}): choose another one"
        ) from error
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
    return path.open("a")


def _summary_writer(output: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("TensorBoard is not installed: pip install tensorboard") from error
    return SummaryWriter(str(output / "tensorboard"), purge_step=done + 1)


def _postfix(done: Update) -> str:
    noise = f", noise scale {done.noise_scale:.0f}" if done.noise_scale is not None else ""
    return (
        f"loss {done.loss:.3f}, {done.tokens_per_second:.0f} tokens/s, "
        f"{done.memory_bytes / GIB:.2f} GiB{noise}"
    )


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become words."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
