"""The reader's progress: kept across kernels, never lost by half a write, and no trouble to a lesson."""

import json
import os
import subprocess
import sys
from functools import wraps

import pytest

from accum_lib.lessons.kit import progress
from accum_lib.lessons.kit.feedback import not_yet, right, runs
from accum_lib.lessons.kit.progress import Progress, ProgressError
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.three_descents import questions
from accum_lib.lessons.three_descents.exercises import check_weight


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def answered(prediction: Quiz, guess: int) -> str:
    prediction.choice.value = guess
    prediction.button.click()
    return prediction.reply.value


def test_nothing_is_written_before_something_is_done(file) -> None:
    assert progress.load() == Progress()
    assert not file.exists()


def test_what_was_done_is_there_in_another_process(file) -> None:
    assert progress.record_prediction("topic.question", False) == ""
    assert progress.record_exercise("check_this") == ""
    assert progress.record_exercise("check_that") == ""
    code = "from accum_lib.lessons.kit import progress; print(progress.load())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(Progress({"topic.question": False}, ("check_this", "check_that")))


def test_the_first_guess_counts_and_an_exercise_is_solved_once() -> None:
    for guess in (False, True):
        progress.record_prediction("topic.question", guess)
        progress.record_exercise("check_this")
    assert progress.load() == Progress({"topic.question": False}, ("check_this",))


def test_reset_forgets_everything(file) -> None:
    progress.record_exercise("check_this")
    progress.reset()
    progress.reset()
    assert progress.load() == Progress()


def test_a_prediction_is_recorded_after_the_reveal() -> None:
    prediction = questions.full_buffer()
    prediction.choice.value = 0
    assert progress.load() == Progress()
    assert "<p>" not in answered(prediction, 0)
    assert progress.load().predictions == {"descents.full_buffer": False}


def test_the_first_answer_counts_and_whether_one_was_sure_of_it() -> None:
    prediction = questions.full_buffer()
    prediction.sure.value = True
    assert "You were sure" in answered(prediction, 0)
    assert progress.load() == Progress({"descents.full_buffer": False}, sure=("descents.full_buffer",))
    progress.record_prediction("descents.full_buffer", True, sure=False)
    progress.record_prediction("topic.other", True, sure=False)
    assert progress.load().sure == ("descents.full_buffer",)
    assert progress.load().predictions == {"descents.full_buffer": False, "topic.other": True}


def test_a_file_of_before_is_read(file) -> None:
    """As it was before a reader could say that they were sure."""
    file.write_text('{"predictions": {"a.b": true}, "exercises": ["check_this"]}')
    assert progress.load() == Progress({"a.b": True}, ("check_this",))


def test_a_question_that_cannot_be_answered_is_not_recorded() -> None:
    answered(Quiz("?", {"yes": "", "no": ""}, lambda: 1 / 0, name="topic.fails"), 0)
    answered(Quiz("?", {"yes": "", "no": ""}, lambda: (0, "")), 0)  # nobody has named this one
    assert progress.load() == Progress()


def test_only_a_right_answer_is_recorded() -> None:
    check_weight(lambda i, counts: 1)
    check_weight(lambda i, counts: 1 / 0)
    assert progress.load().exercises == ()
    assert check_weight(lambda i, counts: counts[i] / sum(counts)).correct
    assert progress.load().exercises == ("check_weight",)


@runs
def check_made_up(answer):
    return right("Yes.") if answer else not_yet("no.")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"predictions": {}}', '{"predictions": [], "exercises": []}',
             '{"predictions": {"a": "yes"}, "exercises": []}', '{"predictions": {}, "exercises": "check"}',
             '{"predictions": {}, "exercises": [1]}', '{"predictions": {}, "exercises": [], "sure": "a"}',
             "\udcff"],
)  # fmt: skip
def test_a_broken_file_is_said_in_words_and_left_as_it_is(file, text) -> None:
    before = text.encode("utf-8", "surrogateescape")
    file.write_bytes(before)
    with pytest.raises(ProgressError, match=r"cannot be read.*reset"):
        progress.load()
    feedback = check_made_up(True)
    assert feedback.correct
    assert repr(feedback).startswith("Right. Yes.\n(Your progress in ")
    reply = answered(Quiz("?", {"yes": "", "no": ""}, lambda: (0, "because"), name="topic.question"), 0)
    assert "As you predicted. because" in reply
    assert "cannot be read" in reply
    assert file.read_bytes() == before
    progress.reset()
    assert repr(check_made_up(True)) == "Right. Yes."


def test_a_file_that_cannot_be_written_is_said_in_words(file, monkeypatch) -> None:
    (file.parent / "plain").write_text("no folder")
    monkeypatch.setenv(progress.VARIABLE, str(file.parent / "plain" / "progress.json"))
    feedback = check_made_up(True)
    assert feedback.correct
    assert "progress" in feedback.note
    assert repr(check_made_up(False)) == "Not yet: no."


def test_a_write_that_fails_half_way_leaves_the_old_file_and_no_litter(file, monkeypatch) -> None:
    progress.record_exercise("check_this")
    monkeypatch.setattr(os, "replace", fails)
    note = progress.record_exercise("check_that")
    assert "could not be written" in note
    assert progress.VARIABLE in note
    assert progress.load().exercises == ("check_this",)
    assert list(file.parent.iterdir()) == [file]


def fails(*_) -> None:
    raise OSError(28, "No space left on device")


def test_the_file_is_json_that_a_reader_can_look_at(file) -> None:
    progress.record_exercise("check_this")
    assert json.loads(file.read_text()) == {"predictions": {}, "exercises": ["check_this"]}


def test_by_default_it_lies_at_the_projects_root(monkeypatch) -> None:
    monkeypatch.delenv(progress.VARIABLE)
    assert progress.path() == progress.ROOT / ".progress.json"


@pytest.mark.parametrize(
    ("system", "variable"), [("win32", "LOCALAPPDATA"), ("darwin", ""), ("linux", "XDG_DATA_HOME")]
)
def test_of_an_installed_library_it_lies_among_the_users_data(
    system, variable, tmp_path, monkeypatch
) -> None:
    monkeypatch.delenv(progress.VARIABLE)
    monkeypatch.setattr(progress, "ROOT", tmp_path)  # the library alone, in site-packages
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(progress.pathlib.Path, "home", lambda: tmp_path / "home")
    for name in ("LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    found = progress.path()
    assert found.is_relative_to(tmp_path / "home")
    assert found.parts[-2:] == ("accum_lib", "progress.json")
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "named"))
        assert progress.path() == tmp_path / "named" / "accum_lib" / "progress.json"
    assert progress.record_exercise("check_this") == ""
    assert progress.load().exercises == ("check_this",)


def test_a_check_keeps_its_name() -> None:
    assert check_made_up.__name__ == "check_made_up"

    @wraps(check_made_up)
    def other(answer):
        return check_made_up(answer)

    other(True)
    assert progress.load().exercises == ("check_made_up",)
