"""``python -m accum_lib check MODULE:FUNCTION``: does this loop make the updates of one big batch?"""

import argparse
import inspect
import json
import pathlib
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accum_lib.cli.loading import load, load_function, reported_if_it_exits
from accum_lib.words import STANDARD_ERROR, _, printable

if TYPE_CHECKING:
    from accum_lib.check import Case
    from accum_lib.check.report import Report

EXIT_CODES = """\
exit codes: 0 the loop is equal to one big batch in every case; 1 it is not, or something beside its updates
is wrong (logged losses, scheduler, averages); 2 it could not be checked, and a sentence on standard error
says why. What was finished by then is shown all the same.
"""
DESCRIPTION = """\
Runs a training loop on small models in float64, compares every update with the one of one big batch, and
names what is wrong. The loop is a function of one epoch:

    def train(model, optimizer, batches, accumulation_steps): ...

Its micro-batches are (inputs, labels); labels of -100 do not count; the loss is the mean cross-entropy. With
--case MODULE:FUNCTION you can give a case of your own: a function that returns an accum_lib Case.
"""


def add_to(commands: Any) -> None:
    """Add the commands to the parser: ``check``, and ``scoreboard`` of the installed frameworks."""
    parser = commands.add_parser(
        "check", help="compare a training loop with one big batch", description=DESCRIPTION,
        epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "loop",
        nargs="?",
        metavar="MODULE:FUNCTION",
        help="my_training:train, train.py:train, train.py:Trainer.fit, notebook.ipynb:train",
    )
    parser.add_argument(
        "--case", metavar="MODULE:FUNCTION", help="a function that returns your own Case, or a list of Cases"
    )
    parser.add_argument(
        "--trainer",
        metavar="MODULE:FUNCTION",
        help="in place of a loop, a function that makes a Transformers Trainer, a pair of a Lightning module "
        "and its Trainer, or an Accelerate loop: checked as it is",
    )
    parser.add_argument("--k", type=int, help="accumulation steps, if the loop has its own fixed number")
    parser.add_argument("--max-grad-norm", type=float, help="the norm to which the loop is meant to clip")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object (docs/library.md has its fields)"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page with the weights of each update, too")
    parser.set_defaults(run=run)
    board = commands.add_parser(
        "scoreboard",
        help="try the installed frameworks",
        description="Runs the installed Transformers Trainer, Accelerate, Lightning and Fabric on ragged "
        "data, compares their updates with one big batch's in float64, and prints what the lens sees. With "
        "--heads every class of the installed Transformers that takes labels, which takes a while. With "
        "--framework others, each in an environment of its own, which is made at the first use.",
    )
    board.add_argument("--heads", action="store_true", help="measure every head of Transformers, tiny")
    board.add_argument("--framework", metavar="NAME", help="one in an environment of its own; '*' takes all")
    board.add_argument("--remove-environments", action="store_true", help="remove all these environments")
    board.add_argument("--only", metavar="PATTERN", help="classes or models such as 'Bert*' or whisper")
    board.add_argument("--csv", metavar="FILE", help="write the table to this file, too")
    board.add_argument("--html", metavar="FILE", help="write a page to this file, too")
    board.add_argument("--resume", metavar="FILE", help="note each row here, and skip what is there already")
    board.set_defaults(run=run_scoreboard)


def run(arguments: argparse.Namespace) -> int:
    """Report on each case; 1 if the loop is not equal in one of them."""
    reports: list[Report] = []
    error: Exception | None = None
    try:
        with redirect_stdout(sys.stderr) if arguments.json else nullcontext():  # what the loop prints
            _check_all(arguments, reports)
    except Exception as raised:
        error = raised
    _write(arguments, reports, error)
    if isinstance(error, InTheLoop):
        STANDARD_ERROR.write(f"error: {printable(str(error), lines=True)}\n")
        return 2
    if error is not None:
        raise error
    return 0 if all(report.ok for report in reports) else 1


LONGEST_SAID = 5000  # characters of an error in a loop: some print a whole tensor


class InTheLoop(Exception):  # noqa: N818
    """An error that the reader's loop has raised, in words."""


