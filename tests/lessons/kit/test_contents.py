"""What is read from the notebooks: all of it, whatever their language, and tied to the library."""

import json
import pathlib
from collections import Counter

import pytest
from course import CHECKS, QUESTIONS

from accum_lib.lessons.distributed.measure import Lab
from accum_lib.lessons.kit.contents import Lesson, lessons, read
from accum_lib.lessons.kit.quiz import Quiz

NOTEBOOKS = pathlib.Path(__file__).resolve().parents[3] / "notebooks"
OPENING = (
    "# 01 · Title\n\n**Question.** Is it\nso?\n\n**Goals**\n- one\n\n**Time:** 30 minutes. **Before:** 00."
)
ZH = "# 01 · 标题\n\n**问题**：是\n这样吗？\n\n**目标**\n- 一\n\n**时间**：30 分钟。"
CODE = """

questions.asked(lab, [1, 2]).show()
questions.asked_over_lines(
    M=4,
).show()
whole = questions.helper(report)
"""

OLD_KEYS = """
descents.full_buffer descents.summed_step descents.same_path equivalence.lonely_token
equivalence.coarse_buffer variance.variance_against_steps variance.sixteen_times_the_batch
memory.doubled_steps memory.halved_micro_batch pitfalls.seen_in_the_loss pitfalls.hidden_by_adam
roberta.usual_snippet roberta.dropout beyond.halved_batch beyond.lone_syllable
beyond.unmasked_padding communication.bytes_in_every_pass communication.bytes_in_the_last_pass
communication.fixed_batch advice.larger_card advice.four_times_the_steps
"""  # as readers' files have had them since version 0.1


def notebook(path: pathlib.Path, opening: str, *code: str) -> pathlib.Path:
    cells = [{"cell_type": "markdown", "source": opening}]
    cells += [{"cell_type": "code", "source": text.splitlines(keepends=True)} for text in code]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


@pytest.mark.parametrize(("opening", "words"), [(OPENING, ("01 · Title", "Is it so?")),
                                                (ZH, ("01 · 标题", "是 这样吗？"))])  # fmt: skip
def test_a_notebook_is_read(tmp_path, opening, words) -> None:
    path = notebook(tmp_path / "04_memory.ipynb", opening, CODE, "check_it(f)\ncheck_it(f)\n  check_not(f)")
    asked = ("memory.asked", "memory.asked_over_lines")
    assert read(path) == Lesson("04_memory.ipynb", *words, 30, asked, ("check_it",))


def test_copies_are_passed_over_and_the_order_is_that_of_the_names(tmp_path) -> None:
    for name in ("02_b", "01_a", "01_a-Copy1", "mine"):
        notebook(tmp_path / f"{name}.ipynb", OPENING)
    assert [lesson.file for lesson in lessons(tmp_path)] == ["01_a.ipynb", "02_b.ipynb"]


@pytest.mark.parametrize("gone", ["# 01 · Title", "**Question.** Is it\nso?\n\n", "**Time:** 30"])
def test_an_opening_that_lacks_something_is_refused(tmp_path, gone) -> None:
    path = notebook(tmp_path / "01_one.ipynb", OPENING.replace(gone, ""))
    with pytest.raises(ValueError, match=r"01_one.ipynb: its first cell"):
        read(path)


def test_every_notebook_of_the_project_is_there() -> None:
    found = lessons(NOTEBOOKS)
    assert [lesson.file for lesson in found] == sorted(p.name for p in NOTEBOOKS.glob("*.ipynb"))
    assert all(lesson.predictions for lesson in found)
    assert all(lesson.exercises for lesson in found[1:])


def test_a_progress_file_of_an_older_version_still_counts() -> None:
    asked = {name for lesson in lessons(NOTEBOOKS) for name in lesson.predictions}
    assert set(OLD_KEYS.split()) <= asked


def test_every_check_belongs_to_one_notebook() -> None:
    """A right answer is recorded under its check's name alone."""
    used = Counter(name for lesson in lessons(NOTEBOOKS) for name in lesson.exercises)
    assert used == Counter(list(CHECKS))


def test_a_question_records_itself_under_the_name_that_the_map_looks_for(monkeypatch) -> None:
    """Made with stand-ins, unanswered: its name is all that is looked at."""
    named = []
    monkeypatch.setattr(Quiz, "__init__", lambda self, *args, name=None: named.append(name or args[3]))
    for lesson in lessons(NOTEBOOKS):
        for name in lesson.predictions:
            topic, _, function = name.partition(".")
            ask = getattr(QUESTIONS[topic], function)
            ask(*[_Anything()] * required(ask))
            assert named[-1] == name
    assert len(named) == len(set(named))


def required(function) -> int:
    return function.__code__.co_argcount - len(function.__defaults__ or ())


class _Anything(Lab):
    """Stands for a lab, a comparison, a report: these are not used before the answer is asked for."""

    def __init__(self) -> None:
        pass

    def __getattr__(self, name):
        return self

    def __call__(self):
        return self

    def __getitem__(self, key):
        return self

    def __iter__(self):
        return iter([self] * 3)

    def __str__(self) -> str:
        return "anything"

    __format__ = lambda self, _: "anything"  # noqa: E731
