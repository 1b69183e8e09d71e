"""Notebook 07's explorers and predictions without a browser."""

import pytest
from asking import asked

from accum_lib.lessons.beyond_text import measure, questions
from accum_lib.lessons.beyond_text.explorer import norm_explorer, speech_explorer, weighting_explorer


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    monkeypatch.setattr(measure, "WINDOWS", 1)


@pytest.mark.parametrize("make", [norm_explorer, weighting_explorer])
def test_no_setting_fails_and_each_says_what_it_shows(make, some_settings) -> None:
    explorer = make()
    explorer.fill()
    assert explorer.errors == []
    assert all(cell.get("summary") for cell in explorer.cells.values())


def test_each_epoch_of_the_training_can_be_shown() -> None:
    explorer = speech_explorer(epochs=2)
    explorer.fill()
    assert explorer.errors == []
    assert len(explorer.cells) == 3 * 3
    assert all(cell.get("summary") for cell in explorer.cells.values())


@pytest.mark.parametrize(
    ("ask", "right", "words"),
    [
        (questions.halved_batch, 2, "at M = 32"),
        (questions.lone_syllable, 1, "8.0 times as much"),
        (questions.unmasked_padding, 1, "off without the mask"),
    ],
)
def test_the_answers_come_from_runs(ask, right, words) -> None:
    reply = asked(ask(), right)
    assert "As you predicted." in reply
    assert words in reply
    assert "It is:" in asked(ask(), 0)


def test_the_verdicts_follow_the_run_and_not_the_script(monkeypatch) -> None:
    """With a net that does not leak, and with the right weighting in place of torch's, they are others."""
    real, audio = questions.weigh, questions.Audio
    monkeypatch.setattr(questions, "Audio", lambda n, dtype, mask: audio(n, dtype))
    assert "As you predicted." in asked(questions.unmasked_padding(), 0)
    monkeypatch.setattr(questions, "weigh", lambda name: real("window"))
    assert "As you predicted." in asked(questions.lone_syllable(), 0)
    exact = measure.norm_errors("group")
    monkeypatch.setattr(questions, "norm_errors", lambda norm: exact)
    assert "As you predicted." in asked(questions.halved_batch(), 0)