def _check_all(arguments: argparse.Namespace, reports: "list[Report]") -> None:
    """Check case after case; what is finished is in ``reports`` and shown, whatever the next one does."""
    from accum_lib.check import explain
    from accum_lib.check.front import reports_on

    _refuse_impossible(arguments)
    loop, own = _loop_of(arguments)
    asked = {"accumulation_steps": arguments.k, "max_grad_norm": arguments.max_grad_norm}
    changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    cases = own_cases(arguments.case) if arguments.case else own
    try:
        with reported_if_it_exits(arguments.case or arguments.loop):
            for report in reports_on(loop, cases, change=lambda case: replace(case, **changes)):
                if not arguments.json:
                    print(("\n" if reports else "") + explain(report, reports), flush=True)
                reports.append(report)
    except Exception as error:
        if (place := place_in(loop, error)) is None:
            raise
        said = str(error) if len(str(error)) <= LONGEST_SAID else f"{str(error)[:LONGEST_SAID]}..."
        raise InTheLoop(f"{type(error).__name__}: {said}\n{place}{_on_a_gpu(error)}") from error


def _refuse_impossible(arguments: argparse.Namespace) -> None:
    """Before a minute's work."""
    if arguments.k is not None and arguments.k < 1:
        raise ValueError(
            _("{name} must be {least} or more; got {value}", name="--k", least=1, value=arguments.k)
        )
    if arguments.max_grad_norm is not None and not arguments.max_grad_norm > 0:
        raise ValueError(
            _(
                "--max-grad-norm must be above 0, or left out for a loop that does not clip; got {norm}",
                norm=arguments.max_grad_norm,
            )
        )
    folder = pathlib.Path(arguments.html or "page.html").absolute().parent
    if not folder.is_dir():
        raise ValueError(
            _(
                "--html {file} cannot be written, for there is no folder {folder}: make it, or name another",
                file=arguments.html, folder=folder,
            )
        )  # fmt: skip


def _loop_of(arguments: argparse.Namespace) -> "tuple[Callable[..., Any], list[Case] | None]":
    """The loop, and the cases that it brings itself; with --trainer, the trainer's own."""
    if (arguments.loop is None) == (arguments.trainer is None):
        raise ValueError(
            _("name a loop, as train.py:train, or a trainer, as --trainer train.py:make_trainer")
        )
    if arguments.loop is not None:
        return load_function(arguments.loop), None
    from accum_lib.check.frameworks.as_it_is import loop_and_case

    make, arguments.loop = load_function(arguments.trainer), arguments.trainer
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        raise ValueError(
            _(
                "{name} is called without arguments, and it is {why}: give it defaults",
                name=arguments.trainer,
                why=error,
            )
        ) from error
    with reported_if_it_exits(arguments.trainer):
        loop, case = loop_and_case(make)
    return loop, None if case is None else [case]


def _write(arguments: argparse.Namespace, reports: "list[Report]", error: Exception | None) -> None:
    """The reports as JSON and as a page, where they are asked for."""
    if arguments.json:
        from accum_lib.check.report import as_data

        ok = None if error else all(report.ok for report in reports)
        words = None if error is None else str(error) or type(error).__name__
        data = {
            "schema": 1,
            "loop": arguments.loop,
            "ok": ok,
            "error": words,
            "reports": [*map(as_data, reports)],
        }
        print(json.dumps(data, indent=2, allow_nan=False))
    if arguments.html and reports:
        from accum_lib.check.page import page

        pathlib.Path(arguments.html).write_text(page(arguments.loop, reports), encoding="utf-8")
        print(f"the page is {arguments.html}", file=sys.stderr)


def run_scoreboard(arguments: argparse.Namespace) -> int:
    """Print the table; always 0, since a framework's fault is no failure of this command."""
    from accum_lib.extras import need

    if arguments.framework or arguments.remove_environments:
        need("accum scoreboard --framework", "check", "numpy")
        return _apart(arguments)
    if arguments.heads:
        need("accum scoreboard --heads", "frameworks", "transformers", "accelerate")
        return _heads(arguments)
    for option in ("only", "csv", "html", "resume"):
        if getattr(arguments, option) is not None:
            more = " or --framework" if option == "csv" else ""
            raise ValueError(f"--{option} is for the heads of Transformers: add --heads{more}")
    need("accum scoreboard", "frameworks", "numpy", "sklearn", "transformers")
    from accum_lib.check.frameworks.scoreboard import ScoreRow, scoreboard, table

    rows = list(scoreboard())
    print(table(rows))
    tried = [r for r in rows if isinstance(r, ScoreRow)]
    print("\n'scale': the gradient's length along the big batch's where it is furthest from 1 (right).")
    for name, remedy in {r.framework: r.remedy for r in tried if r.mended is not None}.items():
        print(f"{name}, mended: {remedy}.")
    return 0


