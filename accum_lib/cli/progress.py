"""``accum progress``: what the reader has predicted and solved so far, and where that is kept."""

import argparse
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "progress",
        help="what you have predicted and solved",
        description="Prints the predictions that you have made and the exercises that you have solved in the "
        "notebooks, and the file that keeps them. Nothing leaves this machine.",
    )
    parser.add_argument("--reset", action="store_true", help="forget all of it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print it; 2 if the file cannot be read, or cannot be removed."""
    from accum_lib.lessons.kit import progress

    try:
        if arguments.reset:
            progress.reset()
        done = progress.load()
    except progress.ProgressError as error:
        raise ValueError(str(error)) from error
    right = sum(done.predictions.values())
    print(f"kept in {progress.path()}")
    print(f"{len(done.predictions)} predictions made, {right} right; {len(done.exercises)} exercises solved")
    for question, hit in done.predictions.items():
        print(f"  {'right' if hit else 'wrong'}  {question}")
    for check in done.exercises:
        print(f"  solved {check}")
    return 0
