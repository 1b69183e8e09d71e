"""``python -m accum_lib check MODULE:FUNCTION``: does this loop make the updates of one big batch?"""

import argparse
import importlib
import inspect
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accum_lib.check import Case

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
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("loop", metavar="MODULE:FUNCTION", help="my_training:train, or train.py:train")
    parser.add_argument(
        "--case", metavar="MODULE:FUNCTION", help="a function that returns your own Case, or a list of Cases"
    )
    parser.add_argument("--k", type=int, help="accumulation steps, if the loop has its own fixed number")
    parser.add_argument("--max-grad-norm", type=float, help="the norm to which the loop is meant to clip")
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
    """Print a report for each case; 1 if the loop is not equal in one of them."""
    from accum_lib.check import check_case, explain, standard_cases

    loop = load(arguments.loop)
    cases = own_cases(arguments.case) if arguments.case else standard_cases()
    if arguments.k is not None:
        cases = [replace(case, accumulation_steps=arguments.k) for case in cases]
    if arguments.max_grad_norm is not None:
        cases = [replace(case, max_grad_norm=arguments.max_grad_norm) for case in cases]
    equal = True
    for number, case in enumerate(cases):  # what is finished is on the screen, whatever the next one does
        try:
            with reported_if_it_exits(f"the case {case.name!r}"):
                report = check_case(loop, case)
        except Exception as error:
            if (place := place_in(loop, error)) is None:
                raise
            print(f"error: {type(error).__name__}: {error}\n{place}{_on_a_gpu(error)}", file=sys.stderr)
            return 2
        print(("\n" if number else "") + explain(report), flush=True)
        equal = equal and report.ok
    return 0 if equal else 1


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


@contextmanager
def reported_if_it_exits(what: str) -> Iterator[None]:
    """``sys.exit`` in the reader's code would end this command with the reader's status, 0 perhaps."""
    try:
        yield
    except SystemExit as error:
        raise ValueError(
            f"{what} ended the process itself (SystemExit with {error.code!r}), so there is no result: put "
            "what is to run as a script under if __name__ == '__main__', and raise instead of sys.exit"
        ) from error


def place_in(loop: Callable[..., Any], error: BaseException) -> str | None:
    """Where in the loop's own file the error came from, the innermost line of it; None if it did not.

    An error that the loop raised, though not from its own file (a decorated or a callable object), is
    placed where it was raised.
    """
    try:
        file = inspect.getsourcefile(inspect.unwrap(loop))
    except TypeError:  # a callable object, or a loop that was compiled
        file = None
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if file and os.path.realpath(f.filename) == os.path.realpath(file)]
    if not inside and getattr(error, "__notes__", None):
        inside = frames
    if not inside:
        return None
    frame = inside[-1]
    return f"  in the loop: {frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}"


def load(name: str) -> Any:
    """The object that ``module:function``, ``file.py:function``, ``file.py:Class.method`` names.

    It is looked for from this folder on.

    Raises:
        ValueError: the name has another form, or there is no such function.
        ImportError: there is no such module.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise ValueError(f"{name!r} must have the form MODULE:FUNCTION, such as my_training:train")
    if place.endswith(".py"):
        file = pathlib.Path(place).resolve()
        if not file.exists():
            raise ValueError(f"there is no file {place}")
        sys.path.insert(0, str(file.parent))
        place = file.stem
    elif os.sep in place or (pathlib.Path(place).suffix and pathlib.Path(place).is_file()):
        raise ValueError(f"{place} is no Python file (.py), and a module's name has dots instead of {os.sep}")
    sys.path.insert(0, os.getcwd())
    try:
        with reported_if_it_exits(f"the import of {place}"):
            module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # the reader's module was found, and misses something itself
        raise ImportError(
            f"there is no module {place!r} in this folder or installed: give a file, such as train.py:train, "
            "or go to the folder that holds it"
        ) from error
    except (ValueError, TypeError, ImportError, OSError):
        raise
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{line.filename}, line {line.lineno}"
        raise ImportError(f"{place} can't be imported: {type(error).__name__}: {error} ({at})") from error
    first, _dot, method = attribute.partition(".")
    if not hasattr(module, first):
        functions = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
        raise ValueError(f"{place} has no {first!r}; it has {', '.join(functions) or 'no function'}")
    found = getattr(module, first)
    return _method_of(found, attribute, method) if method else found


def _method_of(owner: Any, name: str, method: str) -> Any:
    """``Class.method`` of an object that the class makes without arguments, or of the object named."""
    if not hasattr(owner, method):
        raise ValueError(f"{name}: there is no {method!r}")
    plain = isinstance(inspect.getattr_static(owner, method), staticmethod | classmethod)
    if not inspect.isclass(owner) or plain:
        return getattr(owner, method)
    try:
        return getattr(owner(), method)
    except TypeError as error:
        raise ValueError(
            f"{name} needs an object, and {owner.__name__}() can't be made without arguments ({error}): name "
            f"a function that makes one and calls its {method}"
        ) from error
