"""``accum``, or ``python -m accum_lib``: the library from the command line."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from accum_lib import __version__
from accum_lib.cli import interrupts
from accum_lib.words import STANDARD_ERROR, printable

WHOLE = "ACCUM_TRACEBACK"  # of the environment: show the traceback of an error that was not foreseen
ENOUGH = 141  # 128 and the number of SIGPIPE, as shells have it


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if it found something wrong, 2 if it could not be run.

    As a process of its own (``words`` is None) it ends with 130 and one line at Ctrl-C.
    """
    if words is None:
        interrupts.ends_at_once()
    from accum_lib.cli import check, classroom, plan, predict, progress, train  # which take a moment

    parser = argparse.ArgumentParser("accum", description="Gradient accumulation, exactly.")
    parser.add_argument("--version", action="version", version=f"accum_lib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (check, plan, train, predict, progress, classroom):
        command.add_to(commands)
    arguments = parser.parse_args(words)
    arguments.own_process = words is None
    arguments.command = shlex.join(["accum", *(sys.argv[1:] if words is None else words)])
    try:
        status = arguments.run(arguments)
        print(end="", flush=True)
        return status
    except BrokenPipeError:  # whoever reads what is printed, such as head, has enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, or Python complains of the pipe when it ends
        return ENOUGH
    except MemoryError as error:
        said = str(error) or "out of memory: take fewer or shorter texts, or a smaller model"
    except (ValueError, TypeError, ImportError, OSError) as error:
        said = str(error) or type(error).__name__
    except Exception as error:
        if os.environ.get(WHOLE):
            raise
        why = (str(error).strip() or "no reason given").splitlines()[0]
        said = f"{type(error).__name__}: {why} (not foreseen; {WHOLE}=1 before the command shows where)"
    STANDARD_ERROR.write(f"error: {printable(said, lines=True)}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
