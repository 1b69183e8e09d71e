"""What the set-up files say must agree with each other, since Binder can't be tried here."""

import ast
import hashlib
import importlib.metadata
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from packaging.utils import canonicalize_name

from tools.hashes import OF_TORCH, packages

ROOT = pathlib.Path(__file__).resolve().parents[1]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if re.match(r"[\w.-]+==", line))


def test_every_requirement_is_pinned_and_locked_at_the_same_version() -> None:
    locked = pins("constraints.txt")
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = [x for x in (ROOT / name).read_text().splitlines() if x and not x.startswith(("#", "-r"))]
        assert len(lines) == len(pins(name)) > 0
        for package, version in pins(name).items():
            assert locked[package] == version, package


BROUGHT_BY = {  # belongs to a package that is named, and to whose interface
    "scipy": "scikit-learn", "safetensors": "transformers", "tokenizers": "transformers",
    "traitlets": "ipywidgets", "IPython": "ipywidgets", "tqdm": "transformers", "pyarrow": "datasets",
}  # fmt: skip


def imported(folder: pathlib.Path) -> set[str]:
    """The packages that the code names in an import, at the top of a module or within a function.

    Adapters are left out: each runs in an environment of its framework's, which pins what it imports.
    """
    files = [file for file in folder.rglob("*.py") if file.parent.name != "adapters"]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(n.module) for n in nodes if isinstance(n, ast.ImportFrom) and n.level == 0]
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {folder.name}


def unnamed(packages: set[str], named: set[str]) -> set[str]:
    """Those that no requirement brings by its name, nor by that of a package built on them."""
    found = importlib.metadata.packages_distributions()
    sources = {p: {BROUGHT_BY.get(p, p), *(canonicalize_name(d) for d in found.get(p, []))} for p in packages}
    return {package for package, names in sources.items() if not names & named}


def test_every_package_that_the_library_imports_is_named_in_the_requirements() -> None:
    named = {name for file in ("requirements.txt", "requirements-dev.txt") for name in pins(file)}
    packages = imported(ROOT / "accum_lib")
    assert {"torch", "sklearn", "contourpy"} <= packages
    assert unnamed(packages, named) == set()
    assert unnamed(packages, named - {"contourpy"}) == {"contourpy"}


def faults_of_hashes(texts: dict[str, str], locked: dict[str, str]) -> list[str]:
    """What would be installed unchecked, or at another version than the lock's."""
    entries = {e.split("==")[0]: e for text in texts.values() for e in packages(text)}
    faults = [name for name, e in entries.items() if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", e)]
    for name, version in locked.items():
        if not OF_TORCH.match(f"{name}==") and name not in {"pip", "setuptools"}:
            faults += [name] * (not re.match(rf"\S+=={re.escape(version)}\s", entries.get(name, "")))
    return faults


def test_all_but_torch_is_installed_by_its_hash_and_at_the_locked_version() -> None:
    texts = {file.name: file.read_text() for file in (ROOT / "hashes").glob("*.txt")}
    locked = {str(canonicalize_name(name)): version for name, version in pins("constraints.txt").items()}
    assert set(texts) == {"uv.txt", "lab.txt", "test.txt"}
    assert faults_of_hashes(texts, locked) == []
    assert not any("://" in text or re.search(OF_TORCH.pattern, text) for text in texts.values())
    unchecked = re.sub(r"(numpy==\S+).*\n(?: .*\n)+", r"\1\n", texts["lab.txt"])
    assert faults_of_hashes({**texts, "lab.txt": unchecked}, locked) == ["numpy"] * 2
    assert faults_of_hashes(texts, {**locked, "numpy": "1.0"}) == ["numpy"]


def test_the_lock_names_no_build_and_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "+" not in text
    assert "://" not in text
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", line) for line in text.splitlines())


def test_binder_has_the_same_torch_a_pinned_python_and_no_gpu() -> None:
    environment = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())
    packages = environment["dependencies"]
    assert f"pytorch-cpu={pins('requirements.txt')['torch']}" in packages
    assert any(re.fullmatch(r"python=3\.\d+", entry) for entry in packages)
    install = next(x for x in (ROOT / "binder/postBuild").read_text().splitlines() if "pip install" in x)
    assert {"--no-compile", "--no-cache-dir", "constraints.txt", '".[notebooks]"'} <= set(install.split())


