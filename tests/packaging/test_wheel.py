"""The distribution: what is in it, what each extra brings, and that it works outside the checkout."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.version import Version

import accum_lib
from accum_lib import extras
from accum_lib.extras import EXTRAS, need

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DATA = {  # what the library reads when it is installed, beside its modules
    "accum_lib/py.typed",
    "accum_lib/lessons/kit/static/grid.css",
    "accum_lib/lessons/kit/static/grid.js",
    "accum_lib/lessons/kit/static/letters.css",
    "accum_lib/lessons/memory/memory_grid.json",
    "accum_lib/lessons/roberta/roberta_lab.json",
    "accum_lib/locales/zh_CN/LC_MESSAGES/library.po",
}
IMPORTED_AS = {"scikit-learn": "sklearn"}


# --- What is in it


def modules(root: pathlib.Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in (root / "accum_lib").rglob("*.py")}


def packed(root: pathlib.Path, builder: type = WheelBuilder) -> set[str]:
    return {file.distribution_path for file in builder(str(root)).recurse_included_files()}


@pytest.mark.parametrize("builder", [WheelBuilder, SdistBuilder])
def test_it_holds_the_modules_and_what_they_read_and_nothing_else(builder) -> None:
    assert len(modules(ROOT)) > 180
    assert packed(ROOT, builder) == modules(ROOT) | DATA


def test_what_is_missing_or_too_much_would_be_noticed(tmp_path) -> None:
    copy = clone(tmp_path)
    (copy / "accum_lib" / "notes.txt").touch()
    (copy / "accum_lib/lessons/kit/static/grid.js").unlink()
    assert packed(copy) ^ (modules(copy) | DATA) == {
        "accum_lib/notes.txt", "accum_lib/lessons/kit/static/grid.js"
    }  # fmt: skip


def clone(folder: pathlib.Path) -> pathlib.Path:
    """What a build reads."""
    copy = folder / "clone"
    shutil.copytree(ROOT / "accum_lib", copy / "accum_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", ".gitignore", *PROJECT["license-files"]):
        shutil.copy(ROOT / name, copy)
    return copy


def files(folder: pathlib.Path) -> set[pathlib.Path]:
    return set(folder.rglob("*"))


def test_an_installation_leaves_nothing_behind_in_the_checkout(tmp_path) -> None:
    copy = clone(tmp_path)
    before = files(copy)
    where = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(tmp_path / "there")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *where, str(copy)]
    subprocess.run(pip, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert files(copy) == before
    installed = tmp_path / "there"
    found = {path.relative_to(installed).as_posix() for path in (installed / "accum_lib").rglob("*")}
    assert found >= DATA
    assert "Requires-Dist: torch" in next(installed.glob("*.dist-info/METADATA")).read_text()
    (copy / "build").mkdir()
    assert files(copy) != before, "a folder that is left would be seen"


def test_an_editable_installation_leads_to_the_checkout(tmp_path) -> None:
    """As start.py asks for it: without build isolation, so with what requirements.txt brings alone."""
    made = next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["editable"])))
    with zipfile.ZipFile(made) as archive:
        (path_file,) = [name for name in archive.namelist() if name.endswith(".pth")]
        assert archive.read(path_file).decode().split("\n")[0] == str(ROOT)


def test_the_version_is_in_one_place() -> None:
    assert WheelBuilder(str(ROOT)).metadata.version == accum_lib.__version__
    assert Version(accum_lib.__version__)
    assert "version" in PROJECT["dynamic"]
    assert f'"{accum_lib.__version__}"' not in (ROOT / "pyproject.toml").read_text()


# --- What it needs


def names(requirements: list[str]) -> tuple[str, ...]:
    found = [Requirement(text) for text in requirements]
    assert all(str(each.specifier).startswith(">=") for each in found), "a range, and no pin"
    return tuple(IMPORTED_AS.get(each.name, each.name) for each in found)


def test_the_extras_are_those_that_the_messages_name() -> None:
    assert names(PROJECT["dependencies"]) == ("torch",)
    assert {name: names(extra) for name, extra in PROJECT["optional-dependencies"].items()} == EXTRAS


def test_the_pinned_versions_are_within_the_ranges() -> None:
    text = (ROOT / "requirements.txt").read_text() + (ROOT / "constraints.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))
    ranges = [*PROJECT["dependencies"], *(r for e in PROJECT["optional-dependencies"].values() for r in e)]
    assert len(ranges) > 20
    for each in map(Requirement, ranges):
        assert each.specifier.contains(pins[each.name]), each


PARTS = {"check": "check", "memory": "memory", "noise": "noise", "training": "train", "lessons": "notebooks"}
COMES_WITH = {  # a package that another one brings, and needs itself
    "tokenizers": "transformers", "safetensors": "transformers", "tqdm": "transformers",
    "traitlets": "ipywidgets", "IPython": "ipywidgets",
}  # fmt: skip


APART = {"frameworks"}  # tries what is installed, and says what is not


def imported(folder: pathlib.Path) -> set[str]:
    """What the modules import, except within functions that ask for it with ``need``."""
    found = set()
    for file in (f for f in folder.rglob("*.py") if not APART & set(f.parts)):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        asking = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and calls_need(n)]
        asked = {id(inner) for function in asking for inner in ast.walk(function)}
        for node in (n for n in ast.walk(tree) if id(n) not in asked):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                found.add(str(node.module).split(".")[0])
    return found - set(sys.stdlib_module_names) - {"accum_lib", "torch"}


def calls_need(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Call) and getattr(n.func, "id", "") == "need" for n in ast.walk(node))


def unmet(part: str) -> set[str]:
    packages = {COMES_WITH.get(name, name) for name in imported(ROOT / "accum_lib" / part)}
    return packages - set(EXTRAS[PARTS[part]])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_what_its_extra_brings(part, monkeypatch) -> None:
    # A model that is named is made by Transformers, and whoever names one is asked for it before.
    assert unmet(part) == ({"transformers"} if part == "memory" else set())
    monkeypatch.setitem(EXTRAS, PARTS[part], ())
    assert "numpy" in unmet(part)


def test_what_is_missing_is_said_with_what_to_type(monkeypatch) -> None:
    monkeypatch.setitem(EXTRAS, "check", ("json", "no_such_package"))
    with pytest.raises(ModuleNotFoundError) as raised:
        need("accum_lib.check", "check")
    assert str(raised.value) == (
        'accum_lib.check needs no_such_package, which is not installed: pip install "accum_lib[check]"'
    )
    assert raised.value.name == "no_such_package"
    need("a part", "check", "json")


def test_what_is_too_old_is_said_with_its_version(monkeypatch) -> None:
    monkeypatch.setattr(extras, "version", lambda name: "4.57.1")
    with pytest.raises(ImportError) as raised:
        need("accum_lib.training", "train", "numpy", "transformers")
    assert str(raised.value) == (
        "accum_lib.training needs transformers 5 or newer, and 4.57.1 is installed: "
        'pip install --upgrade "accum_lib[train]"'
    )
    found = [Requirement(text) for extra in PROJECT["optional-dependencies"].values() for text in extra]
    oldest = {each.name: Version(str(each.specifier)[2:]).major for each in found}
    assert {name: oldest[name] for name in extras.OLDEST} == extras.OLDEST


ALONE = """
import importlib, sys

