"""The checks of notebook 04: right answers pass; blank and likely wrong ones get a hint."""

import math

import pytest

from accum_lib.exercises import check_floor, check_second_buffer, check_steps


def test_right_answers() -> None:
    assert check_floor(lambda p: 20 * p).correct
    assert check_second_buffer(lambda p, k: 4 * p if k > 1 else 0).correct
    assert check_steps(lambda b, m: math.ceil(b / m)).correct


@pytest.mark.parametrize(
    ("check", "answer", "hint"),
    [
        (check_floor, lambda p: 4 * p, "the weights alone"),
        (check_floor, lambda p: 12 * p, "which of the four is missing"),
        (check_floor, lambda p: 16 * p, "one more of their size"),
        (check_floor, lambda p: 99 * p, "count what there is for one parameter"),
        (check_second_buffer, lambda p, k: 4 * p * (k - 1), "never K sets"),
        (check_second_buffer, lambda p, k: 0, "what of the first one is still there"),
        (check_second_buffer, lambda p, k: 4 * p, "compared with itself"),
        (check_second_buffer, lambda p, k: 2 * p * (k > 1), "the lens says 4.0"),
        (check_steps, lambda b, m: b // m, "too few"),
        (check_steps, lambda b, m: b // m + 1, "K = 2 is enough"),
    ],
)
def test_likely_mistakes_get_a_hint(check, answer, hint) -> None:
    found = check(answer)
    assert not found.correct
    assert hint in found.message