def reckoned(page: str) -> tuple[float, float]:
    """The sum of the table's rows, and what the table says that it is."""
    rows = dict(re.findall(r"^\| (.+?) \| (\d\.\d\d) \|$", page, re.MULTILINE))
    together = float(rows.pop("together"))
    return sum(map(float, rows.values())), together


def test_binders_reckoning_adds_up_and_stays_under_its_limit() -> None:
    page = (ROOT / "binder" / "README.md").read_text()
    total, said = reckoned(page)
    assert total == pytest.approx(said, abs=0.005)
    assert said < 1.5
    total, said = reckoned(page.replace("| 0.70 |", "| 2.70 |"))
    assert total != pytest.approx(said, abs=0.005)


INSTRUCTIONS = {"FROM", "RUN", "USER", "WORKDIR", "ARG", "ENV", "COPY", "EXPOSE", "CMD"}


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Each instruction and its words; an unknown one is an error."""
    lines = [line for line in dockerfile.splitlines() if line and not line.startswith("#")]
    found = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]
    assert {word for word, _ in found} <= INSTRUCTIONS
    return found


def test_the_container_sets_up_as_a_reader_does_without_being_root() -> None:
    found = instructions((ROOT / "Dockerfile").read_text())
    words = [word for word, _ in found]
    assert words[0] == "FROM"
    assert re.fullmatch(r"python:3\.1[1-4]-slim", found[0][1])
    users = [rest for word, rest in found if word == "USER"]
    assert users
    assert users[-1] != "root"
    set_up = words.index("RUN", words.index("COPY"))
    assert found[set_up] == ("RUN", "python start.py set-up lab")
    assert words.index("USER") < set_up
    assert json.loads(found[-1][1]) == ["python", "start.py", "lab"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv", ".progress.json"} <= set(ignored)
    with pytest.raises(AssertionError):
        instructions("FROM python\nCOPPY . .\n")


def test_the_dev_container_uses_the_same_file_and_user() -> None:
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    file = (ROOT / ".devcontainer" / made["build"]["dockerfile"]).resolve()
    assert file == ROOT / "Dockerfile"
    assert ("USER", made["remoteUser"]) in instructions(file.read_text())
    assert made["postCreateCommand"] == "python start.py set-up lab"
    (named,) = re.findall(r"ACCUM_VENV=(\S+)", file.read_text())
    assert made["containerEnv"]["ACCUM_VENV"] == named


VENDORED = ("explainer/vendor", "web/vendor", "web/vendor/micropython")


def changed(folder: pathlib.Path) -> list[str]:
    """The files that are not as SHA256SUMS has them."""
    lines = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    return [
        name for value, name in lines if hashlib.sha256((folder / name).read_bytes()).hexdigest() != value
    ]


@pytest.mark.parametrize("folder", VENDORED)
def test_what_is_vendored_is_what_was_looked_at(folder, tmp_path) -> None:
    copy = shutil.copytree(ROOT / folder, tmp_path / "copy", ignore=shutil.ignore_patterns("node_modules"))
    listed = {line.split("  ")[1] for line in (copy / "SHA256SUMS").read_text().splitlines()}
    scripts = [file for file in copy.iterdir() if file.suffix in (".js", ".mjs", ".wasm")]
    assert {file.name for file in scripts} <= listed
    assert changed(copy) == []
    script = next(file for file in scripts if file.suffix != ".wasm")
    script.write_text(script.read_text() + " ")
    assert changed(copy) == [script.name]


def test_every_package_of_the_bundle_has_its_hash() -> None:
    packages = json.loads((ROOT / "explainer/vendor/package-lock.json").read_text())["packages"]
    assert len(packages) > 10
    assert all(what["integrity"].startswith("sha512-") for path, what in packages.items() if path)


@pytest.mark.parametrize("script", ["binder/postBuild", ".ci/run"])
def test_a_script_that_nobody_runs_by_hand_is_executable_and_parses(script) -> None:
    assert (ROOT / script).stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_the_core_needs_torch_alone() -> None:
    """Importing the package must not bring Transformers, Plotly or widgets: they take seconds."""
    code = "import sys, accum_lib.accumulate; print([m for m in ('transformers', 'plotly', 'ipywidgets', 'sklearn') if m in sys.modules])"  # noqa: E501
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
