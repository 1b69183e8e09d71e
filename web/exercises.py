"""Exercises that a reader solves in the page: what its script needs to judge an answer.

No check is ported. When the site is built, each check runs on the solution and on the known mistakes, and the
arguments that it calls them with are recorded, with their results and with what it says. The page calls the
reader's function with the same arguments. Its results are right if the check takes each of them in place of
the solution's; if all that a check saw of a mistake comes out the same, then the check would say the same.
Slips in the solution's own formula are tried, too, so that more answers get the check's hint.
"""

import ast
import base64
import gzip
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

import nbformat

from accum_lib.lessons.kit.feedback import Feedback, runs
from accum_lib.words import folder_for, speaking
from tools import solutions
from web.exercise_texts import TEXTS
from web.variants import variants

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
SAME = 1e-9  # relative: results that differ by rounding
Check = Callable[..., Feedback]
Results = dict[str, Any]  # by the arguments, as they are written in a call


class _NotPlainError(BaseException):
    """A check passes what is neither a number nor a list of numbers; no check may catch this."""


@dataclass(frozen=True)
class Solved:
    """An exercise that asks for one function of plain numbers.

    Attributes:
        check: as the notebook calls it, but without the reader's progress.
        solution: the reference.
        source: the solution's code, which runs alone.
        accepts: for each call, which results are right; see ``_accepted``.
    """

    check: Check
    solution: Callable[..., Any]
    source: str
    accepts: dict[str, Any]


def specs(stem: str, language: str) -> dict[str, dict[str, Any]]:
    """For each check of the notebook, what the page needs to judge answers; ready to be written as JSON.

    Args:
        stem: of the notebook's file, such as "01_three_descents".
        language: of the page.

    Raises:
        ValueError: a mistake cannot be told from the solution, or from one with another hint.
    """
    folder = folder_for(language, ROOT / "notebooks")
    notebook = nbformat.read(folder / f"{stem}.ipynb", as_version=4)
    found: dict[str, dict[str, Any]] = {}
    with speaking(language):
        for source in solutions.exercises(notebook):
            name, answer = _call(source)
            if solved := solved_in_page(stem).get(name):
                spec = _spec(solved, solutions.mistakes(stem)[name])
                found[name] = spec | {"blank": _blank(source), "name": answer}
            else:
                path = (folder / f"{stem}.ipynb").relative_to(ROOT)
                found[name] = {"needs": "notebook", "file": path.as_posix()}
    return found


def texts(language: str) -> dict[str, str]:
    """What the page says of its own accord, and how the checks name an exception."""

    def fails(_answer: Any) -> Feedback:
        raise type("{kind}", (Exception,), {})("{error}")

    with speaking(language):
        raised = repr(runs(fails)(None))
    return {key: said[language] for key, said in TEXTS.items()} | {"raised": raised}


def runtime() -> str:
    """MicroPython as a classic script, which a page may load from a disk too."""
    vendor, own = HERE / "vendor" / "micropython", HERE / "micropython"
    packed = gzip.compress((vendor / "micropython.wasm").read_bytes(), 9, mtime=0)
    parts = {
        "script": _classic((vendor / "micropython.mjs").read_text(encoding="utf-8")),
        "modules": {path.name: path.read_text(encoding="utf-8") for path in sorted(own.glob("*.py"))},
        "wasm": base64.b64encode(packed).decode(),
    }
    return f"globalThis.__accumMicropython = {json.dumps(parts)};\n"


def _classic(module: str) -> str:
    """The module as the body of an asynchronous function: a page from a disk may start no module in a worker.

    Raises:
        ValueError: it has other exports than the one that was looked at.
    """
    exports = ("export default _createMicroPythonModule;", "export async function loadMicroPython(")
    if [module.count(export) for export in exports] != [1, 1]:
        raise ValueError(
            "micropython.mjs has other exports than expected: see to it that a worker can run it"
        )
    script = module.replace(exports[0], "").replace(exports[1], exports[1].removeprefix("export "))
    return script.replace("import.meta.url", '""')


