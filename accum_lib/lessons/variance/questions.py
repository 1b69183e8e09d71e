"""What notebook 03 asks: how the variance falls with K, and what a batch sixteen times as large saves."""

import numpy as np

from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.variance.figure import GUESSES
from accum_lib.lessons.variance.measure import VarianceLab
from accum_lib.lessons.variance.record import Races
from accum_lib.lessons.variance.targets import to_target
from accum_lib.words import _, listed

SMALL, LARGE, TARGET = 64, 1024, 0.6


def variance_against_steps(lab: VarianceLab) -> Quiz:
    """How the variance of the window's gradient changes as K grows and M stays."""

    def answer() -> tuple[int, str]:
        found = lab.guesses()
        pairs = zip(found.steps, found.measured, strict=True)
        numbers = listed([_("{v:.3f} at K = {k}", v=v if v > 1e-12 else 0, k=k) for k, v in pairs])
        return found.nearest, (
            _(
                "Measured on 300 mini-batches at each K, relative to K = 1: {numbers}. The last window is "
                "the whole data set, so all windows of that size are alike.",
                numbers=numbers,
            )
        )

    people = lab.population
    return Quiz(
        _(
            "micro-batches of M = 32 out of N = {num_samples} examples, shuffled. As K goes from 1 to 16, "
            "the variance of the accumulated gradient …",
            num_samples=people.num_samples,
        ),
        dict(
            zip(
                map(_, GUESSES),
                (
                    _("Each update averages K times as many examples, and a mean over more varies less."),
                    _("That is how the standard deviation falls; the variance is its square."),
                    _(
                        "True while a window is a small part of the data. It is drawn without repeats, so "
                        "the more of them it takes, the less is left to chance."
                    ),
                    "",
                ),
                strict=True,
            )
        ),
        answer,
        name="variance.variance_against_steps",
    )


def sixteen_times_the_batch(races: Races) -> Quiz:
    """What K sixteen times as large saves in updates, each batch size at its best rate."""
    ratio = LARGE // SMALL

    def answer() -> tuple[int, str]:
        found = to_target(races.plain, TARGET)
        took = {b: u.mean() for b, u in zip(found.batch_sizes, found.updates, strict=True)}
        saved = took[SMALL] / took[LARGE]
        right = int(np.argmin([abs(np.log(saved / option)) for option in (ratio, ratio**0.5, 1.0)]))
        return right, (
            _(
                "B = {small} took {small_took:.0f} updates (mean of the seeds), B = {large} took "
                "{large_took:.0f}: {saved:.2g} times fewer, for {cost:.2g} times the examples.",
                small=SMALL,
                small_took=took[SMALL],
                large=LARGE,
                large_took=took[LARGE],
                saved=saved,
                cost=ratio / saved,
            )
        )

    return Quiz(
        _(
            "from B = {small} to B = {large}, each with its best learning rate: to reach a held-out loss of "
            "{target}, the larger batch needs …",
            small=SMALL,
            large=LARGE,
            target=TARGET,
        ),
        {
            _("{ratio} times fewer updates", ratio=ratio): _(
                "Only if noise were all that limits an update. Beyond the noise scale most of it is "
                "averaged away already."
            ),
            _("{root:.0f} times fewer updates", root=ratio**0.5): _(
                "The square root is a rule for learning rates. Updates are saved while B is below the "
                "noise scale, and hardly beyond it."
            ),
            _("hardly fewer updates"): "",
        },
        answer,
        name="variance.sixteen_times_the_batch",
    )
