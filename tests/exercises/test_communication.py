"""The checks of notebook 08: right answers pass; blank and likely wrong ones get a hint."""

import math

import pytest

from accum_lib.exercises import check_bytes, check_enough, check_share


def test_right_answers() -> None:
    assert check_share(lambda w, total: w / total).correct
    assert check_bytes(lambda g, m, k, every: g * (k if every else 1) / (m * k)).correct
    assert check_enough(lambda c, a, tolerance: math.ceil(round(a / (c * tolerance), 9))).correct


@pytest.mark.parametrize(
    ("check", "answer", "hint"),
    [
        (check_share, lambda w, total: 1 / total, "world_size times too small"),
        (check_share, lambda w, total: 1 / w, "not 1"),
        (check_bytes, lambda g, m, k, every: g / (m * k), "averaging in every pass"),
        (check_bytes, lambda g, m, k, every: g / m, "averaging in the last pass only"),
        (check_enough, lambda c, a, tolerance: int(a / (c * tolerance)) + 1, "what part of that"),
        (check_enough, lambda c, a, tolerance: 1, "the forecast K = 16"),
    ],
)
def test_likely_mistakes_get_a_hint(check, answer, hint) -> None:
    found = check(answer)
    assert not found.correct
    assert hint in found.message
