"""What a page needs to judge exercises: recorded from the checks, and refused where it would not tell."""

import re

import pytest

from accum_lib.lessons.kit.feedback import not_yet, right
from tools import solutions
from web import exercises
from web.exercises import Solved, called, judged, specs

IN_NOTEBOOK = {
    "check_loop", "check_data", "check_plain_repair", "check_clipped_repair", "check_logged_repair",
    "check_mlm_loss", "check_script", "check_plan",
}  # fmt: skip


def test_all_but_eight_are_solved_in_the_page() -> None:
    every = {n: s for path in solutions.ANSWERS.glob("*.py") for n, s in specs(path.stem, "en").items()}
    assert {name for name, spec in every.items() if "needs" in spec} == IN_NOTEBOOK
    assert len(every) == 30


def test_every_text_is_in_both_languages() -> None:
    assert all(set(said) == {"en", "zh"} for said in exercises.TEXTS.values())
    for said in exercises.TEXTS.values():
        assert len({tuple(sorted(re.findall(r"{\w+}", text))) for text in said.values()}) == 1


def test_a_mistake_that_the_inputs_do_not_tell_apart_is_noticed() -> None:
    def answer(n):
        return n

    def check_made(f):
        return right("Yes.") if f(2) == 2 else not_yet(f"{next(hints)}.")

    hints = iter(["one", "other"])
    accepts = {"2": {"least": 2, "most": 2}}
    solved = Solved(check_made, answer, "def answer(n):\n    return n", accepts)
    with pytest.raises(
        ValueError, match=r"check_made: the mistake with the hint 'two' cannot be told from .*one"
    ):
        exercises._spec(solved, [(lambda n: 3, "one"), (lambda n: 3, "two")])
    hints = iter(["one"])
    wide = Solved(check_made, answer, "def answer(n):\n    return n", {"2": {"least": 1, "most": 9}})
    with pytest.raises(ValueError, match="the mistake with the hint 'one' cannot be told from the solution"):
        exercises._spec(wide, [(lambda n: 3, "one")])


def test_the_limits_are_the_checks_own() -> None:
    def check_made(f):
        return right("") if abs(f(1) - 10) <= 0.5 and f(2) is True and f(3)[1] == 7 and f(4) else not_yet("")

    results = {"1": 10.0, "2": True, "3": (6, 7), "4": 1}
    found = exercises._accepted(check_made, results)
    assert found["1"]["least"] == pytest.approx(9.5, abs=1e-3)
    assert found["1"]["most"] == pytest.approx(10.5, abs=1e-3)
    assert found["2"] is True
    assert found["3"] == [{}, {"least": 7, "most": 7}]
    assert found["4"] == {}


def test_python_judges_a_recorded_mistake_as_the_page_does() -> None:
    """The guard at the build decides as exercise.js does."""
    spec = specs("01_three_descents", "en")["check_weight"]
    assert judged(spec, called(lambda i, n: 1 / len(n), spec["inputs"])).startswith("Not yet: 1/K is")
    assert judged(spec, called(lambda i, n: 0.3, spec["inputs"])) is None
    assert judged(spec, called(lambda i, n: n[i] / sum(n), spec["inputs"])).startswith("Right.")
    assert judged(spec, called(lambda i: 1, spec["inputs"])) is None


def test_another_micropython_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"micropython.mjs has other exports than expected"):
        exercises._classic("export default create;")
    assert "import.meta" not in exercises.runtime()


def test_an_exercise_of_tensors_is_left_to_the_notebook() -> None:
    """Whatever is neither a number nor a list of them cannot be recorded."""

    def check_made(f):
        f(object())
        return right("")

    assert exercises.record(check_made, lambda x: 1) == (None, {})
    assert exercises.record(lambda f: f(1) and right(""), lambda x: object()) == (None, {})
