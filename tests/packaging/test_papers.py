"""Licences, citation, change log, templates and workflows: complete, and of one mind."""

import hashlib
import importlib.metadata
import pathlib
import re

import pytest
import yaml

import accum_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOLDERS = "the accum_lib contributors"
FAMILY = {  # what packages write in their metadata, and how the list says it
    "MIT": "MIT", "BSD": "BSD", "Apache": "Apache", "MPL": "MPL", "Python Software Foundation": "PSF",
}  # fmt: skip
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def required() -> set[str]:
    lines = text("requirements.txt") + text("requirements-dev.txt")
    return set(re.findall(r"^([\w.-]+)==", lines, re.MULTILINE))


def wrong_licences(page: str) -> list[str]:
    """Packages that are required and not in the list, or whose own metadata tell of another licence."""
    listed = dict(re.findall(r"^\| ([\w.-]+) \| (.+) \|$", page, re.MULTILINE))
    found = []
    for package in sorted(required()):
        about = importlib.metadata.metadata(package)
        classifiers = [c for c in about.get_all("Classifier") or [] if c.startswith("License")]
        said = " ".join([about.get("License-Expression") or "", about.get("License") or "", *classifiers])
        families = {name for sign, name in FAMILY.items() if sign in said}
        there = listed.get(package, "")
        if not there or (families and not any(name in there for name in families)):
            found.append(package)
    return found


def test_every_package_is_listed_with_its_licence() -> None:
    page = text("THIRD-PARTY.md")
    assert len(required()) > 20
    assert wrong_licences(page) == []
    assert wrong_licences(page.replace("| numpy | BSD", "| numpy | GPL")) == ["numpy"]
    assert wrong_licences(page.replace("| psutil |", "| other |")) == ["psutil"]


def vendored() -> list[pathlib.Path]:
    folders = [p.parent for p in ROOT.rglob("SHA256SUMS") if not {".venv", "build"} & set(p.parts)]
    return [f for f in folders if "reveal" not in f.parts]


def unlisted(page: str) -> list[str]:
    return [f.name for f in vendored() if f.relative_to(ROOT).as_posix() not in page]


def test_every_vendored_folder_is_listed_and_holds_its_licence() -> None:
    page = text("THIRD-PARTY.md")
    assert vendored()
    assert unlisted(page) == []
    assert unlisted(page.replace("explainer/vendor", "elsewhere"))
    for folder in vendored():
        assert [f for f in folder.iterdir() if f.name.upper().startswith("LICEN")], folder


def test_the_licences_are_whole() -> None:
    mit, content = text("LICENSE"), text("LICENSE-CONTENT")
    assert mit.startswith("MIT License")
    assert HOLDERS in mit
    assert "WITHOUT WARRANTY OF ANY KIND" in mit
    assert HOLDERS in content
    for section in range(1, 9):  # of the legal code
        assert re.search(rf"^\s*Section {section} ", content, re.MULTILINE), section
    folded = " ".join(content.split("\n\n", 2)[2].split())
    assert hashlib.sha256(folded.encode()).hexdigest() == CONTENT_HASH


# Of the legal code as it was published, apart from its line breaks.
CONTENT_HASH = "50a0385d4606ed02586ea82f3307d8835cf2e76f7c2b70f5e2f340bd4a1e9fb3"


def test_citation_and_change_log_name_this_version() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "title", "message", "authors"} <= set(citation)
    assert citation["version"] == accum_lib.__version__
    assert citation["authors"] == [{"name": HOLDERS}]
    first = re.search(r"^## ([\d.]+)", text("CHANGELOG.md"), re.MULTILINE)
    assert first
    assert first[1] == accum_lib.__version__


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_has_jobs_that_run_what_is_here(path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert {"name", "jobs"} <= set(workflow)
    assert workflow[True]  # YAML reads the key 'on' as true
    assert workflow["permissions"]  # no more than it needs
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        for script in re.findall(r"python ((?:\w+/)*\w+\.py)", step.get("run", "")):
            assert (ROOT / script).exists(), script


def test_tests_run_on_three_systems_and_at_both_ends_of_the_ranges() -> None:
    jobs = yaml.safe_load(text(".github/workflows/tests.yml"))["jobs"]
    systems = jobs["lint-and-test"]["strategy"]["matrix"]
    assert systems["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert len(systems["python"]) == 2
    assert jobs["ranges"]["strategy"]["matrix"]["versions"] == ["oldest", "newest"]


def test_the_forms_for_issues_are_whole() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    asked = [yaml.safe_load(form.read_text()) for form in forms if form.stem != "config"]
    assert len(asked) == 2
    for form in asked:
        assert {"name", "description", "body"} <= set(form)
        assert all({"type", "id", "attributes"} <= set(part) for part in form["body"])
