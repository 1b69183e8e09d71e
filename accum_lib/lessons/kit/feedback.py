"""What an automatic check says: right or not yet, and why. It never raises at the reader's mistake."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from accum_lib.lessons.kit import progress
from accum_lib.words import N_, _, sentences

BLANK = N_("the function returns nothing yet: put your formula in place of the blank.")


@dataclass(frozen=True)
class Feedback:
    """The verdict on an answer; shown as text when it ends a cell."""

    correct: bool
    message: str
    note: str = ""  # what went wrong with recording it in the reader's progress

    def __repr__(self) -> str:
        said = sentences(_("Right.") if self.correct else _("Not yet:"), self.message)
        return f"{said}\n" + _("({note})", note=self.note) if self.note else said


def right(message: str) -> Feedback:
    """The answer is right, and this is what it shows."""
    return Feedback(True, message)


def not_yet(hint: str) -> Feedback:
    """The answer is not right; the hint says where to look."""
    return Feedback(False, hint)


def is_blank(answer: Any) -> bool:
    """Nothing has been put in place of the blank."""
    return answer is None or answer is ...


def runs(check: Callable[..., Feedback]) -> Callable[..., Feedback]:
    """Record a right answer in the reader's progress; turn an exception in the reader's code into a hint."""

    @wraps(check)
    def checked(*answers: Any) -> Feedback:
        try:
            feedback = check(*answers)
        except Exception as error:
            yours = _("your functions") if len(answers) > 1 else _("your function")
            return not_yet(
                _("{yours} raised {kind}: {error}", yours=yours, kind=type(error).__name__, error=error)
            )
        if feedback.correct:
            return replace(feedback, note=progress.record_exercise(check.__name__))
        return feedback

    return checked
