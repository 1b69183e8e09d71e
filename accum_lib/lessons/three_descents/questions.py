"""What notebooks 00 and 01 ask: the full buffer, the summed step, the same path."""

import numpy as np

from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.three_descents.measure import DescentComparison, window_story
from accum_lib.problems.regression import Regression
from accum_lib.words import _

ROUNDING = 1e-9  # relative; float64 rounds by 1e-16 a step, and none of these runs makes a million steps


def full_buffer(micro_batch_size: int = 4, accumulation_steps: int = 4) -> Quiz:
    """Notebook 00: what the gradient buffer holds when the window's last micro-batch has passed."""
    size = micro_batch_size * accumulation_steps

    def answer() -> tuple[int, str]:
        story = window_story(
            Regression(num_samples=44), micro_batch_size, accumulation_steps, learning_rate=0.1
        )
        moment = story[accumulation_steps]
        buffer, big = moment.shares.sum(axis=0), moment.big_batch
        factor = float(buffer @ big / (big @ big))  # along the big batch's gradient
        error = float(np.linalg.norm(buffer - big) / np.linalg.norm(big))
        too_large = abs(factor - accumulation_steps) < ROUNDING
        right = 1 if error < ROUNDING else 0 if too_large else 2
        return right, (
            _(
                "The buffer holds ({g1:.6f}, {g2:.6f}); one big batch of the same {size} examples gives "
                "({b1:.6f}, {b2:.6f}). Relative difference: {error:.0e}, which is rounding.",
                g1=buffer[0],
                g2=buffer[1],
                size=size,
                b1=big[0],
                b2=big[1],
                error=error,
            )
        )

    return Quiz(
        _(
            "when the last of {k} micro-batches has passed, the gradient buffer holds, compared with the "
            "gradient of one big batch of the same {size} examples …",
            k=accumulation_steps,
            size=size,
        ),
        {
            _as_much(accumulation_steps): _(
                "That would be so if each micro-batch's mean were added as it is. Each is divided first, "
                "so that together they are one mean."
            ),
            _("the same"): "",
            _("about the same, but noisier"): _(
                "Noise comes from which examples are drawn, and these are the same. In what groups they "
                "pass does not matter."
            ),
        },
        answer,
        name="descents.full_buffer",
    )


def summed_step(comparison: DescentComparison) -> Quiz:
    """Notebook 01: how long the first step is if two gradients are summed and not averaged."""

    def answer() -> tuple[int, str]:
        mean, summed = (
            comparison.compare(100, 2, learning_rate=0.1, gradient=gradient).accumulated
            for gradient in ("mean", "sum")
        )
        first = [float(np.linalg.norm(path.weights[1] - path.weights[0])) for path in (mean, summed)]
        factor = first[1] / first[0]
        return _nearest(factor, (1.0, 0.5, 2.0)), (
            _(
                "Measured on the first update: length {summed:.4f} against {mean:.4f}, a factor "
                "{factor:.4f}.",
                summed=first[1],
                mean=first[0],
                factor=factor,
            )
        )

    return Quiz(
        _("K = 2 gradients are summed instead of averaged, and the learning rate stays. The first step is …"),
        {
            _("the same"): _(
                "Only if the learning rate were halved, too: a step is the rate times the gradient."
            ),
            _("half as long"): _(
                "That is what dividing twice would give. A sum of two gradients is longer than their mean."
            ),
            _("twice as long"): "",
        },
        answer,
        name="descents.summed_step",
    )


def same_path(comparison: DescentComparison) -> Quiz:
    """Notebook 01: whether accumulation with M = 50, K = 4 goes where mini-batches of 200 go."""

    def answer() -> tuple[int, str]:
        found = comparison.compare(50, 4, learning_rate=0.1)
        end = float(np.linalg.norm(found.accumulated.weights[-1] - found.big.weights[-1]))
        right = 0 if found.distance < ROUNDING else 1 if end < ROUNDING else 2
        return right, (
            _(
                "Over {updates} updates the two paths are never further apart than {distance:.0e}. "
                "Accumulation took {passes} passes for them, the big batch {big_passes}.",
                updates=found.accumulated.updates,
                distance=found.distance,
                passes=found.accumulated.passes,
                big_passes=found.big.passes,
            )
        )

    return Quiz(
        _("accumulated descent with M = 50, K = 4, beside mini-batches of B = 200 without accumulation …"),
        {
            _("follows the same path"): "",
            _("ends at the same place by another path"): _(
                "Both start at one point and make each update from the same gradient, so they never part."
            ),
            _("is noisier, since M is smaller"): _(
                "Noise depends on how many examples an update averages, and that is M · K. M alone decides "
                "about memory."
            ),
        },
        answer,
        name="descents.same_path",
    )


def _nearest(value: float, options: tuple[float, ...]) -> int:
    return int(np.argmin([abs(np.log(value / option)) for option in options]))


def _as_much(times: int) -> str:
    words = {2: _("twice as much"), 3: _("three times as much"), 4: _("four times as much")}
    return words.get(times) or _("{times} times as much", times=times)
