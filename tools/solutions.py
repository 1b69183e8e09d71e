"""Notebooks with their blanks filled, for teachers and for the tests.

    python tools/solutions.py [NAME ...]   writes build/solutions/NAME.ipynb, ready to be run

``--language zh`` (or the environment's ACCUM_LANGUAGE) takes the Chinese ones, into build/solutions/zh.
The answers stand once, in notebooks/solutions/NAME.py, under the names that the blanks have in the notebook.
Likely mistakes are in notebooks/mistakes/NAME.py: ``WRONG`` has, by the check's name, pairs of an answer and
words from the hint that it should get. A check that takes two answers has a tuple of them.
"""

import argparse
import ast
import pathlib
import runpy
import sys
from typing import Any

import nbformat

from accum_lib.lessons.kit.contents import CHECKED
from accum_lib.words import LANGUAGES, folder_for, language

ROOT = pathlib.Path(__file__).resolve().parent.parent
ANSWERS = ROOT / "notebooks" / "solutions"
MISTAKES = ROOT / "notebooks" / "mistakes"


def fill(notebook: nbformat.NotebookNode, answers: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook with every blank replaced by the answer of the same name, and without outputs.

    Raises:
        ValueError: an answer's name is no blank of the notebook.
    """
    text = answers.read_text(encoding="utf-8")
    named = {_name(node): node for node in ast.parse(text).body if _name(node)}
    imports = [ast.unparse(n) for n in ast.parse(text).body if isinstance(n, ast.Import | ast.ImportFrom)]
    filled, left = nbformat.from_dict(notebook), set(named)
    for cell in filled.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        blanks = [node for node in _body(cell.source) if _name(node) in named and check_of(cell.source)]
        if blanks:
            cell.source = "\n".join([*imports, _filled(cell.source, blanks, named, text)])
            left, imports = left - {_name(node) for node in blanks}, []
    if left:
        raise ValueError(f"{answers.name}: no exercise asks for {', '.join(sorted(left))}")
    return filled


def exercises(notebook: nbformat.NotebookNode) -> list[str]:
    """The code of the cells that end in a check."""
    return [c.source for c in notebook.cells if c.cell_type == "code" and check_of(c.source)]


def mistakes(name: str) -> dict[str, list[tuple[Any, str]]]:
    """For each check of a notebook: wrong answers, each with words from its hint."""
    return runpy.run_path(str(MISTAKES / f"{name}.py"))["WRONG"]


def _filled(source: str, blanks: list[ast.stmt], named: dict[str, ast.stmt], text: str) -> str:
    """The cell with each blank's lines replaced by its answer's; from below, so that those above stay."""
    lines = source.split("\n")
    for node in reversed(blanks):
        answer = named[_name(node)]
        lines[node.lineno - 1 : node.end_lineno] = text.split("\n")[answer.lineno - 1 : answer.end_lineno]
    return "\n".join(lines)


def _body(source: str) -> list[ast.stmt]:
    return ast.parse(source).body


def _name(node: ast.stmt) -> str:
    """What a function or an assignment defines."""
    if isinstance(node, ast.FunctionDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


def check_of(source: str) -> str | None:
    """The check that a cell ends in: then the cell is an exercise."""
    called = CHECKED.match(source.rstrip().rpartition("\n")[2])
    return called[1] if called else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="such as 01_three_descents")
    parser.add_argument("--language", choices=list(LANGUAGES), default=language())
    arguments = parser.parse_args()
    source, target = (
        folder_for(arguments.language, ROOT / path) for path in ("notebooks", "build/solutions")
    )
    target.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or sorted(path.stem for path in ANSWERS.glob("*.py")):
        notebook = nbformat.read(source / f"{name}.ipynb", as_version=4)
        path = target / f"{name}.ipynb"
        nbformat.write(fill(notebook, ANSWERS / f"{name}.py"), path)
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
