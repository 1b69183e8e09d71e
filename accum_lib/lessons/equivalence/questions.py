"""What notebook 02 asks: the lonely token, and a coarse buffer."""

import numpy as np

from accum_lib.check import check_case
from accum_lib.check.case import token_case
from accum_lib.check.faults import loops
from accum_lib.lessons.equivalence.measure import microscope
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.words import _


def lonely_token() -> Quiz:
    """What one token weighs in a mean of means beside a micro-batch of three."""

    def answer() -> tuple[int, str]:
        case = token_case((1, 3), 2, "one token and three")
        alone, others = check_case(loops.mean_of_means, case).updates[0].weights
        return int(np.argmin([abs(alone - guess) for guess in (1, 2, 4)])), (
            _(
                "Measured, 1 being right: the lonely token weighs {alone:.3f}, each of the three "
                "{others:.3f}. So it counts {ratio:.0f} times as much as each of them.",
                alone=alone,
                others=others,
                ratio=alone / others,
            )
        )

    return Quiz(
        _(
            "two micro-batches count 1 and 3 tokens; each mean loss is divided by K = 2. What does the "
            "lonely token weigh in the update, compared with one big batch of the same four tokens?"
        ),
        {
            _("as much as it should"): _(
                "Each micro-batch gets half of the update, whatever it counts, and the lonely token has "
                "its half to itself."
            ),
            _("twice as much"): "",
            _("four times as much"): _(
                "It would have to be the whole update. It gets half of it, where a quarter is due."
            ),
        },
        answer,
        name="equivalence.lonely_token",
    )


def coarse_buffer(steps: int = 128) -> Quiz:
    """How the error grows when K gradients are added up in bfloat16 instead of float32."""

    def answer() -> tuple[int, str]:
        exact, coarse = (
            microscope(name, "right", True, [1, steps]).errors
            for name in ("float32", "float32, bfloat16 buffer")
        )
        growth = coarse[1] / coarse[0]
        return int(np.argmin([abs(np.log(growth / guess)) for guess in (1, 10, 100)])), (
            _(
                "From {coarse_first:.1e} at K = 1 to {coarse_last:.1e} at K = {steps}, {growth:.0f} times; "
                "in a float32 buffer from {exact_first:.1e} to {exact_last:.1e}.",
                coarse_first=coarse[0],
                coarse_last=coarse[1],
                steps=steps,
                growth=growth,
                exact_first=exact[0],
                exact_last=exact[1],
            )
        )

    return Quiz(
        _(
            "gradients are added up in a bfloat16 buffer, which keeps 8 bits. From K = 1 to K = {steps} the "
            "update's relative error grows …",
            steps=steps,
        ),
        {
            _("hardly at all"): _("Each addition rounds the sum to 8 bits again, and these errors add up."),
            _("about 10 times (the square root of K is {root:.0f})", root=steps**0.5): "",
            _("about 100 times, as K"): _(
                "Rounding goes up and down, so the errors cancel in part: they add up like a random walk."
            ),
        },
        answer,
        name="equivalence.coarse_buffer",
    )
