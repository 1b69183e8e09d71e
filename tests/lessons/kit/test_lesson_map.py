"""The map: what is done and what is left, in words as well as in marks, with links that lead somewhere."""

import json
import pathlib
import re

import pytest

from accum_lib.lessons.kit import progress
from accum_lib.lessons.kit.contents import Lesson, lessons
from accum_lib.lessons.kit.lesson_map import as_html, as_text, progress_map, state, suggestion
from accum_lib.lessons.kit.progress import Progress

NOTEBOOKS = pathlib.Path(__file__).resolve().parents[3] / "notebooks"
ONE = Lesson("00_one.ipynb", "One", "Is `a` < *b*?", 10, ("t.p",), ())
NONE = "0 of 2 predictions made (right: 0), 0 of 2 exercises solved."
TWO = Lesson("01_two.ipynb", "Two", "And then?", 20, ("t.q", "t.r"), ("check_a", "check_b"))


@pytest.mark.parametrize(
    ("lesson", "done", "mark", "words"),
    [
        (ONE, Progress(), "○", "0 of 1 predictions made (right: 0)."),
        (ONE, Progress({"t.p": True}), "●", "1 of 1 predictions made (right: 1)."),
        (TWO, Progress({"t.p": True}, ("check_c",)), "○", NONE),
        (TWO, Progress({"t.q": False}), "◐", "1 of 2 predictions made (right: 0), 0 of 2 exercises solved."),
        (TWO, Progress({}, ("check_b",)), "◐",
         "0 of 2 predictions made (right: 0), 1 of 2 exercises solved."),
        (TWO, Progress({"t.q": True, "t.r": False}, ("check_a",)), "◐",
         "2 of 2 predictions made (right: 1), 1 of 2 exercises solved."),
        (ONE, Progress({"t.p": False}, sure=("t.p",)), "●",
         "1 of 1 predictions made (right: 0). Sure of 1, right in 0."),
        (TWO, Progress({"t.q": True, "t.r": False}, (), ("t.q", "t.p")), "◐",
         "2 of 2 predictions made (right: 1), 0 of 2 exercises solved. Sure of 1, right in 1."),
        (TWO, Progress({"t.q": True, "t.r": False}, ("check_a", "check_b")), "●",
         "2 of 2 predictions made (right: 1), 2 of 2 exercises solved."),
    ],
)  # fmt: skip
def test_how_far_the_reader_is(lesson, done, mark, words) -> None:
    assert state(lesson, done) == (mark, words)


def test_the_next_lesson_is_the_first_in_which_something_is_left() -> None:
    assert suggestion([ONE, TWO], Progress()) == ("Next:", ONE)
    assert suggestion([ONE, TWO], Progress({"t.p": False})) == ("Next:", TWO)
    said, lesson = suggestion([ONE], Progress({"t.p": False}))
    assert "Every prediction is made" in said
    assert lesson is None


def test_marks_are_for_the_eye_and_words_for_everybody() -> None:
    found = as_html([ONE, TWO], Progress({"t.p": True}))
    assert "<span aria-hidden='true'" in found
    assert "<a href='00_one.ipynb'>One</a>" in found
    assert "Is <code>a</code> &lt; <i>b</i>?" in found
    assert found.count("<li") == 2
    assert "<b>Next:</b> <a href='01_two.ipynb'>Two</a>" in found
    for words in ("1 of 1 predictions made (right: 1).", "Next: Two", "Two (20 minutes)"):
        assert words in as_text([ONE, TWO], Progress({"t.p": True}))


def test_it_follows_the_file(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "progress.json"))
    shown = []
    monkeypatch.setattr("accum_lib.lessons.kit.lesson_map.display", lambda data, raw: shown.append(data))
    progress_map(NOTEBOOKS)
    progress.record_exercise("check_weight")
    progress_map(NOTEBOOKS)
    (tmp_path / "progress.json").write_text("broken")
    progress_map(NOTEBOOKS)
    before, after, broken = (data["text/plain"] for data in shown)
    assert "1 of 3 exercises solved" not in before
    assert after.count("1 of 3 exercises solved") == 1
    assert broken.startswith("Your progress in ")
    assert broken.endswith(before)
    assert "cannot be read" in shown[2]["text/html"]


def test_it_is_saved_in_notebook_00_as_it_is_for_a_new_reader() -> None:
    cells = json.loads((NOTEBOOKS / "00_start_here.ipynb").read_text())["cells"]
    (saved,) = [o["data"] for c in cells for o in c.get("outputs", []) if "text/html" in o.get("data", {})]
    found = lessons(NOTEBOOKS)
    assert "".join(saved["text/html"]) == as_html(found, Progress())
    assert "".join(saved["text/plain"]) == as_text(found, Progress())
    assert re.findall(r"href='([^']+)'", as_html(found, Progress()))[:-1] == [x.file for x in found]
