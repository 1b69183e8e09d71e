"""``python -m accum_lib``: the library from the command line."""

import argparse
import sys
from collections.abc import Sequence

from accum_lib.cli import check, plan, scoreboard, train

COMMANDS = (
    check,
    plan,
    scoreboard,
    train,
)  # each has a name in the parser, its arguments, and run(arguments)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if it found something wrong, 2 if it could not be run."""
    parser = argparse.ArgumentParser("python -m accum_lib", description="Gradient accumulation, exactly.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    arguments = parser.parse_args(words)
    try:
        return arguments.run(arguments)
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
