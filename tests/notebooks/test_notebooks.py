"""The notebooks as documents: their shape, links and stills, and that they are what the scripts say."""

import pathlib
import re
import shutil

import nbformat
import pytest

import notebooks as tool
from accum_lib.lessons.kit import progress

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def prose(path: pathlib.Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def code(path: pathlib.Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")


by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@by_name
def test_it_has_the_shape_of_a_lesson(path) -> None:
    text = prose(path)
    for part in ("# ", "**Question.**", "**After this lesson you can**", "**Time:**", "**What you saw**",
                 "Where it stops being true", "## Sources"):  # fmt: skip
        assert part in text, part
    assert "questions." in code(path), "the reader predicts something"


@by_name
def test_the_prediction_comes_before_the_explorer(path) -> None:
    text = code(path)
    asked, shown = text.index("questions."), re.search(r"^(explorer|hunt|lab)\.show\(\)", text, re.M)
    assert shown, "there is an explorer"
    assert asked < shown.start()


@by_name
def test_code_cells_are_short_and_the_next_cell_is_not_code_for_long(path) -> None:
    lengths = [
        len([x for x in c.source.splitlines() if x.strip()])
        for c in read(path).cells
        if c.cell_type == "code"
    ]
    assert max(lengths) <= 20
    assert sorted(lengths)[len(lengths) // 2] <= 8


@by_name
def test_links_lead_to_notebooks_that_exist(path) -> None:
    for link in re.findall(r"\]\(([^)]+\.ipynb)\)", prose(path)):
        assert (path.parent / link).exists(), link


@by_name
def test_it_is_saved_with_its_pictures_and_their_words_but_without_widget_state(path) -> None:
    notebook = read(path)
    assert path.stat().st_size < 1_500_000
    assert "widgets" not in notebook.metadata
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    stills = [o for o in outputs if "image/png" in o.get("data", {})]
    assert stills, "a viewer that runs nothing shows a picture"
    for still in stills:
        assert still.metadata["image/png"]["alt"] == "".join(still.data["text/plain"])


@by_name
def test_it_is_what_its_script_says(path) -> None:
    assert not tool.drifted(ROOT / "notebooks" / "src" / f"{path.stem}.py")


def test_a_build_neither_shows_nor_changes_the_readers_progress(tmp_path, monkeypatch) -> None:
    mine = tmp_path / "mine.json"
    monkeypatch.setenv("ACCUM_PROGRESS_FILE", str(mine))
    monkeypatch.setattr(tool, "build", lambda *_: (tmp_path / "seen").write_text(str(progress.path())))
    tool.build_all(["one"], ["en"])
    assert (tmp_path / "seen").read_text() != str(mine)
    assert progress.path() == mine, "afterwards it is the reader's again"


def test_a_saved_picture_is_kept_once_and_other_html_stays() -> None:
    data = {tool.WIDGET_VIEW: {}, "image/png": "x", "text/html": "<img>", "text/plain": "words"}
    saved = tool.lighten(nbformat.v4.new_output("display_data", data=data)).data
    assert saved == {"image/png": "x", "text/plain": "words"}
    table = nbformat.v4.new_output("display_data", data={"text/html": "<table>", "text/plain": "a"})
    assert "text/html" in tool.lighten(table).data


def test_drift_is_noticed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tool, "SOURCES", tmp_path / "src")
    (tmp_path / "src").mkdir()
    script = tmp_path / "src" / "00_start_here.py"
    shutil.copy(ROOT / "notebooks" / "src" / "00_start_here.py", script)
    assert tool.drifted(script), "no notebook at all"
    shutil.copy(ROOT / "notebooks" / "00_start_here.ipynb", tmp_path)
    assert not tool.drifted(script)
    script.write_text(script.read_text().replace("accumulation_steps=3", "accumulation_steps=2"))
    assert tool.drifted(script)
