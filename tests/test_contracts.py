"""The house's import rules: each contract breaks when a deliberately wrong import is added."""

import ast
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
GROUND = r"accum_lib(\.(accumulate|losses|descent|distributed|machine|problems(\.\w+)?))?"
WRONG = {  # a contract's name: the module that gets a wrong import, and the import
    "Imports go one way": ("memory/guard.py", "import accum_lib.training.trainer"),
    "A lesson may use an earlier one": (
        "lessons/variance/measure.py",
        "import accum_lib.lessons.memory.claims",
    ),
    "Inside a lesson": ("lessons/memory/figure.py", "import accum_lib.lessons.memory.explorer"),
    "Figures know plain data": ("lessons/variance/figure.py", "import torch"),
    "The core knows torch alone": ("losses.py", "import numpy"),
    "Ground and engines do not know": ("noise/exact.py", "import plotly"),
    "No circle of imports": ("lessons/variance/record.py", "import accum_lib.lessons.variance.measure"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "accum_lib", folder / "accum_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def broken(folder: pathlib.Path) -> list[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder)})
    assert "Contracts:" in run.stdout, run.stdout + run.stderr
    return re.findall(r"^(.*) BROKEN$", run.stdout, re.MULTILINE)


def test_the_contracts_hold(copy) -> None:
    assert broken(copy) == []


@pytest.mark.parametrize("contract", WRONG)
def test_a_wrong_import_would_be_noticed(copy, contract) -> None:
    name, line = WRONG[contract]
    module = copy / "accum_lib" / name
    before = module.read_text()
    module.write_text(f"{before}\n{line}\n")
    try:
        assert any(found.startswith(contract) for found in broken(copy))
    finally:
        module.write_text(before)


def test_every_contract_has_a_wrong_import() -> None:
    names = re.findall(r'^name = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    contracts = [name for name in names if name != "accum_lib"]
    assert len(contracts) == len(WRONG)
    assert all(any(name.startswith(start) for name in contracts) for start in WRONG)


def strings(source: str) -> list[str]:
    """String literals of a module that are not docstrings."""
    tree = ast.parse(source)
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    bodies = [n.body for n in ast.walk(tree) if isinstance(n, kinds) and n.body]
    docs = [body[0].value for body in bodies if isinstance(body[0], ast.Expr)]
    texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [n.value for n in texts if n not in docs]


def hidden(source: str, modules: set[str]) -> list[str]:
    """Strings on which a module depends: a module's dotted name, an import line, the tests' folder."""
    code = [s for s in strings(source) if "\n" not in s and " " not in s.strip()]
    imports = [s for s in strings(source) if re.search(r"\^?(from|import) accum_lib\\", s)]
    return [s for s in code if s.strip(".") in modules or s == "tests" or s.startswith("tests/")] + imports


def test_no_module_depends_on_a_name_in_a_string() -> None:
    files = sorted((ROOT / "accum_lib").rglob("*.py"))
    modules = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in files}
    modules.discard("accum_lib")  # its own name, as the catalogue's domain or a logger's
    assert len(modules) > 100
    assert {f.name: found for f in files if (found := hidden(f.read_text(), modules))} == {}


@pytest.mark.parametrize("source", ['x.startswith("accum_lib.memory")', 'p / "tests" / "gpu"',
                                    'R = r"^from accum_lib\\.lessons import (\\w+)"'])  # fmt: skip
def test_a_name_in_a_string_would_be_noticed(source) -> None:
    assert hidden(source, {"accum_lib.memory"})


def imported(script: str) -> set[str]:
    """The modules of this library that a notebook's script imports from, engines by their folder."""
    found = {n.module for n in ast.walk(ast.parse(script)) if isinstance(n, ast.ImportFrom) and n.module}
    return {m for m in found if m.split(".")[0] == "accum_lib" and not re.fullmatch(GROUND, m)}


def homes(modules: set[str]) -> tuple[set[str], set[str]]:
    """Lessons and engines among them."""
    lessons = {m.split(".")[2] for m in modules if m.startswith("accum_lib.lessons.")} - {"kit"}
    return lessons, {m.split(".")[1] for m in modules} - {"lessons"}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "src").glob("*.py")), ids=lambda p: p.stem)
def test_a_notebook_imports_from_its_lesson_the_ground_and_at_most_two_engines(path) -> None:
    lessons, engines = homes(imported(path.read_text()))
    own = path.stem.partition("_")[2]
    assert lessons == {"three_descents" if own == "start_here" else own}
    assert len(engines) <= 2


def test_a_notebook_that_imports_from_everywhere_would_be_noticed() -> None:
    lines = "from accum_lib.{0} import x"
    script = "\n".join(lines.format(m) for m in ("check", "noise.exact", "memory", "lessons.roberta.figure"))
    assert homes(imported(script)) == ({"roberta"}, {"check", "noise", "memory"})
