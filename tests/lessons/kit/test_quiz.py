"""Predictions: the answer comes after the guess, from a run, and a failure is said in words."""

import pytest
from asking import asked

from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.three_descents import questions
from accum_lib.lessons.three_descents.measure import DescentComparison
from accum_lib.problems.regression import Regression


@pytest.fixture(scope="module")
def comparison() -> DescentComparison:
    return DescentComparison(Regression(1000))


def test_nothing_is_computed_before_the_guess() -> None:
    computed = []
    prediction = Quiz("?", {"yes": "Think again.", "no": ""}, lambda: computed.append(1) or (1, "because"))
    assert prediction.button.disabled
    prediction.choice.value = 0
    assert not prediction.button.disabled
    assert computed == []
    assert "✗ yes<br> Think again. It is: <b>no</b>. because" in asked(prediction, 0)
    assert computed == [1]


def test_a_right_guess_is_told_so() -> None:
    said = asked(Quiz("?", {"yes": "Think again.", "no": "Think again."}, lambda: (1, "because")), 1)
    assert "✓ As you predicted." in said
    assert "✗" not in said
    assert "Think again" not in said


def test_what_an_error_says_is_text_and_no_markup() -> None:
    def answer():
        raise ValueError("<img src=x onerror=alert(1)>")

    prediction = Quiz("?", {"yes": "", "no": ""}, answer)
    prediction.choice.value = 0
    prediction.button.click()
    assert "&lt;img src=x" in prediction.reply.value
    assert "<img" not in prediction.reply.value


@pytest.mark.parametrize("fault", [ValueError("no such data"), KeyboardInterrupt()])
def test_a_failure_is_said_in_words_and_can_be_tried_again(fault) -> None:
    answers = iter([fault, (0, "now it works")])

    def answer():
        found = next(answers)
        if isinstance(found, BaseException):
            raise found
        return found

    prediction = Quiz("?", {"yes": "", "no": ""}, answer)
    prediction.choice.value = 0
    prediction.button.click()
    assert "could not be computed" in prediction.reply.value
    assert prediction.errors == [fault]
    assert not prediction.button.disabled
    prediction.button.click()
    assert "now it works" in prediction.reply.value


def test_the_full_buffer_is_the_big_batchs_gradient() -> None:
    assert "As you predicted." in asked(questions.full_buffer(), 1)


def test_a_sum_of_two_steps_twice_as_far(comparison) -> None:
    assert "As you predicted." in asked(questions.summed_step(comparison), 2)


def test_accumulation_follows_the_same_path(comparison) -> None:
    assert "As you predicted." in asked(questions.same_path(comparison), 0)


def test_the_verdict_follows_the_run_and_not_the_script(comparison, monkeypatch) -> None:
    """With a comparison in which the sum takes another path, the answer is another one."""

    class Summed(DescentComparison):
        def compare(self, *args, **settings):
            return super().compare(*args, **{**settings, "gradient": "sum"})

    summed = Summed(Regression(1000))
    assert "It is: <b>the same</b>" in asked(questions.summed_step(summed), 2)
    assert "As you predicted." in asked(questions.same_path(summed), 2)
