"""What an automatic check says: right or not yet, and why. It never raises at the reader's mistake."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any


@dataclass(frozen=True)
class Feedback:
    """The verdict on an answer; shown as text when it ends a cell."""

    correct: bool
    message: str

    def __repr__(self) -> str:
        return f"{'Right.' if self.correct else 'Not yet:'} {self.message}"


def right(message: str) -> Feedback:
    """The answer is right, and this is what it shows."""
    return Feedback(True, message)


def not_yet(hint: str) -> Feedback:
    """The answer is not right; the hint says where to look."""
    return Feedback(False, hint)


def runs(check: Callable[[Any], Feedback]) -> Callable[[Any], Feedback]:
    """Turn an exception in the reader's function into a hint that names it."""

    @wraps(check)
    def checked(answer: Any) -> Feedback:
        try:
            return check(answer)
        except Exception as error:
            return not_yet(f"your function raised {type(error).__name__}: {error}")

    return checked