@cache
def solved_in_page(stem: str) -> dict[str, Solved]:
    """The notebook's exercises of plain numbers, by their checks."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    answers = solutions.ANSWERS / f"{stem}.py"
    names: dict[str, Any] = {}
    found = {}
    for source in solutions.exercises(solutions.fill(notebook, answers)):
        exec(source.rstrip().rpartition("\n")[0], names)
        name, answer = _call(source)
        check, solution = names[name].__wrapped__, names.get(answer)
        if callable(solution) and (results := record(check, solution)[1]):
            code = _alone(answers.read_text(encoding="utf-8"), answer)
            found[name] = Solved(check, solution, code, _accepted(check, results))
    return found


def _alone(script: str, name: str) -> str:
    """One function of a script, with the imports from Python itself."""
    wanted = []
    for node in ast.parse(script).body:
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        own = modules and all(each.partition(".")[0] in sys.stdlib_module_names for each in modules)
        if own or (isinstance(node, ast.FunctionDef) and node.name == name):
            wanted.append(ast.unparse(node))
    return "\n".join(wanted) + "\n"


def _spec(solved: Solved, mistakes: Iterable[tuple[Callable[..., Any], str]]) -> dict[str, Any]:
    right, _ = record(solved.check, solved.solution)
    rows: dict[str, dict[str, Any]] = {}

    def add(answer: Callable[..., Any]) -> str | None:
        """What the check says to a wrong answer; nothing to one that raises, which the page sees itself."""
        said, results = record(solved.check, answer)
        if said is None or said.correct:
            return None
        row = {"results": {key: _encode(value) for key, value in results.items()}, "said": repr(said)}
        rows.setdefault(json.dumps(row), row)
        return repr(said)

    known = [(mistake, hint, add(mistake)) for mistake, hint in mistakes]
    for code in variants(solved.source):
        names: dict[str, Any] = {}
        exec(code, names)
        add(names[solved.solution.__name__])
    spec: dict[str, Any] = {
        "right": {"accepts": solved.accepts, "said": repr(right)},
        "mistakes": list(rows.values()),
        "inputs": list(
            dict.fromkeys([*solved.accepts, *(k for row in rows.values() for k in row["results"])])
        ),
    }
    for mistake, hint, said in known:
        found = judged(spec, called(mistake, spec["inputs"]))
        if found == repr(right) or (said is not None and found != said):
            other = "the solution" if found == repr(right) else f"the one that is told {found!r}"
            raise ValueError(
                f"{solved.check.__name__}: the mistake with the hint {hint!r} cannot be told from {other}; "
                "let the check try another input"
            )
    return spec


def judged(spec: Mapping[str, Any], results: Mapping[str, Any]) -> str | None:
    """What the page says to these results, as exercise.js decides it; None: nothing that a check has said."""
    accepts = spec["right"]["accepts"]

    def alike(key: str, value: Any) -> bool:
        """To a check that compares exactly, the least difference counts."""
        if key not in results or not _same(results[key], value):
            return False
        return key not in accepts or _is_right(results[key], accepts[key]) == _is_right(value, accepts[key])

    if all(key in results and _is_right(results[key], want) for key, want in accepts.items()):
        return spec["right"]["said"]
    rows = (row for row in spec["mistakes"] if all(alike(*each) for each in row["results"].items()))
    return next((row["said"] for row in rows), None)


def called(answer: Callable[..., Any], inputs: Iterable[str]) -> Results:
    """The answer's results, without those calls that raise."""
    found = {}
    for key in inputs:
        try:
            found[key] = _encode(answer(*eval(f"({key},)")))
        except Exception:  # of the reader's kind
            continue
    return found


def record(check: Check, answer: Callable[..., Any]) -> tuple[Feedback | None, Results]:
    """What a check says to an answer, and the calls that it made; no verdict if anything raises.

    No calls at all if they are not plain: numbers, or lists and tuples of them.
    """
    calls: Results = {}

    @wraps(answer)
    def recorded(*arguments: Any) -> Any:
        key, plain = _written(arguments), all(map(_plain, arguments))
        result = answer(*arguments) if plain else None
        if not plain or not (_plain(result) or result is None or result is ...):
            raise _NotPlainError
        calls.setdefault(key, result)
        return result

    try:
        return check(recorded), calls
    except _NotPlainError:
        return None, {}
    except Exception:
        return None, calls


