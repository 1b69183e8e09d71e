"""Each check accepts the solution, and turns the blank and the likely mistakes away with a hint."""

import math

import pytest

from accum_lib.exercises import check_same_step, check_updates_per_epoch, check_weight

CASES = [
    (
        check_updates_per_epoch,
        lambda n, m, k: math.ceil(math.ceil(n / m) / k),
        [
            (lambda n, m, k: ..., "returns nothing yet"),
            (lambda n, m, k: None, "returns nothing yet"),
            (lambda n, m, k: n // m, "each update uses 2"),
            (lambda n, m, k: n // (m * k), "trailing window"),
            (lambda n, m, k: math.ceil(n // m / k), "last and smaller one included"),
            (lambda n, m, k: max(1, 5 if k == 2 else 4), "longer|by hand"),
            (lambda n, m: n, "raised TypeError"),
        ],
    ),
    (
        check_weight,
        lambda i, counts: counts[i] / sum(counts),
        [
            (lambda i, counts: ..., "returns nothing yet"),
            (lambda i, counts: 1, "three times too large"),
            (lambda i, counts: 1 / len(counts), "mean of means"),
            (lambda i, counts: counts[i], "add up to 9"),
            (lambda i, counts: counts[i] / max(counts), "add up to 1.8"),
            (lambda i, counts: counts[-1 - i] / sum(counts), "relative error"),
            (lambda i, counts: counts[i] / 0, "raised ZeroDivisionError"),
        ],
    ),
    (
        check_same_step,
        lambda rate, k: rate / k,
        [
            (lambda rate, k: ..., "returns nothing yet"),
            (lambda rate, k: rate, "2 times as long"),
            (lambda rate, k: rate * k, "longer still"),
            (lambda rate, k: rate / k**0.5, "1.41 times as long"),
            (lambda rate, k: rate / 2, "2.5 times as long"),
            (lambda rate: rate, "raised TypeError"),
        ],
    ),
]
WRONG = [(check, answer, hint) for check, _, wrong in CASES for answer, hint in wrong]


@pytest.mark.parametrize(("check", "solution"), [(c, s) for c, s, _ in CASES])
def test_the_solution_is_accepted(check, solution) -> None:
    feedback = check(solution)
    assert feedback.correct
    assert repr(feedback).startswith("Right. ")


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_a_hint(check, answer, hint) -> None:
    feedback = check(answer)
    assert not feedback.correct
    assert any(part in feedback.message for part in hint.split("|")), feedback.message
