"""Notebook 03's checks accept the solution, and turn the blank and the likely mistakes away with a hint."""

import pytest

from accum_lib.exercises import check_beta2, check_noise_scale, check_variance


def solved(m, k, mean_square, whole, trace_factor=1.0, noisy=False):
    trace = (mean_square - whole) / (1 / m - 1 / (m * k)) * trace_factor
    return trace / (whole if noisy else whole - trace / trace_factor / (m * k))


CASES = [
    (
        check_variance,
        lambda trace, b, n: trace / b * (1 - b / n),
        [
            (lambda trace, b, n: ..., "returns nothing yet"),
            (lambda trace, b, n: trace / b, "whole data set"),
            (lambda trace, b, n: trace / b**0.5, "whole data set"),
            (lambda trace, b, n: trace * (1 - b / n), "B = N is right"),
            (lambda trace, b, n: (n - 1) / n * trace / b * (1 - b / n), "B = N is right"),
            (lambda trace, b: trace / b, "raised TypeError"),
        ],
    ),
    (
        check_noise_scale,
        solved,
        [
            (lambda m, k, s, w: ..., "returns nothing yet"),
            (lambda m, k, s, w: solved(m, k, s, w, noisy=True), "noise of its own"),
            (lambda m, k, s, w: s / w, "ratio of the two norms"),
            (lambda m, k, s, w: solved(m, k, s, w) * m, "factor M"),
            (lambda m, k, s, w: solved(m, k, s, w) / k, "factor K"),
            (lambda m, k, s, w: 1 / solved(m, k, s, w), "upside down"),
            (lambda m, k, s, w: 1.7, "two expectations"),
            (lambda m, k, s, w: 1 / 0, "raised ZeroDivisionError"),
        ],
    ),
    (
        check_beta2,
        lambda beta2, base, batch: beta2 ** (batch / base),
        [
            (lambda beta2, base, batch: ..., "returns nothing yet"),
            (lambda beta2, base, batch: beta2, "within 14"),
            (lambda beta2, base, batch: beta2 ** (base / batch), "forgets half"),
            (lambda beta2, base, batch: 1 - (1 - beta2) * batch / base, "forgets half"),
            (lambda beta2, base, batch: beta2 * batch, "not between 0 and 1"),
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
