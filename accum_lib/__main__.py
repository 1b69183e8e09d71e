"""``accum``, or ``python -m accum_lib``: the library from the command line."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from accum_lib import __version__
from accum_lib.cli import check, classroom, plan, predict, progress, train
from accum_lib.words import STANDARD_ERROR, printable

WHOLE = "ACCUM_TRACEBACK"  # of the environment: show the traceback of an error that was not foreseen
COMMANDS = (check, plan, train, predict, progress, classroom)  # each adds its parsers, with run(arguments)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if it found something wrong, 2 if it could not be run."""
    parser = argparse.ArgumentParser("accum", description="Gradient accumulation, exactly.")
    parser.add_argument("--version", action="version", version=f"accum_lib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    arguments = parser.parse_args(words)
    arguments.own_process = words is None
    arguments.command = shlex.join(["accum", *(sys.argv[1:] if words is None else words)])
    try:
        return arguments.run(arguments)
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
