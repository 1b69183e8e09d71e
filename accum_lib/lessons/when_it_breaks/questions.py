"""What notebook 05 asks: what a loss curve shows, and what Adam hides."""

from collections.abc import Callable

from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.when_it_breaks.explorer import all_sightings
from accum_lib.lessons.when_it_breaks.record import Sightings
from accum_lib.words import _


def seen_in_the_loss(found: Callable[[], Sightings] = all_sightings) -> Quiz:
    """How many of the catalogue's faults make a loss curve that stands out."""

    def answer() -> tuple[int, str]:
        table = found()
        loss = table.observations.index("loss curve")
        seen, total = int(table.seen[:, loss].sum()), len(table.faults)
        right = 0 if seen > 0.75 * total else 1 if seen > 0.4 * total else 2
        return right, (
            _(
                "Trained with each of them: {seen} of {total} end at a loss more than two standard "
                "deviations from that of right runs with other seeds.",
                seen=seen,
                total=total,
            )
        )

    return Quiz(
        _("of fifteen loops with a fault in their accumulation, how many does the loss curve give away?"),
        {
            _("nearly all"): _(
                "With most of these faults training goes on, and the loss falls: the optimizer follows a "
                "gradient that is only somewhat wrong."
            ),
            _("about half"): _(
                "A wrong scale looks like another learning rate, and wrong weights look like other data. "
                "Both train."
            ),
            _("a few"): "",
        },
        answer,
        name="pitfalls.seen_in_the_loss",
    )


def hidden_by_adam(found: Callable[[], Sightings] = all_sightings) -> Quiz:
    """How far off a gradient K times too small takes the weights under Adam, and under SGD."""

    def answer() -> tuple[int, str]:
        table = found()
        row = table.faults.index("divided_twice")
        adam, sgd = (
            table.values[row, table.observations.index(f"weights, {name}")] for name in ("Adam", "SGD")
        )
        right = 0 if adam > sgd / 2 else 1 if adam > sgd / 20 else 2
        return right, (
            _(
                "After one epoch the weights end {adam:.2%} off (of the distance they travelled) with "
                "Adam, and {sgd:.0%} with SGD. Adam divides the gradient by its own size, so a factor drops "
                "out.",
                adam=adam,
                sgd=sgd,
            )
        )

    return Quiz(
        _("each gradient is K = 5 times too small. Compared with SGD, weights trained with Adam end up …"),
        {
            _("as far off"): _(
                "That would be so if Adam's step were proportional to the gradient, as SGD's is."
            ),
            _("a few times less far off"): _(
                "A factor that all gradients share drops out of Adam's step altogether, but for its epsilon."
            ),
            _("hardly off at all"): "",
        },
        answer,
        name="pitfalls.hidden_by_adam",
    )
