"""Exercises of notebook 03. Each check runs the reader's answer, and gives a hint instead of the solution."""

from collections.abc import Callable
from functools import cache

import numpy as np
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
    """Exercise 2: ``noise_scale(micro_batch_size, steps, mean_square, whole)``, from norms alone.

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
def check_beta2(beta2: Callable[[float, int, int], float]) -> Feedback:
    """Exercise 3: ``beta2(reference, reference_batch, batch)`` with the same half-life in examples."""
    given = beta2(0.95, 64, 64)
    if is_blank(given):
        return not_yet(_(BLANK))
    for reference, base, batch in ((0.95, 64, 64), (0.95, 64, 1), (0.999, 8, 1024)):
        given = beta2(reference, base, batch)
        wanted = np.log(0.5) / np.log(reference) * base
        if not 0 < given < 1:
            return not_yet(
                _(
                    "for {reference} at B = {base}, at B = {batch} you say {given:.4g}: not between 0 and 1.",
                    reference=reference,
                    base=base,
                    batch=batch,
                    given=given,
                )
            )
        found = np.log(0.5) / np.log(given) * batch
        if abs(found / wanted - 1) > 1e-6:
            return not_yet(
                sentences(
                    _(
                        "{reference} at B = {base} forgets half within {wanted:,.0f} examples. Your "
                        "{given:.5g} at B = {batch} does so within {found:,.0f}.",
                        reference=reference,
                        base=base,
                        wanted=wanted,
                        given=given,
                        batch=batch,
                        found=found,
                    ),
                    _half_life_hint(given, reference, base, batch),
                )
            )
    return right(
        _(
            "At B = 1 it is {beta2:.5f}: the second moment forgets after as many examples.",
            beta2=beta2(0.95, 64, 1),
        )
    )


def _half_life_hint(given: float, reference: float, base: int, batch: int) -> str:
    near = [
        (reference, _("It forgets after as many updates as before; but each of them has other examples.")),
        (reference ** (base / batch), _("A larger batch needs fewer updates to forget, not more.")),
        (
            1 - (1 - reference) * batch / base,
            _("Scaling 1 - beta2 is close while it is small; but only close."),
        ),
    ]
    return next((hint for value, hint in near if abs(given - value) < 1e-12), "")


@cache
def _measured() -> tuple[float, float]:
    """The trace of 64 digits' gradients, and how far 2,000 mini-batches of 32 are from their mean."""
    problem = Digits("mlp", torch.float64, 64)
    gradients = example_gradients(problem, problem.make_model())
    batches = means(gradients, draw(64, 32, 2000))
    return from_gradients(gradients).trace, float((batches - gradients.mean(0)).square().sum(1).mean())


@cache
def _norms(m: int, k: int) -> tuple[float, float]:
    """Mean squared norms over 400 windows: of the micro-batches' gradients, and of the windows'."""
    problem = Digits("mlp", torch.float64, 256)
    gradients = example_gradients(problem, problem.make_model())
    rows = draw(256, m * k, 400, "with replacement")
    parts = means(gradients, rows.reshape(-1, m))
    return float(parts.square().sum(1).mean()), float(means(gradients, rows).square().sum(1).mean())
