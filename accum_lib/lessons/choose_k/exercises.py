"""Exercises of notebook 09: work against B, the smallest K that reaches it, and the K of least time."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accum_lib.lessons.choose_k.choose import Chooser
from accum_lib.lessons.choose_k.costs import examples_factor, fit_times, time_factor, updates_factor
from accum_lib.lessons.choose_k.record import TimeModel
from accum_lib.lessons.kit.feedback import BLANK, Feedback, is_blank, not_yet, right, runs
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import mlp_workload
from accum_lib.words import _

NARROW = mlp_workload(hidden=64)  # its activations are most of what it needs

# K² for which the whole numbers beside K differ in time by more than a hundredth.
SQUARES = (0.9, 1.5, 2.9, 3.1, 4.5, 5.05, 7.0)


@runs
def check_work(work: Callable[[float, int], tuple[float, float]]) -> Feedback:
    """Exercise 1: ``work(noise_scale, batch_size)``: updates and examples over the least possible."""
    given = work(100.0, 25)
    if is_blank(given):
        return not_yet(_(BLANK))
    if not hasattr(given, "__len__") or len(given) != 2:
        return not_yet(
            _(
                "two numbers are asked for, updates and examples, each over its least; got {given!r}.",
                given=given,
            )
        )
    noise, batch = 100.0, 25
    true = updates_factor(noise, batch), examples_factor(noise, batch)
    if _close(given, true) and _close(
        work(64.0, 512), (updates_factor(64.0, 512), examples_factor(64.0, 512))
    ):
        return right(
            _(
                "At a quarter of the noise scale: {updates:g} times the least updates, {examples:g} times "
                "the least examples; at the noise scale itself 2 and 2.",
                updates=given[0],
                examples=given[1],
            )
        )
    near = [
        (true[::-1], _("swapped or upside down: a small batch needs many updates and few examples")),
        (
            (true[0] - 1, true[1] - 1),
            _("the least itself is missing: even the largest batch needs some updates"),
        ),
        ((true[0], true[0] * batch), _("right for updates; examples are to be over *their* least, too")),
        ((true[0] ** 0.5, true[1] ** 0.5), _("no square root: the variance, not the error, falls as 1/B")),
    ]
    for wrong, hint in near:
        if _close(given, wrong):
            return not_yet(_("{hint}.", hint=hint))
    return not_yet(
        _(
            "for a noise scale of {noise:g} and B = {batch} you say {updates:.3g} and {examples:.3g}; it is "
            "{true_updates:.3g} and {true_examples:.3g}. At B = the noise scale both are 2.",
            noise=noise,
            batch=batch,
            updates=given[0],
            examples=given[1],
            true_updates=true[0],
            true_examples=true[1],
        )
    )


@runs
def check_choice(choose: Callable[[float, int, int], tuple[int, int]]) -> Feedback:
    """Exercise 2: ``choose(noise_scale, num_samples, largest_micro_batch)``: M and K for that noise.

    Compared with the library's choice, on limits that allow just this largest M.
    """
    if is_blank(choose(64.0, 1000, 8)):
        return not_yet(_(BLANK))
    found = predict(NARROW, Settings(optimizer="sgd"), hopper=False)
    for noise, n, largest in (
        (512.0, 10_000, 256),
        (600.0, 10_000, 256),
        (5000.0, 600, 256),
        (200.0, 10_000, 256),
        (511.0, 10_000, 256),
    ):
        given = choose(noise, n, largest)
        chosen = Chooser(found, found.peak_bytes(largest, 2), n).balance(noise)
        assert chosen is not None
        if tuple(given) != chosen:
            return not_yet(_choice_hint(noise, n, largest, tuple(given), chosen))
    return right(_("The noise scale and N give B, the card gives M, and K is the least that is left."))


def _choice_hint(noise: float, n: int, largest: int, given: tuple[int, ...], chosen: tuple[int, int]) -> str:
    asked = _(
        "for a noise scale of {noise:g}, N = {n:,} and M up to {largest} you say {given}",
        noise=noise,
        n=n,
        largest=largest,
        given=given,
    )
    if given == chosen[::-1]:
        return _("{asked}: that is K and M; M comes first.", asked=asked)
    if given[0] > largest:
        return _("{asked}: M = {m} does not fit.", asked=asked, m=given[0])
    batch = min(round(noise), n)
    if given[0] * given[1] < batch:
        return _(
            "{asked}: that is {product}, not B = {batch}. The last micro-batch may be smaller.",
            asked=asked,
            product=given[0] * given[1],
            batch=batch,
        )
    if n < noise and given[0] * given[1] > n + given[1]:
        return _("{asked}: there are only {n:,} examples, and no update can have more.", asked=asked, n=n)
    if given[1] > chosen[1]:
        return _(
            "{asked}: K = {enough} is enough, and every further pass takes time.",
            asked=asked,
            enough=chosen[1],
        )
    return _(
        "{asked}: B would be {product}, more than the {batch} that are asked for. With that "
        "K a smaller M reaches it, and takes less memory.",
        asked=asked,
        product=given[0] * given[1],
        batch=batch,
    )


@runs
def check_fastest_steps(steps: Callable[[float, int, float, float], int]) -> Feedback:
    """Exercise 3: ``steps(noise_scale, micro_batch_size, pass_seconds, update_seconds)``: K of least time.

    ``pass_seconds`` is a whole pass over M examples. Compared with a search over every K.
    """
    if is_blank(steps(100.0, 4, 1.0, 1.0)):
        return not_yet(_(BLANK))
    for noise, m, one, update in (
        (1600.0, 4, 1.0, 4.0),
        (64.0, 16, 1.0, 0.1),
        (1000.0, 8, 0.5, 4.0),
        *((8 * squared, 8, 1.0, 1.0) for squared in SQUARES),
    ):
        given, times = steps(noise, m, one, update), _times(m, one, update)
        if not given >= 1:  # true of a NaN, too
            return not_yet(_("you say K = {given}: an update has at least one micro-batch.", given=given))
        if given != int(given):
            return not_yet(
                _("you say K = {given:.4g}: of the whole numbers beside it, take the faster.", given=given)
            )
        best = min(range(1, 1000), key=lambda k: time_factor(times, noise, m, k))
        took, least = (time_factor(times, noise, m, k) for k in (given, best))
        if took > 1.01 * least:
            return not_yet(_steps_hint(noise, m, one, update, given, best, took / least))
    return right(
        _(
            "K² = B_noise · update / (M · pass). Where an update costs nothing beside its passes, "
            "K = 1 is fastest, however large the noise."
        )
    )


def _steps_hint(
    noise: float, m: int, one: float, update: float, given: float, best: int, slower: float
) -> str:
    asked = _(
        "for a noise scale of {noise:g}, M = {m}, {one:g} s a pass and {update:g} s an "
        "update you say K = {given:g}, which takes {slower:.2f} times as long as K = {best}",
        noise=noise,
        m=m,
        one=one,
        update=update,
        given=given,
        slower=slower,
        best=best,
    )
    if abs(given - noise / m) <= 1:
        return _(
            "{asked}. That puts B at the noise scale: it spares updates, and each pass takes its time.",
            asked=asked,
        )
    if abs(given - noise * update / (m * one)) <= 1:
        return _("{asked}. Set the derivative by K to 0: it is K² that you have found.", asked=asked)
    if abs(given - max(1, update / one)) <= 1:
        return _(
            "{asked}. The noise is left out: fewer updates are worth more where it is large.", asked=asked
        )
    return _(
        "{asked}. Write the time as (1 + B_noise / (M K)) (K · pass + update) and minimise it over K.",
        asked=asked,
    )


def _times(m: int, one: float, update: float) -> TimeModel:
    """A machine on which a pass takes so long, whatever its examples."""
    sizes, steps = np.array([m, m, 2 * m]), np.array([1, 2, 1])
    return fit_times(sizes, steps, steps * (one / 2 + one / 2 / m * sizes) + update, "none")


def _close(given: Sequence[Any], expected: Sequence[Any]) -> bool:
    return bool(np.allclose(given, expected, rtol=1e-6))
