"""The first cell on hosts that have nothing installed: only with an address, and mostly idle."""

import importlib.util
import shutil

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

import notebooks as tool

ADDRESS = "https://example.org/someone/accum"
SCRIPT = tool.SOURCES / "00_start_here.py"


@pytest.fixture
def configured(monkeypatch):
    monkeypatch.setattr(tool, "address", lambda: ADDRESS)


def cell(notebook) -> nbformat.NotebookNode:
    return next(c for c in notebook.cells if c.cell_type == "code")


def test_without_an_address_there_is_no_such_cell(monkeypatch) -> None:
    monkeypatch.setattr(tool, "address", lambda: "")
    assert "pip" not in cell(tool.from_script(SCRIPT)).source


def test_the_address_is_that_of_the_site(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    assert tool.address() == ""
    (tmp_path / "web").mkdir()
    for value in ("", ADDRESS):
        (tmp_path / "web" / "site.toml").write_text(f'repository = "{value}"\nbranch = "main"\n')
        assert tool.address() == value


@pytest.mark.parametrize("language", ["en", "zh"])
def test_with_an_address_it_is_the_first_cell_of_code(configured, language) -> None:
    notebook = tool.from_script(SCRIPT, language)
    assert f"git+{ADDRESS}" in cell(notebook).source
    assert len(cell(notebook).source.splitlines()) <= 4


@pytest.mark.parametrize("installed", [True, False])
def test_it_does_nothing_where_the_library_is(configured, installed, monkeypatch) -> None:
    asked: list[str] = []
    shell = InteractiveShell()
    shell.register_magic_function(asked.append, magic_name="pip")
    if not installed:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    shell.run_cell(cell(tool.from_script(SCRIPT)).source).raise_error()
    wanted = [] if installed else [f'install --quiet "accum_lib[notebooks] @ git+{ADDRESS}"']
    assert asked == wanted  # and no torch: what is there satisfies the range


def test_adding_it_keeps_all_outputs_and_it_can_be_taken_away(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tool, "SOURCES", tmp_path / "src")
    (tmp_path / "src").mkdir()
    script = tmp_path / "src" / SCRIPT.name
    shutil.copy(SCRIPT, script)
    built = tmp_path / "00_start_here.ipynb"
    shutil.copy(tool.ROOT / "notebooks" / built.name, built)
    monkeypatch.setattr(tool, "address", lambda: "")
    tool.put_address(script, "en")
    before = nbformat.read(built, as_version=4)
    monkeypatch.setattr(tool, "address", lambda: ADDRESS)
    assert tool.drifted(script), "the cell is missing"
    tool.put_address(script, "en")
    tool.put_address(script, "en")
    after = nbformat.read(built, as_version=4)
    assert not tool.drifted(script)
    assert [c for c in after.cells if c.id != "set-up"] == before.cells
    assert len(after.cells) == len(before.cells) + 1
    monkeypatch.setattr(tool, "address", lambda: "")
    tool.put_address(script, "en")
    assert nbformat.read(built, as_version=4) == before
