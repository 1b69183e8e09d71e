"""Notebook 07's checks accept the solution, and turn the blank and the likely mistakes away with a hint."""

from itertools import pairwise

import pytest

from accum_lib.exercises import check_alignable, check_momentum, check_torch_mean


def needs(target) -> int:
    return len(target) + sum(a == b for a, b in pairwise(target))


CASES = [
    (
        check_momentum,
        lambda big, steps: 1 - (1 - big) ** (1 / steps),
        [
            (lambda big, steps: ..., "returns nothing yet"),
            (lambda big, steps: big, "(1 - m)^K"),
            (lambda big, steps: big / steps, "only about"),
            (lambda big, steps: big ** (1 / steps), "(1 - m)^K"),
            (lambda big: big, "raised TypeError"),
        ],
    ),
    (
        check_torch_mean,
        lambda lengths: [1 / n / len(lengths) for n in lengths],
        [
            (lambda lengths: ..., "returns nothing yet"),
            (lambda lengths: [1 / sum(lengths)] * len(lengths), "mean over all symbols"),
            (lambda lengths: [1 / len(lengths)] * len(lengths), "mean over utterances"),
            (lambda lengths: [1 / n for n in lengths], "up to a factor"),
            (lambda lengths: [1.0], "one weight for each"),
            (lambda lengths: [n / sum(lengths) for n in lengths], "Divide by what"),
        ],
    ),
    (
        check_alignable,
        lambda frames, target: frames >= needs(target),
        [
            (lambda frames, target: ..., "returns nothing yet"),
            (lambda frames, target: frames >= len(target), "between two equal symbols"),
            (lambda frames, target: frames > len(target), "each symbol needs a frame"),
            (lambda frames, target: frames >= 2 * len(target) - 1, "each symbol needs a frame"),
        ],
    ),
]
WRONG = [(check, answer, hint) for check, _, wrong in CASES for answer, hint in wrong]


@pytest.mark.parametrize(("check", "solution"), [(c, s) for c, s, _ in CASES])
def test_the_solution_is_accepted(check, solution) -> None:
    feedback = check(solution)
    assert feedback.correct, feedback


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_a_hint(check, answer, hint) -> None:
    feedback = check(answer)
    assert not feedback.correct
    assert hint in feedback.message, feedback.message
