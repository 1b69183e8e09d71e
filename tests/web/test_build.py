"""How the site is put together: sections, veils, links; what is computed again; the same bytes each time."""

import json
import pathlib
import re
import tomllib
import zipfile
from itertools import pairwise

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from accum_lib.lessons.kit.contents import lessons
from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture, layout, line
from accum_lib.words import LANGUAGES, folder_for
from explainer.build import build as explainer_page
from web import build, pages, record
from web.pages import Place, Site

PROSE = {"kind": "prose", "text": "**What you saw**"}
CODE = {"kind": "code", "source": "x = 1", "check": None}
OUTPUT = {"kind": "text", "text": "1\n"}
ASK = {
    "kind": "quiz", "name": "a.b", "question": "<b>Your prediction:</b> x", "options": ["1", "2"], "right": 0,
    "button": "Show", "said": ["yes", "no"],
}  # fmt: skip
HEADING = {"kind": "prose", "text": "## Next\n\ntext\n\n## After"}


@pytest.fixture(scope="module")
def site() -> Site:
    return Site("en", lessons(record.NOTEBOOKS), Place("https://github.com/someone/course"), False)


def kinds(section: dict) -> list:
    return [kinds(block) if block["kind"] == "veil" else block["kind"] for block in section["blocks"]]


def test_a_heading_begins_a_section_also_inside_a_cell(site) -> None:
    found = site.sections([PROSE, HEADING])
    assert [section["title"] for section in found] == ["", "Next", "After"]
    assert len({section["id"] for section in found}) == 3


def test_after_a_question_outputs_are_veiled_up_to_the_next_heading_or_question(site) -> None:
    first, after, _ = site.sections([OUTPUT, ASK, PROSE, CODE, OUTPUT, PROSE, ASK, OUTPUT, HEADING, OUTPUT])
    assert kinds(first) == ["text", "quiz", "prose", "code", ["text", "prose"], "quiz", ["text"]]
    assert kinds(after) == ["prose"]


def test_a_veil_belongs_to_its_question(site) -> None:
    (section,) = site.sections([ASK, OUTPUT, ASK, OUTPUT])
    quiz, veil, other, beyond = section["blocks"]
    assert (veil["id"], beyond["id"]) == (quiz["id"], other["id"])
    assert quiz["id"] != other["id"]


def test_links_lead_to_pages_and_to_nothing_that_the_site_has_not(site) -> None:
    text = "[a](01_three_descents.ipynb) [b](../README.md) [c](solutions) [d](https://example.org/x.ipynb)"
    said = site.prose(text)
    assert re.findall(r'href="([^"]*)"', said) == [
        "01_three_descents.html",
        "teachers.html",
        "https://example.org/x.ipynb",
    ]
    assert "c" in said


def test_without_an_address_there_are_no_links_to_notebooks() -> None:
    assert Place().elsewhere("01_three_descents", "en") == []
    addresses = [address for _, address in Place("https://github.com/o/n/").elsewhere("01_x", "zh")]
    assert addresses == [
        "https://github.com/o/n/blob/main/notebooks/zh/01_x.ipynb",
        "https://mybinder.org/v2/gh/o/n/main?labpath=notebooks/zh/01_x.ipynb",
        "https://colab.research.google.com/github/o/n/blob/main/notebooks/zh/01_x.ipynb",
    ]


def test_the_address_is_that_of_the_environment_and_the_workflow_builds_with_it(monkeypatch) -> None:
    monkeypatch.delenv("ACCUM_SITE_REPOSITORY", raising=False)
    assert build.place() == Place("", "main"), "nothing is published yet"
    monkeypatch.setenv("ACCUM_SITE_REPOSITORY", "https://github.com/o/n")
    assert build.place().repository == "https://github.com/o/n"
    workflow = yaml.safe_load((record.ROOT / ".github" / "workflows" / "site.yml").read_text())["jobs"][
        "build"
    ]
    assert "ACCUM_SITE_REPOSITORY" in workflow["env"]
    makefile = (record.ROOT / "Makefile").read_text()
    targets = [
        step["run"].removeprefix("make ") for step in workflow["steps"] if "make" in step.get("run", "")
    ]
    assert targets == ["site", "site-check"]
    assert all(f"\n{target}:" in makefile for target in targets)


def test_an_exercise_is_open_and_followed_by_its_place(site) -> None:
    page = site.lesson("01_three_descents", [{"kind": "prose", "text": "# T"}, {**CODE, "check": "check_x"}])
    assert '<div class="exercise" data-check="check_x"></div>' in page
    assert '<details class="code">' not in page
    assert "ACCUM_EXERCISES" not in page
    assert 'href="https://github.com/someone/course/blob/main/notebooks/01_three_descents.ipynb"' in page


