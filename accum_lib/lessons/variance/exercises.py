"""Exercises of notebook 03. Each check runs the reader's answer, and gives a hint instead of the solution."""

from collections.abc import Callable
from functools import cache

import torch

from accum_lib.lessons.kit.feedback import BLANK, Feedback, is_blank, not_yet, right, runs
from accum_lib.lessons.variance.measure import draw, means
from accum_lib.noise import example_gradients, from_gradients, from_window
from accum_lib.problems.digits import Digits
from accum_lib.words import _, sentences


@runs
def check_variance(variance: Callable[[float, int, int], float]) -> Feedback:
    """Exercise 1: ``variance(trace, batch_size, num_samples)`` of a mini-batch drawn without replacement.

    Compared with mini-batches of 32 of 64 digits, 2,000 of them, as well as with the law.
    """
    given = variance(1.0, 4, 8)
    if is_blank(given):
        return not_yet(_(BLANK))
    trace, measured = _measured()
    factor = variance(trace, 32, 64) / measured
    if hint := _variance_hint(variance(trace, 32, 64) / trace, 32, 64):
        return not_yet(
            _(
                "for B = 32 of N = 64 you say {factor:.2f} times what 2,000 mini-batches show. {hint}",
                factor=factor,
                hint=hint,
            )
        )
    if not abs(variance(trace, 64, 64)) <= 1e-9 * trace:  # true of a NaN, too
        return not_yet(
            _(
                "for B = 32 of N = 64 you say {factor:.2f} times what 2,000 mini-batches show, and for B = "
                "N you say {given:.3g}. What can vary when every batch is the whole data set?",
                factor=factor,
                given=variance(trace, 64, 64),
            )
        )
    for b, n in ((1, 64), (8, 512), (32, 64)):
        expected = trace / b * (1 - b / n)
        if not abs(variance(trace, b, n) / expected - 1) <= 1e-6:
            return not_yet(
                _(
                    "B = N is right. For B = {b} of N = {n} and a trace of {trace:.3g} you say {given:.4g}; "
                    "a mean of B, drawn from what has not been drawn yet, has {expected:.4g}.",
                    b=b,
                    n=n,
                    trace=trace,
                    given=variance(trace, b, n),
                    expected=expected,
                )
            )
    return right(
        _(
            "For B = 32 of N = 64 it is {factor:.3f} times what 2,000 measured mini-batches show.",
            factor=factor,
        )
    )


def _variance_hint(given: float, b: int, n: int) -> str | None:
    """What is known about a few likely formulas, by what they give for a trace of 1."""
    near = [
        (
            1 / b,
            _("That holds for draws with replacement. What can vary when a batch is the whole data set?"),
        ),
        (1 - b / n, _("It is 0 for B = N, as it should; but a mean of B gradients varies less than one.")),
        (
            1 / b * (n - b) / (n - 1),
            _("(N - B)/(N - 1) goes with a variance over N; this trace is over N - 1."),
        ),
        ((1 / b * (1 - b / n)) ** 0.5, _("That is the standard deviation: leave the root away.")),
    ]
    return next((hint for value, hint in near if abs(given / value - 1) < 1e-9), None)


