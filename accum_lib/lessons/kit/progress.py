"""What the reader has done so far, in a small local file: predictions made, exercises solved.

In a clone of the project the file is at its root; of an installed library it is among the user's own data. It
never leaves the machine. Whatever is wrong with it is reported in words and disturbs no lesson: the lesson
counts, not the bookkeeping.
"""

import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from accum_lib.words import _

VARIABLE = "ACCUM_PROGRESS_FILE"  # names another file; tests and builds set it
ROOT = pathlib.Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Progress:
    """What has been done, by names that stay the same in every language.

    Attributes:
        predictions: for each question that was answered, whether the first guess was right.
        exercises: the checks that have said "Right.", in the order in which they first did.
        sure: the questions of which the reader was sure at the first guess.
    """

    predictions: dict[str, bool] = field(default_factory=dict)
    exercises: tuple[str, ...] = ()
    sure: tuple[str, ...] = ()


class ProgressError(Exception):
    """The file cannot be read or written; the message names it and says what to do."""


def path() -> pathlib.Path:
    """Where the progress is kept: at the clone's root, else in the system's folder for a user's data."""
    if named := os.environ.get(VARIABLE):
        return pathlib.Path(named)
    if (ROOT / "pyproject.toml").exists():
        return ROOT / ".progress.json"
    return _user_data() / "accum_lib" / "progress.json"


def _user_data() -> pathlib.Path:
    home = pathlib.Path.home()
    if sys.platform == "win32":
        return pathlib.Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    return pathlib.Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")


def load() -> Progress:
    """The progress so far; nothing at all if there is no file yet.

    Raises:
        ProgressError: the file is there, but is not what ``record_...`` writes.
    """
    try:
        return read(path())
    except FileNotFoundError:
        return Progress()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProgressError(
            _(
                "Your progress in {path} cannot be read ({kind}), so nothing is added to it. To "
                "start over, run: from accum_lib.lessons.kit import progress; progress.reset()",
                path=path(),
                kind=type(error).__name__,
            )
        ) from error


def read(file: pathlib.Path) -> Progress:
    """What a file says, whoever wrote it; Python's own errors if it is not what ``record_...`` writes."""
    found = json.loads(file.read_text(encoding="utf-8"))
    return _checked(found["predictions"], found["exercises"], found.get("sure", []))


def record_prediction(question: str, right: bool, sure: bool = False) -> str:
    """Note the first answer to a question. Returns "", or in words why it could not be noted."""

    def noted(done: Progress) -> Progress:
        if question in done.predictions:
            return done
        certain = (*done.sure, question) if sure else done.sure
        return replace(done, predictions={question: right, **done.predictions}, sure=certain)

    return _record(noted)


def record_exercise(check: str) -> str:
    """Note that a check has said "Right.". Returns "", or in words why it could not be noted."""
    return _record(lambda done: replace(done, exercises=tuple(dict.fromkeys([*done.exercises, check]))))


def reset() -> None:
    """Forget everything: the map of notebook 00 is empty again.

    Raises:
        ProgressError: the file cannot be removed.
    """
    try:
        path().unlink(missing_ok=True)
    except OSError as error:
        raise ProgressError(
            _("{path} cannot be removed ({reason}). Remove it by hand.", path=path(), reason=error.strerror)
        ) from error


def _record(change: Callable[[Progress], Progress]) -> str:
    try:
        before = load()
        after = change(before)
        if after != before:
            _write(after)
    except ProgressError as error:
        return str(error)
    return ""


def _write(progress: Progress) -> None:
    """Atomic: write a temporary file in the same folder, then rename it."""
    kept = {"predictions": progress.predictions, "exercises": progress.exercises}
    text = json.dumps(kept | ({"sure": progress.sure} if progress.sure else {}), indent=1)
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path().parent, prefix=path().name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, path())
        except BaseException:
            pathlib.Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ProgressError(
            _(
                "Your progress could not be written to {path} ({reason}). The lesson goes on without "
                "it; to keep it elsewhere, name a file in the variable {variable}.",
                path=path(),
                reason=error.strerror,
                variable=VARIABLE,
            )
        ) from error


def _checked(predictions: dict[str, bool], exercises: list[str], sure: list[str]) -> Progress:
    if not all(isinstance(v, bool) for v in predictions.values()):
        raise ValueError("each prediction is right or not")
    for names in (exercises, sure):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError("exercises, and what one was sure of, are lists of names")
    return Progress(dict(predictions), tuple(exercises), tuple(sure))
