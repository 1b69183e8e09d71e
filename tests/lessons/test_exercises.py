"""Every check: it rejects the blank, and wrong answers each with a hint of its own; it accepts the solution.

One that has no solution or too few wrong answers fails here.
"""

import pathlib
import re

import nbformat
import pytest
import solutions as tool
from course import CHECKS

from accum_lib.lessons.kit.feedback import Feedback, not_yet, runs

ROOT = pathlib.Path(__file__).resolve().parents[2]
WRONG = {k: v for p in sorted(tool.MISTAKES.glob("*.py")) for k, v in tool.mistakes(p.stem).items()}
NOTEBOOKS = sorted(p.stem for p in tool.ANSWERS.glob("*.py"))
NO_ANSWER = ("nothing yet", "give the counts", "raised")  # hints for a blank and for a function that fails
LEAST = 3


def asked(check, answer) -> Feedback:
    return check(*answer) if check.__name__ == "check_mlm_loss" else check(answer)


def verdicts(notebook: nbformat.NotebookNode) -> dict[str, Feedback]:
    """Run the cells with exercises, one after the other as in the notebook; what each check says."""
    names, found = {}, {}
    for source in tool.exercises(notebook):
        body, _, call = source.rstrip().rpartition("\n")
        exec(body, names)
        found[call.partition("(")[0]] = eval(call, names)
    return found


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="module", params=NOTEBOOKS)
def name(request) -> str:
    return request.param


def test_solutions_are_accepted_where_blanks_are_not(name) -> None:
    blank = verdicts(read(name))
    solved = verdicts(tool.fill(read(name), tool.ANSWERS / f"{name}.py"))
    assert blank
    assert [check for check, said in blank.items() if said.correct] == []
    assert [said for said in solved.values() if not said.correct] == []
    assert all(repr(said).startswith("Right. ") for said in solved.values())
    assert solved.keys() == blank.keys()


def test_every_check_has_a_notebook_with_a_solution_and_a_table_of_wrong_answers() -> None:
    used = [check for name in NOTEBOOKS for check in verdicts_of_source(name)]
    assert sorted(used) == sorted(CHECKS)
    assert sorted(WRONG) == sorted(CHECKS)


def verdicts_of_source(name: str) -> list[str]:
    return [source.rstrip().rpartition("\n")[2].partition("(")[0] for source in tool.exercises(read(name))]


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_each_wrong_answer_gets_a_hint_of_its_own(check) -> None:
    said = [asked(CHECKS[check], answer) for answer, _ in WRONG[check]]
    for feedback, (_, hint) in zip(said, WRONG[check], strict=True):
        assert not feedback.correct, hint
        assert hint in feedback.message
    assert hints(said) >= LEAST


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_no_number_at_all_is_not_right(check) -> None:
    def nan(*_):
        return float("nan")

    answer = (nan, nan) if check == "check_mlm_loss" else nan
    assert not asked(CHECKS[check], answer).correct


def fails(*_):
    return 1 / 0


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_a_function_that_fails_does_not_end_the_lesson(check) -> None:
    answer = (fails, fails) if check == "check_mlm_loss" else fails
    assert not asked(CHECKS[check], answer).correct


def hints(said: list[Feedback]) -> int:
    """How many sentences there are for wrong answers, numbers apart, and blanks and exceptions apart."""
    messages = [x.message for x in said if not any(part in x.message for part in NO_ANSWER)]
    return len({re.sub(r"[\d.,e+-]+", "#", message) for message in messages})


def test_a_check_with_one_sentence_for_all_mistakes_would_be_noticed() -> None:
    @runs
    def check_generic(answer):
        return not_yet(f"it is not {answer(1)}. Think again.")

    assert hints([check_generic(lambda x, n=n: n) for n in range(5)]) == 1


def test_a_wrong_solution_would_be_noticed(tmp_path) -> None:
    wrong = tmp_path / "01_three_descents.py"
    text = (tool.ANSWERS / wrong.name).read_text()
    wrong.write_text(text.replace("counts[index] / sum(counts)", "1 / len(counts)"))
    said = verdicts(tool.fill(read("01_three_descents"), wrong))
    assert [check for check, verdict in said.items() if not verdict.correct] == ["check_weight"]


def test_an_answer_that_no_exercise_asks_for_is_refused(tmp_path) -> None:
    (tmp_path / "01_three_descents.py").write_text("def weigth(index, counts):\n    return 1\n")
    with pytest.raises(ValueError, match=r"01_three_descents.py: no exercise asks for weigth"):
        tool.fill(read("01_three_descents"), tmp_path / "01_three_descents.py")


def test_a_filled_notebook_keeps_everything_else(tmp_path) -> None:
    before, after = (
        read("01_three_descents"),
        tool.fill(read("01_three_descents"), tool.ANSWERS / "01_three_descents.py"),
    )
    assert [c.cell_type for c in before.cells] == [c.cell_type for c in after.cells]
    changed = [b.source for b, a in zip(before.cells, after.cells, strict=True) if b.source != a.source]
    assert changed == tool.exercises(before)
    assert not any(cell.get("outputs") for cell in after.cells)
