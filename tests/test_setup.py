"""What the set-up files say must agree with each other, since Binder can't be tried here."""

import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[1]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if re.match(r"[\w.-]+==", line))


def test_every_requirement_is_pinned_and_locked_at_the_same_version() -> None:
    locked = pins("constraints.txt")
    for name in ("requirements.txt", "requirements-present.txt", "requirements-dev.txt"):
        lines = [x for x in (ROOT / name).read_text().splitlines() if x and not x.startswith(("#", "-r"))]
        assert len(lines) == len(pins(name)) > 0
        for package, version in pins(name).items():
            assert locked[package] == version, package


def unmet(package: str, locked: dict[str, str]) -> list[str]:
    """What the package asks for and the lock does not hold, or holds in a version that it refuses."""
    asked = [Requirement(text) for text in importlib.metadata.requires(package) or []]
    here = [a for a in asked if a.marker is None or a.marker.evaluate({"extra": ""})]
    versions = {canonicalize_name(name): version for name, version in locked.items()}
    return [a.name for a in here if not a.specifier.contains(versions.get(canonicalize_name(a.name), "0"))]


def test_what_presenting_brings_is_locked_in_versions_that_agree() -> None:
    locked = pins("constraints.txt")
    for package in pins("requirements-present.txt"):
        assert importlib.metadata.version(package) == locked[package]
        assert unmet(package, locked) == []
    assert unmet("voila", {**locked, "websockets": "1.0"}) == ["websockets"]
    without = {name: version for name, version in locked.items() if name != "nbconvert"}
    assert unmet("voila", without) == ["nbconvert"]


def test_the_lock_names_no_build_and_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "+" not in text
    assert "://" not in text
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", line) for line in text.splitlines())


def test_binder_has_the_same_torch_a_pinned_python_and_no_gpu() -> None:
    environment = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert f"pytorch-cpu={pins('requirements.txt')['torch']}" in conda
    assert any(re.fullmatch(r"python=3\.\d+", str(entry)) for entry in conda)
    for line in pip["pip"]:
        assert (ROOT / "binder" / line.split()[1]).exists(), line


@pytest.mark.parametrize("script", ["binder/postBuild", ".ci/run"])
def test_a_script_that_nobody_runs_by_hand_is_executable_and_parses(script) -> None:
    assert (ROOT / script).stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_the_core_needs_torch_alone() -> None:
    """Importing the package must not bring Transformers, Plotly or widgets: they take seconds."""
    code = "import sys, accum_lib.accumulate; print([m for m in ('transformers', 'plotly', 'ipywidgets', 'sklearn') if m in sys.modules])"  # noqa: E501
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
