"""In Chinese no English is left: this finds texts that were never marked, which no catalogue knows."""

import pathlib

import gallery
import nbformat
import pytest
import solutions
import speech
from course import CHECKS

from accum_lib.check import check_case, explain
from accum_lib.check.faults import FAULTS
from accum_lib.lessons.choose_k.trial import verdicts
from accum_lib.lessons.kit import lesson_map, progress
from accum_lib.lessons.kit.contents import Lesson
from accum_lib.lessons.kit.feedback import not_yet, right
from accum_lib.lessons.kit.progress import Progress
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.memory.claims import memory_clauses
from accum_lib.lessons.roberta.figure import training_picture
from accum_lib.lessons.three_descents.exercises import check_weight
from accum_lib.lessons.when_it_breaks.explorer import BugHunt
from accum_lib.machine import one_thread, report
from accum_lib.memory.planner import plan
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.words import speaking

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def chinese(monkeypatch):
    for each in gallery.SMALL:
        monkeypatch.setattr(*each)
    with speaking("zh"), one_thread():
        yield


def left(texts) -> dict[str, set[str]]:
    """The texts in which English is left, with its words."""
    return {text: words for text in texts if (words := speech.english(text))}


@pytest.mark.parametrize("name", gallery.EXPLORERS)
def test_an_explorer_says_nothing_in_english(name) -> None:
    """Not even if it was shown in English before: nothing that is kept remembers the words."""
    with speaking("en"):
        gallery.EXPLORERS[name]().picture()
    assert left(speech.of_explorer(gallery.EXPLORERS[name]())) == {}


@pytest.mark.parametrize("name", gallery.PREDICTIONS)
def test_a_prediction_says_nothing_in_english(name) -> None:
    prediction = gallery.PREDICTIONS[name]()
    assert left(speech.of_prediction(prediction)) == {}
    assert prediction.errors == []


WRONG = {k: v for p in sorted(solutions.MISTAKES.glob("*.py")) for k, v in solutions.mistakes(p.stem).items()}


@pytest.mark.parametrize("name", WRONG)
def test_an_exercise_hints_nothing_in_english(name) -> None:
    check, said = CHECKS[name], []
    for answer, hint in WRONG[name]:
        if "raised" not in hint:  # Python's own words follow
            both = isinstance(answer, tuple) and callable(answer[0])
            said.append(repr(check(*answer) if both else check(answer)))
    assert left(said) == {}


@pytest.mark.parametrize("name", sorted(p.stem for p in solutions.ANSWERS.glob("*.py")))
def test_a_solution_is_praised_in_chinese(name) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    names, said = {}, []
    for source in solutions.exercises(solutions.fill(notebook, solutions.ANSWERS / f"{name}.py")):
        body, _, call = source.rstrip().rpartition("\n")
        exec(body, names)
        said.append(repr(eval(call, names)))
    assert said
    assert [text for text in said if not text.startswith("正确。")] == []
    assert left(said) == {}


def test_an_exception_of_the_readers_is_named_in_chinese() -> None:
    said = repr(check_weight(lambda index, counts: 1 / 0))
    assert said == "还不对：你的函数引发了 ZeroDivisionError：division by zero"
    assert repr(right("对。")) == "正确。对。"
    assert repr(not_yet("再想想。")) == "还不对：再想想。"


def test_the_bug_hunt_tells_its_stories_in_chinese() -> None:
    hunt = BugHunt()
    texts = [hunt.button.description, hunt.guess.description, *(label for label, _ in hunt.guess.options)]
    for number in range(1, len(hunt.suspects) + 1):
        hunt.explorer.choose(number=number)
        hunt.guess.value = "right"
        hunt.button.click()
        story, _, _ = hunt.reply.value.partition("出处：")  # the names of projects follow
        texts.append(story)
    assert hunt.errors == []
    assert {text: words - {"Adam"} for text, words in left(texts).items() if text != "i % K == 0"} == {}


def test_reports_are_chinese() -> None:
    fault = FAULTS[1]
    lines = explain(check_case(fault.wrong, fault.case())).splitlines()
    said = "\n".join(line for line in lines if not line.startswith("    "))  # those are the loop's own
    for name in ("mean_of_means", "weight", "bias", "scheduler"):
        said = said.replace(name, "")
    assert speech.english(said) <= {"ema", "tail_divided_by_k"}
    assert speech.english(report()) <= {"Python", "PyTorch", "cpu"}
    for clause in memory_clauses(predict(gallery.WORKLOAD, Settings(), hopper=False), 16, 32):
        assert speech.english(clause.claim + clause.evidence) == set()
    assert speech.english(plan(gallery.WORKLOAD, "3GB", 32).verdict) == set()
    for clause in (clause for each in gallery.trials().trials for clause in verdicts(each)):
        assert speech.english(clause.claim + clause.evidence) == set()


def test_the_map_is_chinese(tmp_path, monkeypatch) -> None:
    lesson = Lesson("00_one.ipynb", "起点", "是什么？", 10, ("t.p",), ("check_a",))
    monkeypatch.setenv("ACCUM_PROGRESS_FILE", str(tmp_path))  # a folder: nothing can be read or written
    note = progress.record_exercise("check_a")
    notes = note.replace(str(tmp_path), "").replace("IsADirectoryError", "")
    assert left([notes]) == {notes: {"from", "import", "progress", "reset", "accum_lib", "lessons", "kit"}}
    for done in (Progress(), Progress({"t.p": True}, ("check_a",))):
        assert left([lesson_map.as_html([lesson], done), lesson_map.as_text([lesson], done)]) == {}


def test_a_training_run_is_drawn_in_chinese() -> None:
    from accum_lib.training.records import Evaluation, UpdateRecord

    fields = {"loss": 1.0, "accuracy": 0.5, "count": 10, "update": 1}
    update = type("U", (), {**fields, "micro_batch_size": 4, "accumulation_steps": 2})
    assert UpdateRecord is not None
    assert Evaluation is not None
    assert left(speech.of_picture(training_picture([update], [type("E", (), fields)], 0.5))) == {}


def test_what_was_never_marked_is_found() -> None:
    axis = {"title": {"text": "轮次"}}
    picture = Picture([{"name": "损失 of the window"}], {"xaxis": axis}, "第 1 次更新。")
    assert left(speech.of_picture(picture)) == {"损失 of the window": {"of", "the", "window"}}