def _heads(arguments: argparse.Namespace) -> int:
    """Every head of Transformers: rows while they come, then the table and what it says."""
    from datetime import date
    from importlib.metadata import version

    from accum_lib.check.frameworks.heads.run import heads, measured
    from accum_lib.check.frameworks.heads.table import Board

    chosen, rows = heads(arguments.only or "*"), []
    resume = pathlib.Path(arguments.resume) if arguments.resume else None
    for number, row in enumerate(measured(chosen, resume), start=1):
        rows.append(row)
        said = row.diagnosis or f"not measured: {row.reason}"
        print(f"{number} of {len(chosen)}: {row.head}: {said}", file=sys.stderr, flush=True)
    names = ", ".join(f"{name} {version(name)}" for name in ("transformers", "accelerate", "torch"))
    board = Board(f"{names}, {date.today()}", sorted(rows, key=lambda row: (row.model_type, row.head)))
    if arguments.csv:
        board.write_csv(pathlib.Path(arguments.csv))
    if arguments.html:
        board.write_html(pathlib.Path(arguments.html))
    print(f"{board.text()}\n\n{board.versions}\n{board.summary()}")
    return 0


def _apart(arguments: argparse.Namespace) -> int:
    """Frameworks in environments of their own: the table of every case, then a line for each framework."""
    from datetime import date

    from accum_lib.check.frameworks.apart import board
    from accum_lib.check.frameworks.apart.environments import remove_environments

    rows: list[board.Row] = []
    for framework in board.chosen(arguments.framework) if arguments.framework else []:
        print(f"{framework.name}: {', '.join(framework.requirements)}", file=sys.stderr, flush=True)
        rows += board.rows(framework)
    if rows:
        print(f"{board.text(rows)}\n\n{board.summary(rows)}")
    if arguments.csv:
        board.write_csv(pathlib.Path(arguments.csv), str(date.today()), rows)
    if arguments.remove_environments:
        removed = remove_environments()
        print(f"removed: {', '.join(removed)}" if removed else "there is no environment to remove")
    return 0


def _on_a_gpu(error: Exception) -> str:
    """What helps a loop that asks for a GPU where there is none."""
    import torch

    if torch.cuda.is_available() or not any(name in str(error) for name in ("CUDA", "cuda", "NVIDIA")):
        return ""
    return (
        "\nThe loop moves something to a GPU, and there is none here: let it take a parameter device, which "
        "the check gives, and write .to(device) in place of .cuda()"
    )


def own_cases(name: str) -> "list[Case]":
    """What ``--case`` names: a Case, several, or a function that returns either.

    Raises:
        TypeError: it is or returns something else.
    """
    from accum_lib.check import Case

    made = load(name)
    if callable(made):
        with reported_if_it_exits(name):
            made = made()
    cases = [made] if isinstance(made, Case) else list(made) if isinstance(made, list | tuple) else []
    if not cases or not all(isinstance(case, Case) for case in cases):
        raise TypeError(
            f"--case {name} gives {made!r:.60}, and not a Case: let the function return "
            "accum_lib.check.Case(name, make_model, batches, accumulation_steps, loss_sum, count)"
        )
    return cases


def place_in(loop: Callable[..., Any], error: BaseException) -> str | None:
    """Where in the loop's own file the error came from, the innermost line of it; None if it did not.

    An error that the loop raised, though not from its own file (a decorated or a callable object), is
    placed where it was raised.
    """
    from accum_lib.check.places import code_of

    code = code_of(loop)
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if code is not None and f.filename == code.co_filename]
    if not inside and getattr(error, "__notes__", None):
        inside = frames
    if not inside:
        return None
    frame = inside[-1]
    return f"  in the loop: {frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}"