class Hidden:  # as if these were not installed
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import importlib.util
real = importlib.util.find_spec
HIDDEN = set(NAMES)
import warnings
warnings.simplefilter("ignore")  # torch's own, about NumPy
sys.meta_path.insert(0, Hidden())
import accum_lib.extras
accum_lib.extras.find_spec = lambda name: None if name.split(".")[0] in HIDDEN else real(name)
for name in ("accumulate", "losses", "distributed", "vectors", "words", "machine", "__main__"):
    importlib.import_module(f"accum_lib.{name}")
for name in ("check", "memory", "noise", "training", "lessons", "descent", "problems"):
    try:
        importlib.import_module(f"accum_lib.{name}")
    except ModuleNotFoundError as error:
        print(error)
from accum_lib.__main__ import main
for words in (["check", "x:y"], ["plan", "--model", "m", "--gpu", "T4", "--batch", "1"],
              ["train", "--output", "o"], ["scoreboard"], ["progress"]):
    print(main(words))
"""


def test_the_core_needs_torch_alone_and_each_other_part_says_what_it_needs() -> None:
    hidden = sorted({name for extra in EXTRAS.values() for name in extra})
    code = ALONE.replace("NAMES", repr(hidden))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = [line for line in done.stdout.splitlines() if "pip install" in line]
    wanted = ("check", "memory", "noise", "train", "notebooks", "notebooks", "notebooks")
    for line, extra in zip(said, wanted, strict=True):
        assert line.endswith(f'which is not installed: pip install "accum_lib[{extra}]"')
    assert done.stdout.splitlines()[-5:] == ["2"] * 5
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 5
    assert all("pip install" in line for line in errors)
    assert "Traceback" not in done.stderr


# --- In a fresh environment, outside the checkout

LOOP = """
from torch.nn.functional import cross_entropy
def train(model, optimizer, loader, k):
    for i, (x, y) in enumerate(loader):
        (cross_entropy(model(x), y) / k).backward()
        if (i + 1) % k == 0:
            optimizer.step(); optimizer.zero_grad()
