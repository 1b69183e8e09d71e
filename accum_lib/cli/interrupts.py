"""Ctrl-C ends a command in one line, at any moment.

Python raises KeyboardInterrupt wherever the program is: in an import, in a library that catches it, where an
error is printed and forgotten, in the reader's own loop. So a command ends at once. A training run is left by
the exception, and what it holds is put in order.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from accum_lib.words import STANDARD_ERROR, _

STATUS = 130  # 128 and the number of the signal, as shells have it
_said = False  # in this command


def ends_at_once() -> None:
    """From here on, in this process and those forked from it; not where Ctrl-C is ignored from the start, as
    in the background of a script.
    """
    own = os.getpid()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            say(_("interrupted"))
        with suppress(Exception):
            sys.stdout.flush()
        os._exit(STATUS)

    signal.signal(signal.SIGINT, end)


def say(text: str) -> None:
    """Once; of several processes, the first."""
    global _said
    if not _said and os.environ.get("RANK", "0") == "0":
        STANDARD_ERROR.write(f"{text}\n")
        STANDARD_ERROR.flush()
    _said = True


@contextmanager
def unwinding(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """In a command that ``ends_at_once``: outside of imports, the first Ctrl-C raises KeyboardInterrupt."""
    global _said
    _said, before = False, signal.getsignal(signal.SIGINT)
    if not callable(before) or before is signal.default_int_handler:
        yield
        return

    def unwind(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)  # a second one does not wait
        while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        if frame is None:
            raise KeyboardInterrupt
        say(how_to_go_on())
        before(number, frame)

    signal.signal(signal.SIGINT, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
