"""Exercises that a reader solves in the page: what its script needs to judge an answer.

No check is ported. When the site is built, each check runs on the solution and on the known mistakes, and the
arguments that it calls them with are recorded, with their results and with what it says. The page calls the
reader's function with the same arguments. Its results are right if the check takes each of them in place of the
solution's; and if all that a check saw of a mistake comes out the same, then the check would say the same.
"""

import ast
import base64
import gzip
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from typing import Any

import nbformat

from accum_lib.lessons.kit.feedback import Feedback, runs
from accum_lib.words import folder_for, speaking
from tools import solutions
from web.exercise_texts import TEXTS

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
SAME = 1e-9  # relative: results that differ by rounding
Check = Callable[..., Feedback]
Results = dict[str, Any]  # by the arguments, as they are written in a call


class _NotPlainError(BaseException):
    """A check passes what is neither a number nor a list of numbers; no check may catch this."""


def specs(stem: str, language: str) -> dict[str, dict[str, Any]]:
    """For each check of the notebook, what the page needs to judge answers; ready to be written as JSON.

    Args:
        stem: of the notebook's file, such as "01_three_descents".
        language: of the page.

    Raises:
        ValueError: a mistake cannot be told from the solution, or two mistakes with different hints from each other.
    """
    folder = folder_for(language, ROOT / "notebooks")
    notebook = nbformat.read(folder / f"{stem}.ipynb", as_version=4)
    found: dict[str, dict[str, Any]] = {}
    with speaking(language):
        for source in solutions.exercises(notebook):
            name, answers = _call(source)
            solved = _solved(stem).get(name)
            found[name] = (
                _spec(name, *solved, solutions.mistakes(stem)[name])
                | {"blank": _blank(source), "name": answers}
                if solved
                else {"needs": "notebook"}
            )
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
    vendor = HERE / "vendor" / "micropython"
    packed = gzip.compress((vendor / "micropython.wasm").read_bytes(), 9, mtime=0)
    parts = {
        "script": _classic((vendor / "micropython.mjs").read_text(encoding="utf-8")),
        "runner": (HERE / "static" / "runner.py").read_text(encoding="utf-8"),
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
def _solved(stem: str) -> dict[str, tuple[Check, Callable[..., Any], Any]]:
    """Each check that asks for one function of plain numbers; the solution, and which results are right."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    names: dict[str, Any] = {}
    found = {}
    for source in solutions.exercises(solutions.fill(notebook, solutions.ANSWERS / f"{stem}.py")):
        exec(source.rstrip().rpartition("\n")[0], names)
        name, answer = _call(source)
        check, solution = names[name].__wrapped__, names.get(answer)
        if callable(solution) and (results := record(check, solution)[1]):
            found[name] = check, solution, _accepted(check, results)
    return found


def _spec(
    name: str, check: Check, solution: Callable[..., Any], accepted: Any, mistakes: Iterable
) -> dict[str, Any]:
    right, _ = record(check, solution)
    spec: dict[str, Any] = {"right": {"accepts": accepted, "said": repr(right)}, "mistakes": []}
    named = []
    for mistake, hint in mistakes:
        said, results = record(check, mistake)
        if said is not None:  # else it raises, which the page sees itself
            row = {key: _encode(value) for key, value in results.items()}
            spec["mistakes"].append({"results": row, "said": repr(said)})
            named.append((mistake, hint, repr(said)))
    spec["inputs"] = list(
        dict.fromkeys([*accepted, *(key for row in spec["mistakes"] for key in row["results"])])
    )
    for mistake, hint, said in named:
        if (verdict := judged(spec, called(mistake, spec["inputs"]))) != said:
            other = (
                "the solution" if verdict == spec["right"]["said"] else f"the one that is told {verdict!r}"
            )
            raise ValueError(f"{name}: the mistake with the hint {hint!r} cannot be told from {other}")
    return spec


def judged(spec: Mapping[str, Any], results: Mapping[str, Any]) -> str | None:
    """What the page says to these results, as exercise.js decides it; None: nothing that a check has said."""
    if all(
        key in results and _is_right(results[key], want) for key, want in spec["right"]["accepts"].items()
    ):
        return spec["right"]["said"]
    for row in spec["mistakes"]:
        if all(key in results and _same(results[key], value) for key, value in row["results"].items()):
            return row["said"]
    return None


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

    A truth is to be as true; a number is to be within two limits, which are looked for; of a list, each element.
    """

    def takes(changed: Results) -> bool:
        said, _ = record(check, lambda *arguments: (results | changed)[_written(arguments)])
        return said is not None and said.correct

    found: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, bool):
            found[key] = value
        elif isinstance(value, int | float):
            found[key] = _limits(lambda v, key=key: takes({key: v}), value)
        else:
            limits = [
                _limits(lambda v, key=key, i=i, of=value: takes({key: [*of[:i], v, *of[i + 1 :]]}), each)
                for i, each in enumerate(value)
            ]
            found[key] = limits if any(limits) else {}
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
    assert isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)
    return ast.unparse(last.value.func), ast.unparse(last.value.args[0])


def _blank(source: str) -> str:
    """What the reader fills in: the cell without its check, and without what the library is imported for."""
    lines = source.split("\n")
    *rest, check = ast.parse(source).body
    imports = [n for n in rest if isinstance(n, ast.ImportFrom) and str(n.module).startswith("accum_lib")]
    for node in (check, *imports):
        lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return "\n".join(line for line in lines if "NBVAL" not in line).strip() + "\n"
