"""Which lines of the loop's own file called backward, step, zero_grad: read from the frames while it runs."""

import functools
import inspect
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

NAMES = {  # of a function, and what a call of it is
    "backward": "backward",
    "zero_grad": "clear",
    "clip_grad_norm_": "clip",
    "clip_grad_value_": "clip",
    "update_parameters": "average",
    "step": "",  # the optimizer's or the scheduler's
}


@dataclass(frozen=True)
class Call:
    """One call: of what, from which line, and how many backward passes there had been."""

    what: str
    line: int
    passes: int


class Calls:
    """The calls that a loop has made, in order."""

    def __init__(self, loop: Callable[..., Any] | None = None) -> None:
        self._code = None if loop is None else code_of(loop)
        self.file = None if self._code is None else self._code.co_filename
        self.first_line = 0 if self._code is None else self._code.co_firstlineno
        self.made: list[Call] = []

    @contextmanager
    def noted(self, passes: Callable[[], int]) -> Iterator[None]:
        """Inside, calls are noted; not if there is another profiler, whose place this takes."""
        if self.file is None or sys.getprofile() is not None:
            yield
            return

        def profile(frame: FrameType, event: str, _: Any) -> None:
            if event == "call" and frame.f_code.co_name in NAMES:
                self._note(frame, passes())

        sys.setprofile(profile)
        try:
            yield
        finally:
            sys.setprofile(None)

    def of(self, what: str) -> list[Call]:
        """The calls of one kind."""
        return [call for call in self.made if call.what == what]

    def note_exit(self, error: BaseException, passes: int) -> None:
        """That the loop ended here."""
        line = None
        for frame, number in traceback.walk_tb(error.__traceback__):
            line = number if frame.f_code.co_filename == self.file else line
        if line is not None:
            self.made.append(Call("exit", line, passes))

    def _note(self, frame: FrameType, passes: int) -> None:
        what = NAMES[frame.f_code.co_name] or _whose_step(frame.f_locals.get("self"))
        line = None if frame.f_code.co_filename == self.file else line_in(frame, self.file)
        if not what or line is None:
            return
        call = Call(what, line, passes)
        nested = what == "backward" and any(c.passes == passes for c in self.of(what)[-1:])
        if not nested and self.made[-1:] != [call]:
            self.made.append(call)


def usual(calls: list[Call]) -> int | None:
    """The line that most of these calls come from; None if there are none."""
    return Counter(call.line for call in calls).most_common(1)[0][0] if calls else None


def line_in(frame: FrameType | None, file: str | None) -> int | None:
    """The innermost line of this file from which the frame was reached."""
    while frame is not None:
        if frame.f_code.co_filename == file:
            return frame.f_lineno
        frame = frame.f_back
    return None


def code_of(loop: Callable[..., Any]) -> CodeType | None:
    """A loop's code, without what is wrapped around it; None if it has none in Python."""
    while isinstance(loop, functools.partial):
        loop = loop.func
    loop = inspect.unwrap(loop)
    loop = getattr(loop, "__func__", loop)
    if not hasattr(loop, "__code__"):
        loop = getattr(type(loop), "__call__", loop)  # noqa: B004
    return getattr(loop, "__code__", None)


def _whose_step(owner: Any) -> str:
    if isinstance(owner, LRScheduler):
        return "tick"
    return "step" if isinstance(owner, torch.optim.Optimizer) else ""
