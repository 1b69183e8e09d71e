"""A formula that was not filled in, and one that fails: every check says so, and none of them raises."""

import pytest

from accum_lib.exercises import (
    check_bytes,
    check_choice,
    check_enough,
    check_fastest_steps,
    check_floor,
    check_second_buffer,
    check_share,
    check_steps,
    check_work,
)


@pytest.mark.parametrize(
    "check",
    [
        check_floor, check_second_buffer, check_steps, check_share, check_bytes, check_enough,
        check_work, check_choice, check_fastest_steps,
    ],
)  # fmt: skip
def test_a_blank_and_an_exception(check) -> None:
    assert "put your formula" in check(lambda *_: ...).message
    assert "put your formula" in check(lambda *_: None).message
    assert "ZeroDivisionError" in check(lambda *_: 1 / 0).message