def _accepted(check: Check, results: Results) -> dict[str, Any]:
    """For each call, which results the check takes in place of the solution's.

    A truth is to be as true, a number to be within two limits, which are looked for; of a list, each element.
    """

    def takes(changed: Results) -> bool:
        said, _ = record(check, lambda *arguments: (results | changed)[_written(arguments)])
        return said is not None and said.correct

    def limits(key: str, value: float, written: Callable[[float], Any]) -> dict[str, float]:
        return _limits(lambda other: takes({key: written(other)}), value)

    def of_list(key: str, value: list[float]) -> list[dict[str, float]]:
        def with_other(place: int) -> Callable[[float], Any]:
            return lambda other: [*value[:place], other, *value[place + 1 :]]

        return [limits(key, each, with_other(place)) for place, each in enumerate(value)]

    found: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, bool):
            found[key] = value
        elif isinstance(value, int | float):
            found[key] = limits(key, value, float)
        else:
            each = of_list(key, list(value))
            found[key] = each if any(each) else {}
    for _ in range(20):
        if all(takes({k: _corner(want, results[k], side) for k, want in found.items()}) for side in (0, 1)):
            return found
        found = {key: _closer(want, results[key]) for key, want in found.items()}
    raise ValueError(f"{check.__name__} does not take its solution's own results")


def _limits(takes: Callable[[float], bool], value: float) -> dict[str, float]:
    """The least and the greatest number that is taken in place of this one; no limits if anything is."""
    if all(takes(other) for other in (value + 1e9, value - 1e9, value * 1.5 + 0.7)):
        return {}
    return {"least": _limit(takes, value, -1), "most": _limit(takes, value, 1)}


def _limit(takes: Callable[[float], bool], value: float, sign: int) -> float:
    scale = abs(value) or 1.0
    far = next((d for k in range(17) if takes(value + sign * (d := scale * 10.0**-k))), 0.0)
    if not far:
        return value
    taken, refused = far, 10 * far
    for _ in range(14):
        middle = math.sqrt(taken * refused)
        taken, refused = (middle, refused) if takes(value + sign * middle) else (taken, middle)
    return value + sign * taken


def _corner(want: Any, value: Any, side: int) -> Any:
    """All numbers at one of their limits at once."""
    if isinstance(want, list):
        return [_corner(each, of, side) for each, of in zip(want, value, strict=True)]
    return want[("least", "most")[side]] if isinstance(want, dict) and want else value


def _closer(want: Any, value: Any) -> Any:
    """Limits half as far away: a check may take each change alone, and not all of them together."""
    if isinstance(want, list):
        return [_closer(each, of) for each, of in zip(want, value, strict=True)]
    return {k: (v + value) / 2 for k, v in want.items()} if isinstance(want, dict) else want


def _is_right(got: Any, want: Any) -> bool:
    if isinstance(want, bool):
        return bool(got) == want
    if not want:
        return got is not None
    if isinstance(want, list):
        return isinstance(got, list) and len(got) == len(want) and all(map(_is_right, got, want))
    return isinstance(got, int | float) and want["least"] <= got <= want["most"]


def _same(got: Any, value: Any) -> bool:
    if isinstance(value, list):
        return isinstance(got, list) and len(got) == len(value) and all(map(_same, got, value))
    if isinstance(value, bool) or value is None or not isinstance(got, int | float):
        return got == value
    return math.isclose(got, value, rel_tol=SAME)


def _written(arguments: Iterable[Any]) -> str:
    return ", ".join(map(repr, arguments))


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return type(value) in (bool, int, float) and math.isfinite(value)


def _encode(value: Any) -> Any:
    """As JSON has it; a blank is nothing."""
    if value is None or value is ...:
        return None
    return [_encode(each) for each in value] if isinstance(value, list | tuple) else value


def _call(source: str) -> tuple[str, str]:
    """The check that ends an exercise's cell, and what it is called with first."""
    last = ast.parse(source).body[-1]
    assert isinstance(last, ast.Expr)
    assert isinstance(last.value, ast.Call)
    return ast.unparse(last.value.func), ast.unparse(last.value.args[0])


def _blank(source: str) -> str:
    """What the reader fills in: the cell without its check, and without what the library is imported for."""
    lines = source.split("\n")
    *rest, check = ast.parse(source).body
    imports = [n for n in rest if isinstance(n, ast.ImportFrom) and str(n.module).startswith("accum_lib")]
    for node in (check, *imports):
        lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return "\n".join(line for line in lines if "NBVAL" not in line).strip() + "\n"