def test_exercises_that_run_in_the_page_are_handed_to_it(site) -> None:
    task = {**CODE, "check": "check_x", "exercise": {"blank": "</script>"}}
    page = site.lesson("01_three_descents", [{"kind": "prose", "text": "# T"}, task])
    assert '<div class="exercise" data-check="check_x"></div>' in page
    assert '<noscript><div class="task">' in page, "the editor shows the code"
    assert 'ACCUM_EXERCISES = {"check_x": {"blank": "\\u003c/script\\u003e"}}' in page
    assert "static/exercise.js" in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_card_is_made_of_the_lessons_own_loops_and_rules(language) -> None:
    own = Site(language, lessons(folder_for(language, record.NOTEBOOKS)), Place())
    card = BeautifulSoup(own.card(), "html.parser").article
    first, wrong, mixed = (pre.get_text() for pre in card.find_all("pre"))
    cell = (record.NOTEBOOKS / "src" / "00_start_here.py").read_text(encoding="utf-8")
    lines = re.findall(r"^# ( +.*[^ ])$", cell.partition("# def train(")[2], re.MULTILINE)
    assert first.splitlines()[1:] == lines[: len(first.splitlines()) - 1]
    assert len(re.findall(r"# \d\. ", first)) == 7
    assert "leaked_tail" in wrong
    assert "GradScaler" in mixed
    assert "import" not in card.get_text()
    assert len(card.find_all("tr")) == 4, "linear, square root, neither"
    assert {a["href"] for a in card.find_all("a")} <= {f"{lesson['name']}.html" for lesson in own.lessons}


def test_the_card_is_linked_where_its_loops_are_and_for_teachers(site) -> None:
    for mark in pages.CARD.values():
        page = site.lesson("02_equivalence", [{"kind": "prose", "text": f"```python\n{mark}\n```\n\n| a |"}])
        assert page.count('href="card.html"') == 1
    assert 'href="card.html"' not in site.lesson("02_equivalence", [PROSE])
    assert site.plain()["teachers"].count('href="card.html"') == 1


def test_a_lesson_that_has_lost_what_the_card_shows_ends_the_build(site, monkeypatch) -> None:
    monkeypatch.setitem(pages.CARD, "00_start_here", "no such line")
    with pytest.raises(ValueError, match=r"00_start_here.ipynb with 'no such line', which is gone"):
        site.card()


def test_texts_are_there_in_every_language_with_the_same_places() -> None:
    texts = tomllib.loads((pages.HERE / "texts.toml").read_text(encoding="utf-8"))
    for key, said in texts.items():
        assert set(said) == {"en", "zh"}, key
        places = [sorted(re.findall(r"\{\w+\}", text)) for text in said.values()]
        assert places[0] == places[1], key
    files = (path for kind in ("templates/*.html", "static/*.js", "*.py") for path in pages.HERE.glob(kind))
    used = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [key for key in texts if not re.search(rf"\bt\.{key}\b|[\"']{key}[\"']", used)] == []


# --- Recording


def small_explorer(bad: bool = False) -> GridExplorer:
    def picture_of(x: int) -> Picture:
        if bad and x:
            raise ArithmeticError("no")
        return Picture([line([0, 1], [x, 2 * x], "", "line", "#000000", "solid")], layout(300), f"x is {x}")

    return GridExplorer([Control("x", "x", (0, 1), 0)], picture_of)


def test_an_explorer_is_packed_whole_and_alike_each_time() -> None:
    packed = record._explorer(small_explorer())
    assert packed == record._explorer(small_explorer())
    assert (packed["controls"], packed["settings"], packed["summary"]) == (1, 2, "x is 0")


def test_a_setting_that_cannot_be_computed_ends_the_build() -> None:
    with pytest.raises(record.LessonError, match=r"setting of an explorer .*: no"):
        record._explorer(small_explorer(bad=True))


def notebook(folder: pathlib.Path, *cells: nbformat.NotebookNode) -> pathlib.Path:
    path = folder / "05_made.ipynb"
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def test_a_cells_outputs_are_recorded_in_their_order(tmp_path) -> None:
    source = (
        "print('a')\nfrom IPython.display import HTML, display\ndisplay(HTML('<i>b</i>'))\nprint('c')\n1 + 1"
    )
    blocks = record.record(notebook(tmp_path, new_markdown_cell("# T"), new_code_cell(source)), "en")
    assert [block["kind"] for block in blocks] == ["prose", "code", "text", "html", "text"]
    assert [b.get("text") or b.get("html") for b in blocks[2:]] == ["a\n", "<i>b</i>", "c\n2\n"]


def test_an_exercise_shows_no_verdict_on_its_blank(tmp_path) -> None:
    cell = new_code_cell("def check_x(f):\n    return 'Not yet'\n\ncheck_x(...)")
    (block,) = record.record(notebook(tmp_path, cell), "en")
    assert block["check"] == "check_x"


