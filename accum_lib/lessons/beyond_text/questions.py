"""What notebook 07 asks: BatchNorm with right weights, a syllable under torch's mean, and padding."""

import numpy as np
import torch

from accum_lib.lessons.beyond_text.measure import SPEECH_SIZES as SIZES
from accum_lib.lessons.beyond_text.measure import norm_errors, weigh
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.problems.audio import Audio
from accum_lib.words import _


def halved_batch() -> Quiz:
    """How far BatchNorm's gradient is from one big batch's when the batch is only cut in half."""

    def answer() -> tuple[int, str]:
        found = norm_errors("batch")
        errors = dict(zip(found.micro_batch_sizes.tolist(), found.gradient_errors, strict=True))
        guesses = (1e-16, 0.0005, 0.05, 0.5)
        return int(np.argmin([abs(np.log(errors[32] / g)) for g in guesses])), (
            _(
                "Measured: {half:.1%} at M = 32, {eight:.1%} at M = 8 and {single:.0%} at M = 1, as the "
                "mean of four windows. Each half is normalised by its own mean and variance.",
                half=errors[32],
                eight=errors[8],
                single=errors[1],
            )
        )

    return Quiz(
        _(
            "64 images through a CNN with BatchNorm, cut into two micro-batches of 32. The losses are "
            "weighed rightly, in float64. How far is the gradient from one big batch's?"
        ),
        {
            _("rounding"): _(
                "The loss is cut rightly, but the function that it is a loss of depends on the whole batch."
            ),
            _("less than a tenth of a percent"): _(
                "Means and variances of 32 images differ by more than that from those of 64."
            ),
            _("some percent"): "",
            _("about half"): _(
                "Means and variances of 32 images are not that far from those of 64. It takes far smaller "
                "micro-batches."
            ),
        },
        answer,
        name="beyond.halved_batch",
    )


def lone_syllable() -> Quiz:
    """What a syllable weighs in an utterance of one beside one in an utterance of eight."""

    def answer() -> tuple[int, str]:
        found = weigh("torch mean")
        weights = found.weights[-1]  # of one big batch: this is not about accumulation
        short, long = (float(weights[found.lengths == n].mean()) for n in (1, 8))
        return int(np.argmin([abs(np.log(short / long / guess)) for guess in (1, 8, 1 / 8)])), (
            _(
                "Measured by backward, 1 being the mean over all syllables: {short:.2f} in an utterance of "
                "one syllable, {long:.2f} in one of eight, so {ratio:.1f} times as much. Even in one big "
                "batch.",
                short=short,
                long=long,
                ratio=short / long,
            )
        )

    return Quiz(
        _(
            "ctc_loss(reduction='mean') over utterances of 1 to 8 syllables. What does the syllable of an "
            "utterance of one weigh, compared with each syllable of an utterance of eight?"
        ),
        {
            _("the same"): _(
                "A mean over all syllables would give that. This one divides each utterance's loss by its "
                "length first, and then averages over utterances."
            ),
            _("eight times as much"): "",
            _("an eighth"): _(
                "The other way round: all utterances weigh the same, and one syllable has the whole weight "
                "of its utterance."
            ),
        },
        answer,
        name="beyond.lone_syllable",
    )


def unmasked_padding() -> Quiz:
    """Whether a net that does not mask its padding gives the same gradient for every M."""

    def answer() -> tuple[int, str]:
        leaky = weigh("window", Audio(32, torch.float64, mask=False)).errors
        masked = weigh("window").errors
        at = SIZES.index(4)
        return (1 if leaky[at] > 1e-6 else 0), (
            _(
                "At M = 4 the gradient is {leaky:.2%} off without the mask, and {masked:.0e} with it. "
                "Beyond an utterance's end the first convolution's bias is not 0, and the second carries it "
                "back; how much of it there is depends on the longest utterance of the micro-batch.",
                leaky=leaky[at],
                masked=masked[at],
            )
        )

    return Quiz(
        _(
            "two convolutions over time read utterances padded with zeros to the longest of their "
            "micro-batch. The loss looks at real frames only, and is weighed rightly. Does the gradient "
            "depend on M?"
        ),
        {
            _("no: zeros add nothing, and the loss does not see them"): _(
                "True of the first convolution's input. The second one reads what the first has made of it."
            ),
            _("yes, it does"): "",
        },
        answer,
        name="beyond.unmasked_padding",
    )