@runs
def check_noise_scale(noise_scale: Callable[[int, int, float, float], float]) -> Feedback:
    """Exercise 3: ``noise_scale(micro_batch_size, steps, mean_square, whole)``, from norms alone.

    ``mean_square`` is the mean of the K micro-batch gradients' squared norms, ``whole`` that of their mean.
    The data are endless. Checked on the mean norms of 400 windows of real digits, drawn with replacement.
    """
    m, k = 4, 8
    mean_square, whole = _norms(m, k)
    given = noise_scale(m, k, mean_square, whole)
    if is_blank(given):
        return not_yet(_(BLANK))
    trace, squared_norm = from_window([m] * k, [mean_square / k**2] * k, whole)
    expected = trace / squared_norm
    if abs(given / expected - 1) < 1e-6:
        return right(_("{given:.1f} examples, from norms that accumulation has at hand anyway.", given=given))
    near = [
        (trace / whole, _("|g|² of the window is not |G|²: it holds noise of its own, trace / B")),
        (
            mean_square / whole,
            _("that is the ratio of the two norms; each holds |G|² and its share of the trace"),
        ),
        (expected * m, _("right but for a factor M: is your trace that of one example?")),
        (expected / k, _("right but for a factor K: 1/M - 1/B is (K - 1)/B, not (K - 1)/M")),
        (squared_norm / trace, _("upside down: the noise scale is trace / |G|²")),
    ]
    for value, hint in near:
        if abs(given / value - 1) < 1e-6:
            return not_yet(_("{hint}.", hint=hint))
    return not_yet(
        _(
            "you say {given:.3g}, and it is {expected:.3g}. Write down the two expectations, E|g_M|² = |G|² "
            "+ trace/M and E|g_B|² = |G|² + trace/B, and solve them for trace and |G|².",
            given=given,
            expected=expected,
        )
    )


@runs
def check_fall(fall: Callable[[int, int, int], float]) -> Feedback:
    """Exercise 2: ``fall(batch_size, larger, num_samples)``: how many times as small the variance becomes.

    Without replacement. Compared with 2,000 mini-batches each of 8 and of 32 out of 64 digits.
    """
    given = fall(8, 32, 64)
    if is_blank(given):
        return not_yet(_(BLANK))
    for b, larger, n in ((8, 32, 64), (64, 256, 512), (3, 8, 1000)):
        given, expected = fall(b, larger, n), larger / b * (n - b) / (n - larger)
        if not abs(given / expected - 1) <= 1e-6:
            return not_yet(
                sentences(
                    _(
                        "from B = {b} to {larger} of N = {n} you say {given:.4g}.",
                        b=b,
                        larger=larger,
                        n=n,
                        given=given,
                    ),
                    _fall_hint(given, expected, larger / b),
                )
            )
    measured = _measured(8)[1] / _measured(32)[1]
    return right(
        _(
            "From B = 8 to 32 of N = 64: 7 times. On 2,000 measured mini-batches of each it is "
            "{measured:.2f}.",
            measured=measured,
        )
    )


def _fall_hint(given: float, expected: float, ratio: float) -> str:
    near = [
        (ratio, _("So it is for N without end. Here the larger batch leaves fewer examples to chance.")),
        (1 / expected, _("Upside down: it falls, and the question is how many times.")),
        (expected**0.5, _("That is how the standard deviation falls.")),
        (ratio**0.5, _("That is how the standard deviation falls.")),
        (expected / ratio, _("The factors (1 - B/N) are right; now those of 1/B.")),
    ]
    hint = next((hint for value, hint in near if abs(given / value - 1) < 1e-9), None)
    return hint or _("Divide the formula of exercise 1 at the smaller batch by that at the larger.")


@cache
def _measured(batch_size: int = 32) -> tuple[float, float]:
    """The trace of 64 digits' gradients, and how far 2,000 mini-batches are from their mean."""
    problem = Digits("mlp", torch.float64, 64)
    gradients = example_gradients(problem, problem.make_model())
    batches = means(gradients, draw(64, batch_size, 2000))
    return from_gradients(gradients).trace, float((batches - gradients.mean(0)).square().sum(1).mean())


@cache
def _norms(m: int, k: int) -> tuple[float, float]:
    """Mean squared norms over 400 windows: of the micro-batches' gradients, and of the windows'."""
    problem = Digits("mlp", torch.float64, 256)
    gradients = example_gradients(problem, problem.make_model())
    rows = draw(256, m * k, 400, "with replacement")
    parts = means(gradients, rows.reshape(-1, m))
    return float(parts.square().sum(1).mean()), float(means(gradients, rows).square().sum(1).mean())
