"""What notebook 11 asks: whether tiny batches train worse on the same examples."""

import numpy as np

from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.two_claims.measure import ClaimRaces
from accum_lib.words import _

PLAIN = "SGD, no momentum"


def one_at_a_time(races: ClaimRaces) -> Quiz:
    """Where plain SGD ends with B = 1 and with B = 64, on the same examples."""

    def answer() -> tuple[int, str]:
        ends = {r.batch_size: float(r.losses[-1, r.best].mean()) for r in races.small[PLAIN]}
        ratio = ends[1] / ends[64]
        right = 0 if ratio > 1.1 else 1 if ratio > 0.9 else 2
        return right, (
            _(
                "Held-out loss, mean of the seeds: {one:.2f} with B = 1, after {updates} updates; "
                "{many:.2f} with B = 64, after {fewer}.",
                one=ends[1],
                many=ends[64],
                updates=_updates(races, 1),
                fewer=_updates(races, 64),
            )
        )

    return Quiz(
        _(
            "960 examples, each seen once, plain SGD, each batch size at the best of three rates. Beside B "
            "= 64, B = 1 ends at a held-out loss that is …"
        ),
        {
            _("higher"): _(
                "One example's gradient is noisy, but there are 64 times as many updates, and a lower rate "
                "averages over many of them."
            ),
            _("the same within a tenth"): _(
                "That would be so if only the number of examples counted. At equal examples, updates count, "
                "too."
            ),
            _("lower"): "",
        },
        answer,
        name="claims.one_at_a_time",
    )


def _updates(races: ClaimRaces, batch_size: int) -> int:
    return int(np.max([r.updates[-1] for r in races.small[PLAIN] if r.batch_size == batch_size]))