"""
CORE = """
import torch
from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.losses import classification_loss_sum, count_samples
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters())
batches = [(torch.randn(2, 4), torch.randint(3, (2,))) for _ in range(6)]
for window in windows(batches, 4):
    print(accumulate(model, window, classification_loss_sum, count_samples).loss)
    apply_update(model, optimizer)
"""
LESSONS = """
from accum_lib.lessons.beyond_text.explorer import norm_explorer
from accum_lib.lessons.choose_k.explorer import choose_k_explorer
from accum_lib.lessons.distributed.explorer import forecast_explorer
from accum_lib.lessons.equivalence.explorer import microscope_explorer
from accum_lib.lessons.memory.explorer import planner_explorer, show_memory_grid
from accum_lib.lessons.roberta.explorer import fixed_batch_explorer
from accum_lib.lessons.roberta.gpu_results import show_gpu_results
from accum_lib.lessons.three_descents.explorer import moments_explorer
from accum_lib.lessons.variance.explorer import variance_explorer
from accum_lib.lessons.when_it_breaks.explorer import clues_explorer
from accum_lib.words import use_language
for language in ("en", "zh"):
    use_language(language)
    print(moments_explorer().picture().summary)
show_memory_grid()
show_gpu_results()
for make in (microscope_explorer, variance_explorer, planner_explorer, clues_explorer, fixed_batch_explorer,
             norm_explorer, forecast_explorer, choose_k_explorer):
    print(make().picture().summary)
"""
PLAN = ["plan", "--model", "roberta-base", "--gpu", "T4", "--batch", "64"]
TRAIN = ["train", "--output", "run", "--max-updates", "2"]
WORK = {  # for each extra, what it is for: words for ``accum``, or a script
    "check": [["check", "loop.py:train"]],
    "memory": [
        "from accum_lib.memory import mlp_workload, plan\nprint(plan(mlp_workload(), '1GB', 64).best)"
    ],
    "noise": ["from accum_lib.noise import from_two_sizes\nprint(from_two_sizes)"],
    "train": [PLAN, TRAIN],
    "frameworks": [["scoreboard"]],
    "notebooks": [["check", "loop.py:train"], PLAN, TRAIN, ["progress"], LESSONS],
    "data": ["import datasets"],
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> str:
    return next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("dist")))))


@pytest.mark.slow
@pytest.mark.skipif("ACCUM_FRESH" not in os.environ, reason="installs packages: ACCUM_FRESH=1")
@pytest.mark.parametrize("extra", WORK)
def test_the_wheel_works_in_a_fresh_environment(extra, wheel, tmp_path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ACCUM_LANGUAGE")}
    environment |= {"ACCUM_LEAN_GRID": "1", "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"}

    def run(*command) -> str:
        words = [str(scripts / command[0]), *map(str, command[1:])]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: a loop is not equal, as this one
        return done.stdout

    torch = re.search(r"^torch==\S+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert torch
    run("python", "-m", "pip", "install", "--quiet", torch[0])
    run("python", "-m", "pip", "install", "--quiet", f"accum_lib[{extra}] @ {pathlib.Path(wheel).as_uri()}")
    (tmp_path / "loop.py").write_text(LOOP)
    assert len(run("python", "-W", "ignore", "-c", CORE).split()) == 2
    for work in WORK[extra]:
        if isinstance(work, list):
            said = run("accum", *work)
            assert work[0] == "train" or said == run("python", "-m", "accum_lib", *work)
        else:
            run("python", "-W", "ignore", "-c", work)
