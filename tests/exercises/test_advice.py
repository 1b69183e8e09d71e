"""Notebook 09's checks accept the solution, and turn the blank and the likely mistakes away with a hint."""

import math

import pytest

from accum_lib.exercises import check_choice, check_fastest_steps, check_work


def choice(noise, n, largest):
    batch = min(round(noise), n)
    k = math.ceil(batch / largest)
    return math.ceil(batch / k), k


def fastest(noise, m, one, update):
    return max(1, round(math.sqrt(noise * update / (m * one))))


CASES = [
    (
        check_work,
        lambda noise, b: (1 + noise / b, 1 + b / noise),
        [
            (lambda noise, b: ..., "returns nothing yet"),
            (lambda noise, b: 1 + noise / b, "two numbers are asked for"),
            (lambda noise, b: (1 + b / noise, 1 + noise / b), "upside down"),
            (lambda noise, b: (noise / b, b / noise), "the least itself is missing"),
            (lambda noise, b: (1 + noise / b, b + noise), "over *their* least"),
            (lambda noise, b: ((1 + noise / b) ** 0.5, (1 + b / noise) ** 0.5), "no square root"),
            (lambda noise, b: (2, 2), "At B = the noise scale both are 2"),
            (lambda noise: 1, "raised TypeError"),
        ],
    ),
    (
        check_choice,
        choice,
        [
            (lambda noise, n, largest: ..., "returns nothing yet"),
            (lambda noise, n, largest: choice(noise, n, largest)[::-1], "M comes first"),
            (lambda noise, n, largest: (min(round(noise), n), 1), "does not fit"),
            (
                lambda noise, n, largest: (largest, max(1, int(noise // largest))),
                "The last micro-batch may be",
            ),
            (lambda noise, n, largest: (largest, math.ceil(noise / largest)), "With that K a smaller M"),
            (lambda noise, n, largest: choice(noise, 10**9, largest), "there are only 600 examples"),
            (lambda noise, n, largest: (1, min(round(noise), n)), "every further pass takes time"),
            (lambda noise, n, largest: 1 / 0, "raised ZeroDivisionError"),
        ],
    ),
    (
        check_fastest_steps,
        fastest,
        [
            (lambda noise, m, one, update: ..., "returns nothing yet"),
            (lambda noise, m, one, update: round(noise / m), "B at the noise scale"),
            (lambda noise, m, one, update: round(noise * update / (m * one)) + 1, "it is K² that you have"),
            (lambda noise, m, one, update: max(1, round(update / one)), "The noise is left out"),
            (lambda noise, m, one, update: int(math.sqrt(noise * update / (m * one))), "at least one"),
            (lambda noise, m, one, update: 100, "minimise it over K"),
            (lambda noise, m: 1, "raised TypeError"),
        ],
    ),
]
WRONG = [(check, answer, hint) for check, _, wrong in CASES for answer, hint in wrong]


@pytest.mark.parametrize(("check", "solution"), [(c, s) for c, s, _ in CASES])
def test_the_solution_is_accepted(check, solution) -> None:
    feedback = check(solution)
    assert feedback.correct, feedback
    assert repr(feedback).startswith("Right. ")


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_a_hint(check, answer, hint) -> None:
    feedback = check(answer)
    assert not feedback.correct
    assert hint in feedback.message, feedback.message
