"""``python -m accum_lib scoreboard``: the installed frameworks beside one big batch, computed now."""

import argparse
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "scoreboard",
        help="try the installed frameworks",
        description="Runs the installed Transformers Trainer, Accelerate, Lightning and Fabric on ragged "
        "data, compares their updates with one big batch's in float64, and prints what the lens sees.",
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Print the table; always 0, since a framework's fault is no failure of this command."""
    from accum_lib.check.frameworks.scoreboard import scoreboard, table

    rows = list(scoreboard())
    if not rows:
        print("None of Transformers, Accelerate and Lightning is installed.")
        return 0
    print(table(rows))
    print("\n'scale': the gradient's length along the big batch's where it is furthest from 1 (right).")
    for name, remedy in {r.framework: r.remedy for r in rows if r.mended is not None}.items():
        print(f"{name}, mended: {remedy}.")
    return 0
