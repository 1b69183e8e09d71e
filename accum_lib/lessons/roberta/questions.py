"""What notebook 06 asks: the usual snippet on two tasks, and dropout."""

from collections.abc import Callable

from accum_lib.check.report import Report
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.roberta.explorer import runs_of
from accum_lib.lessons.roberta.problem import usual_report
from accum_lib.lessons.roberta.record import FixedBatch
from accum_lib.words import _

SMALL = 0.001  # a relative error of the gradient that no one would call a fault


def usual_snippet(report: Callable[[str], Report] = usual_report) -> Quiz:
    """On which task the usual snippet's whole windows have the gradient of one big batch."""

    def answer() -> tuple[int, str]:
        samples, tokens = (whole_window_error(report(task)) for task in ("classification", "mlm"))
        right = 0 if max(samples, tokens) < SMALL else 1 if samples < SMALL else 2 if tokens < SMALL else 3
        return right, (
            _(
                "Its gradient is off by {samples:.0%} when it classifies, and by up to {tokens:.0%} when it "
                "guesses hidden tokens: there a loss counts tokens, and texts have more or fewer of them. "
                "Whole windows are looked at here; what the end of an epoch does comes next.",
                samples=samples,
                tokens=tokens,
            )
        )

    return Quiz(
        _(
            "the usual snippet divides each micro-batch's mean loss by K. In a whole window of K "
            "micro-batches, with texts of many lengths, that gives the gradient of one big batch …"
        ),
        {
            _("for both tasks"): _(
                "Dividing by K is exact where all micro-batches count alike. They hold equally many texts, "
                "but not equally many hidden tokens."
            ),
            _("when it classifies texts"): "",
            _("when it guesses hidden tokens"): _(
                "The other way round: micro-batches hold equally many texts, but not equally many hidden "
                "tokens."
            ),
            _("for neither"): _(
                "Where all micro-batches count alike, the mean of their means is the mean; and each has M "
                "texts."
            ),
        },
        answer,
        name="roberta.usual_snippet",
    )


def whole_window_error(report: Report) -> float:
    """The largest relative error of the first epoch's updates, which nothing has leaked into yet."""
    return max(check.relative_error for check in report.updates if check.epoch == 0)


def dropout(runs: Callable[[], FixedBatch] = lambda: runs_of("dropout")) -> Quiz:
    """Whether K changes a run with dropout more than other masks do."""

    def answer() -> tuple[int, str]:
        found = runs()
        at = len(found.steps) - 1
        ratio = found.distances[at] / found.distance_again
        right = 0 if ratio < 0.1 else 1 if ratio < 3 else 2
        return right, (
            _(
                "K = {k} ends {distance:.2f} of the way apart from one big batch; one big batch with other "
                "masks ends {distance_again:.2f} of the way apart from itself.",
                k=found.steps[at],
                distance=found.distances[at],
                distance_again=found.distance_again,
            )
        )

    return Quiz(
        _("with dropout, each forward pass draws its own masks. One big batch and K = 8 micro-batches end …"),
        {
            _("at the same weights, up to rounding"): _(
                "Several passes draw other masks than one pass over all examples does."
            ),
            _("as far apart as two runs of one big batch with other masks"): "",
            _("much further apart than those"): _(
                "Either way each example gets a mask of its own. K changes which masks are drawn, not how "
                "many or how strong."
            ),
        },
        answer,
        name="roberta.dropout",
    )
