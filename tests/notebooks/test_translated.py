"""The notebooks in other languages: each is there, is what script and catalogue say, speaks its language."""

import pathlib
import re

import nbformat
import pytest
from prose import blocks, message

import notebooks as tool
from accum_lib.lessons.kit.contents import lessons
from accum_lib.words import LANGUAGES

FOLDER = tool.SOURCES.parent
OTHERS = [language for language in LANGUAGES if language != "en"]
NOTEBOOKS = [tool.target(script, other) for other in OTHERS for script in sorted(tool.SOURCES.glob("*.py"))]
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def prose(path: pathlib.Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


@by_name
def test_it_is_what_script_and_catalogue_say(path) -> None:
    assert not tool.drifted(tool.SOURCES / f"{path.stem}.py", path.parent.name)


@by_name
def test_it_is_saved_light_with_pictures_and_without_errors(path) -> None:
    outputs = [o for c in read(path).cells if c.cell_type == "code" for o in c.outputs]
    assert path.stat().st_size < 1_500_000
    assert not [o for o in outputs if o.output_type == "error"]
    assert not [o for o in outputs if tool.WIDGET_VIEW in o.get("data", {})]
    assert [o for o in outputs if "image/png" in o.get("data", {})]


@by_name
def test_its_links_lead_somewhere_and_to_notebooks_of_its_own_language(path) -> None:
    *text, switch = prose(path)[:1] + prose(path)[2:] + prose(path)[1:2]
    assert f"(../{path.name})" in switch, "the way back to English"
    for link in re.findall(r"\]\(([^)#:]+)\)", "\n".join(text)):
        assert (path.parent / link).exists(), link
        assert not re.match(r"\.\./\d\d_", link), "a notebook in English"


@by_name
def test_no_block_of_its_prose_is_english(path) -> None:
    assert english(prose(path)) == []


def english(cells: list[str]) -> list[str]:
    """Blocks that have words and not one letter of Chinese."""
    said = [message(block) for cell in cells for block in blocks(cell)]
    return [text for text in said if text and not re.search(r"[\u3400-\u9fff]", text)]


def test_english_that_is_left_would_be_noticed() -> None:
    assert english(["# 标题\n\nWhat is left.\n\n```python\ncode = 1\n```"]) == ["What is left."]


@pytest.mark.parametrize("language", OTHERS)
def test_the_map_reads_the_same_lessons_from_it(language) -> None:
    here, there = lessons(FOLDER / language), lessons(FOLDER)
    same = [(x.file, x.minutes, x.predictions, x.exercises) for x in there]
    assert [(x.file, x.minutes, x.predictions, x.exercises) for x in here] == same
    assert english([x.title for x in here] + [x.question for x in here]) == []


@pytest.mark.parametrize("language", OTHERS)
def test_the_map_that_is_saved_in_it_leads_to_all_of_them(language) -> None:
    outputs = [o for c in read(FOLDER / language / "00_start_here.ipynb").cells for o in c.get("outputs", [])]
    shown = "".join("".join(o.get("data", {}).get("text/html", "")) for o in outputs)
    for lesson in lessons(FOLDER / language):
        assert f"href='{lesson.file}'" in shown


def test_a_translation_that_changes_is_drift(monkeypatch) -> None:
    script = tool.SOURCES / "00_start_here.py"
    assert not tool.drifted(script, "zh")
    known = tool.translations("zh_CN")
    english_title = next(text for text in known if text.startswith("# Start here"))
    monkeypatch.setattr(tool, "translations", lambda locale: {**known, english_title: "# 别的标题"})
    assert tool.drifted(script, "zh")