def test_a_cell_that_fails_ends_the_build_with_its_name(tmp_path) -> None:
    cell = new_code_cell("1 / 0", id="cell-07")
    with pytest.raises(record.LessonError, match=r"05_made.ipynb, cell-07: ZeroDivisionError"):
        record.record(notebook(tmp_path, cell), "en")


# --- Computing only what has changed


@pytest.fixture
def runs(monkeypatch) -> list[str]:
    """The jobs that were run, instead of running them."""
    done: list[str] = []

    def run(job: str, file: pathlib.Path) -> float:
        file.write_text("{}")
        done.append(job)
        return 0.0

    monkeypatch.setattr(build, "_run", run)
    return done


def test_a_lesson_is_computed_again_only_if_its_notebook_or_the_library_changed(
    runs, tmp_path, monkeypatch
) -> None:
    names = ["00_start_here", "01_three_descents"]
    build.compute(names, tmp_path)
    build.compute(names, tmp_path)
    assert sorted(runs) == names
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for name in names:
        (notebooks / f"{name}.ipynb").write_bytes((record.NOTEBOOKS / f"{name}.ipynb").read_bytes())
    monkeypatch.setattr(build, "NOTEBOOKS", notebooks)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "accum_lib").mkdir()
    (tmp_path / "constraints.txt").touch()
    monkeypatch.setattr(build, "HERE", tmp_path)
    (tmp_path / "record.py").touch()
    before = {name: build.digest(name) for name in names}
    with (notebooks / "01_three_descents.ipynb").open("a") as file:
        file.write(" ")
    after = {name: build.digest(name) for name in names}
    assert [before[name] == after[name] for name in names] == [True, False]
    (tmp_path / "accum_lib" / "new.py").write_text("")
    assert [build.digest(name) == after[name] for name in names] == [False, False]


def test_a_calculators_model_is_computed_again_only_if_the_planner_changed(tmp_path, monkeypatch) -> None:
    for name in ("memory", "lessons"):
        (tmp_path / "accum_lib" / name).mkdir(parents=True)
    (tmp_path / "constraints.txt").touch()
    (tmp_path / "calculator.py").touch()
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "HERE", tmp_path)
    found = []
    for changed in ("", "lessons/new.py", "memory/new.py", "losses.py"):
        if changed:
            (tmp_path / "accum_lib" / changed).touch()
        found.append(build.digest("calculator-gpt2"))
    assert [a == b for a, b in pairwise(found)] == [True, False, False]


def test_a_lesson_that_measures_processes_has_the_machine_to_itself(runs, tmp_path) -> None:
    build.compute(["00_start_here", "01_three_descents", "08_distributed"], tmp_path)
    assert runs[0] == "08_distributed"
    assert sorted(runs[1:]) == ["00_start_here", "01_three_descents"]
    assert set(build.ALONE) <= {path.stem for path in record.NOTEBOOKS.glob("*.ipynb")}


def test_the_same_lessons_give_the_same_bytes(tmp_path) -> None:
    part = tmp_path / "part.json"
    blocks = [{"kind": "prose", "text": "# T"}, ASK, OUTPUT]
    part.write_text(json.dumps(dict.fromkeys(("en", "zh"), blocks)))
    for name in ("one", "two"):
        build.write(tmp_path / name, ["01_three_descents"], {"01_three_descents": part})
        build.pack(tmp_path / name, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert "course/zh/01_three_descents.html" in archive.namelist()
        assert archive.testzip() is None
    part.write_text(part.read_text().replace("# T", "# S"))
    build.write(tmp_path / "two", ["01_three_descents"], {"01_three_descents": part})
    build.pack(tmp_path / "two", tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() != (tmp_path / "two.zip").read_bytes(), "a change is seen"


def test_a_lesson_that_is_not_there_is_named(runs, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"there is no lesson 10_magic; there are 00_start_here, "):
        build.build(tmp_path / "site", ["10_magic"], tmp_path)
    assert runs == []


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds files that are no site"):
        build.clear(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_the_explainers_links_lead_to_pages() -> None:
    page = 'href="../notebooks/02_x.ipynb" "../notebooks/zh/02_x.ipynb" folder = "../notebooks/"'
    assert build.explainer(page) == 'href="./02_x.html" "./zh/02_x.html" folder = "./"'
    assert '<div class="bar"><a href="./index.html">' in build.explainer(explainer_page({}))


def test_the_front_end_is_the_notebooks_own() -> None:
    source = (record.ROOT / "accum_lib/lessons/kit/static/grid.js").read_text(encoding="utf-8")
    before_its_export = source.rpartition("export default")[0]
    assert before_its_export in build.shared()["explorers.js"].decode()
