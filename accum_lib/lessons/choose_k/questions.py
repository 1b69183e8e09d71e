"""What notebook 09 asks: what a larger card does to B and K, and what four times the advised K saves."""

import numpy as np

from accum_lib.lessons.choose_k.choose import advise, known_noise
from accum_lib.lessons.choose_k.record import Trials
from accum_lib.lessons.choose_k.subjects import subject
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.words import _, clauses

SMALL_CARD, LARGE_CARD, NOISE = "RTX 4060", "A100 40GB", 1000.0


def larger_card(num_samples: int = 100_000) -> Quiz:
    """What happens to B, M and K if the card grows and the data stay."""

    def answer() -> tuple[int, str]:
        one, two = (
            advise(subject("roberta-base").workload, card, num_samples, known_noise(NOISE))
            for card in (SMALL_CARD, LARGE_CARD)
        )
        grows = two.effective_batch_size / one.effective_batch_size
        right = 0 if grows > 1.5 else 1 if two.accumulation_steps < one.accumulation_steps else 2
        said = clauses(
            [
                _(
                    "M = {m}, K = {k} (B = {b}) on the {card}",
                    m=a.micro_batch_size,
                    k=a.accumulation_steps,
                    b=a.effective_batch_size,
                    card=card,
                )
                for a, card in ((one, SMALL_CARD), (two, LARGE_CARD))
            ]
        )
        return right, (
            _(
                "Advised: {said}. How noisy a gradient is does not depend on the card, so B stays; M "
                "is what fits, and K is what is left.",
                said=said,
            )
        )

    return Quiz(
        _(
            "RoBERTa-base moves from an {small} to an {large}. The data stay, and so does their "
            "noise scale of about {noise:,.0f} examples. What should change?",
            small=SMALL_CARD,
            large=LARGE_CARD,
            noise=NOISE,
        ),
        {
            _("K stays, so B grows"): _(
                "A larger B pays while the gradient is noisy, and that does not depend on the card: it "
                "would cost examples and save few updates."
            ),
            _("B stays, so K falls"): "",
            _("neither B nor K"): _(
                "Then most of the larger card would stay empty; a larger M makes the same update in fewer "
                "passes."
            ),
        },
        answer,
        name="advice.larger_card",
    )


def four_times_the_steps(trials: Trials | None) -> Quiz:
    """How many updates four times the advised K saves on the digits.

    Raises:
        ValueError: the races were stopped.
    """
    if trials is None:
        raise ValueError("the races were stopped before their end: run their cell again, and it goes on")
    trial = trials.trials[0]
    _quarter, advised, more = trial.steps

    def answer() -> tuple[int, str]:
        ratio = float(np.mean(trial.measured()[2]))
        options = (0.25, float(trial.predicted()[2]), 0.87)
        right = int(np.argmin([abs(np.log(ratio / option)) for option in options]))
        took = [updates.mean() for updates in trial.found.updates]
        return right, (
            _(
                "Measured, mean of {seeds} seeds: {few:.0f} updates with K = {advised}, {fewer:.0f} "
                "with K = {more}, for {times:.2g} times the examples.",
                seeds=trial.found.updates.shape[1],
                few=took[1],
                advised=advised,
                fewer=took[2],
                more=more,
                times=4 * took[2] / took[1],
            )
        )

    return Quiz(
        _(
            "the digits, M = {m}. K = {advised} was advised; K = {more} is four times that, each "
            "with its best learning rate. To a held-out loss of {target:g}, K = {more} needs …",
            m=trial.micro_batch_size,
            advised=advised,
            more=more,
            target=trial.found.target,
        ),
        {
            _("a quarter of the updates"): _(
                "Only if noise were all that limits an update. The advised B is about the noise scale, and "
                "beyond it little noise is left."
            ),
            _("{times:.2f} times the updates, as the noise scale says", times=trial.predicted()[2]): _(
                "The rule is for one small step at one point of the loss. A race passes through many such "
                "points, and not all are as noisy."
            ),
            _("hardly fewer updates"): "",
        },
        answer,
        name="advice.four_times_the_steps",
    )
