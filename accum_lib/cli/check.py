"""``python -m accum_lib check MODULE:FUNCTION``: does this loop make the updates of one big batch?"""

import argparse
import importlib
import inspect
import os
import pathlib
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

DESCRIPTION = """\
Runs a training loop on small models in float64, compares every update with the one of one big batch, and
names what is wrong. The loop is a function of one epoch:

    def train(model, optimizer, batches, accumulation_steps): ...

Its micro-batches are (inputs, labels); labels of -100 do not count; the loss is the mean cross-entropy. With
--case MODULE:FUNCTION you can give a case of your own: a function that returns an accum_lib Case.
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "check", help="compare a training loop with one big batch", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("loop", metavar="MODULE:FUNCTION", help="my_training:train, or train.py:train")
    parser.add_argument("--case", metavar="MODULE:FUNCTION", help="a function that returns your own Case")
    parser.add_argument("--k", type=int, help="accumulation steps, if the loop has its own fixed number")
    parser.add_argument("--max-grad-norm", type=float, help="the norm to which the loop is meant to clip")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a report for each case; 1 if the loop is not equal in one of them."""
    from accum_lib.check import check_case, explain, standard_cases

    loop = load(arguments.loop)
    cases = [load(arguments.case)()] if arguments.case else standard_cases()
    if arguments.k is not None:
        cases = [replace(case, accumulation_steps=arguments.k) for case in cases]
    if arguments.max_grad_norm is not None:
        cases = [replace(case, max_grad_norm=arguments.max_grad_norm) for case in cases]
    try:
        reports = [check_case(loop, case) for case in cases]
    except Exception as error:
        if (place := place_in(loop, error)) is None:
            raise
        print(f"error: {type(error).__name__}: {error}\n{place}", file=sys.stderr)
        return 2
    print("\n\n".join(explain(report) for report in reports))
    return 0 if all(report.ok for report in reports) else 1


def place_in(loop: Callable[..., Any], error: BaseException) -> str | None:
    """Where in the loop's own file the error came from, the innermost line of it; None if it did not."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(loop))
    except TypeError:  # a callable object, or a loop that was compiled
        return None
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if file is not None and os.path.realpath(frame.filename) == os.path.realpath(file):
            return f"  in the loop: {frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}"
    return None


def load(name: str) -> Any:
    """The object that ``module:function`` or ``file.py:function`` names, looked for from this folder on.

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
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # the reader's module was found, and misses something itself
        raise ImportError(
            f"there is no module {place!r} in this folder or installed: give a file, such as train.py:train, "
            "or go to the folder that holds it"
        ) from error
    if not hasattr(module, attribute):
        functions = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
        raise ValueError(f"{place} has no {attribute!r}; it has {', '.join(functions) or 'no function'}")
    return getattr(module, attribute)
