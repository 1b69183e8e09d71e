"""What notebook 09 asks: what a larger card does to B and K, and what four times the advised K saves."""

import numpy as np

from accum_lib.explorers.prediction import Prediction
from accum_lib.lenses.advice import advise, known_noise, subject
from accum_lib.records.advice import Trials

SMALL_CARD, LARGE_CARD, NOISE = "RTX 4060", "A100 40GB", 1000.0


def larger_card(num_samples: int = 100_000) -> Prediction:
    """What happens to B, M and K if the card grows and the data stay."""

    def answer() -> tuple[int, str]:
        one, two = (
            advise(subject("roberta-base").workload, card, num_samples, known_noise(NOISE))
            for card in (SMALL_CARD, LARGE_CARD)
        )
        grows = two.effective_batch_size / one.effective_batch_size
        right = 0 if grows > 1.5 else 1 if two.accumulation_steps < one.accumulation_steps else 2
        said = " and ".join(
            f"M = {a.micro_batch_size}, K = {a.accumulation_steps} (B = {a.effective_batch_size}) on the {c}"
            for a, c in ((one, SMALL_CARD), (two, LARGE_CARD))
        )
        return right, (
            f"Advised: {said}. How noisy a gradient is does not depend on the card, so B stays; M is what "
            "fits, and K is what is left."
        )

    return Prediction(
        f"RoBERTa-base moves from an {SMALL_CARD} to an {LARGE_CARD}. The data stay, and so does their noise "
        f"scale of about {NOISE:,.0f} examples. What should change?",
        ["K stays, so B grows", "B stays, so K falls", "neither B nor K"],
        answer,
    )


def four_times_the_steps(trials: Trials | None) -> Prediction:
    """How many updates four times the advised K saves on the digits.

    Raises:
        ValueError: the races were stopped.
    """
    if trials is None:
        raise ValueError("the races were stopped before their end: run their cell again, and it goes on")
    trial = trials.trials[0]
    _, advised, more = trial.steps

    def answer() -> tuple[int, str]:
        ratio = float(np.mean(trial.measured()[2]))
        options = (0.25, float(trial.predicted()[2]), 0.87)
        right = int(np.argmin([abs(np.log(ratio / option)) for option in options]))
        took = [updates.mean() for updates in trial.found.updates]
        return right, (
            f"Measured, mean of {trial.found.updates.shape[1]} seeds: {took[1]:.0f} updates with "
            f"K = {advised}, {took[2]:.0f} with K = {more}, for {4 * took[2] / took[1]:.2g} times the "
            "examples."
        )

    return Prediction(
        f"the digits, M = {trial.micro_batch_size}. K = {advised} was advised; K = {more} is four times "
        f"that, each with its best learning rate. To a held-out loss of {trial.found.target:g}, "
        f"K = {more} needs …",
        [
            "a quarter of the updates",
            f"{trial.predicted()[2]:.2f} times the updates, as the noise scale says",
            "hardly fewer updates",
        ],
        answer,
    )
