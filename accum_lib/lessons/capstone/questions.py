"""What notebook 10 asks: how far training gets with the script as it was found."""

from collections.abc import Callable

from accum_lib.lessons.capstone.measure import EPOCHS, Run, as_found, big_batch
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.words import _


def how_far(with_script: Callable[[], Run] = as_found, at_once: Callable[[], Run] = big_batch) -> Quiz:
    """How much of the fall of one big batch's loss the found script reaches."""

    def answer() -> tuple[int, str]:
        found, reference = with_script().losses, at_once().losses
        share = (found[0] - found[-1]) / (reference[0] - reference[-1])
        right = 0 if share > 0.9 else 1 if share > 0.4 else 2
        return right, (
            _(
                "Six epochs take the loss from {start:.2f} to {found:.2f} with the script, and to "
                "{right:.2f} with one big batch for each update.",
                start=reference[0],
                found=found[-1],
                right=reference[-1],
            )
        )

    return Quiz(
        _(
            "a small RoBERTa is trained with it for {epochs} epochs, and once more with one big batch for "
            "each update. Its loss falls …",
            epochs=EPOCHS,
        ),
        {
            _("as far"): _(
                "The weights of its micro-batches alone would cost little. But count how often it does "
                "what belongs to an update."
            ),
            _("about half as far"): _(
                "Count the ticks of the scheduler in one epoch of 23 micro-batches: the rate is soon "
                "almost nothing."
            ),
            _("less than half as far"): "",
        },
        answer,
        name="capstone.how_far",
    )
