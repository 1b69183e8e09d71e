"""The exercise of notebook 11: its check runs the answer, and gives a hint instead of the solution."""

from collections.abc import Callable

import numpy as np

from accum_lib.lessons.kit.feedback import BLANK, Feedback, is_blank, not_yet, right, runs
from accum_lib.words import _, sentences


@runs
def check_beta2(beta2: Callable[[float, int, int], float]) -> Feedback:
    """Exercise 1: ``beta2(reference, reference_batch, batch)`` with the same half-life in examples."""
    given = beta2(0.95, 64, 64)
    if is_blank(given):
        return not_yet(_(BLANK))
    for reference, base, batch in ((0.95, 64, 64), (0.95, 64, 1), (0.999, 8, 1024)):
        given = beta2(reference, base, batch)
        wanted = np.log(0.5) / np.log(reference) * base
        if not 0 < given < 1:
            return not_yet(
                _(
                    "for {reference} at B = {base}, at B = {batch} you say {given:.4g}: not between 0 and 1.",
                    reference=reference,
                    base=base,
                    batch=batch,
                    given=given,
                )
            )
        found = np.log(0.5) / np.log(given) * batch
        if abs(found / wanted - 1) > 1e-6:
            return not_yet(
                sentences(
                    _(
                        "{reference} at B = {base} forgets half within {wanted:,.0f} examples. Your "
                        "{given:.5g} at B = {batch} does so within {found:,.0f}.",
                        reference=reference,
                        base=base,
                        wanted=wanted,
                        given=given,
                        batch=batch,
                        found=found,
                    ),
                    _half_life_hint(given, reference, base, batch),
                )
            )
    return right(
        _(
            "At B = 1 it is {beta2:.5f}: the second moment forgets after as many examples.",
            beta2=beta2(0.95, 64, 1),
        )
    )


def _half_life_hint(given: float, reference: float, base: int, batch: int) -> str:
    near = [
        (reference, _("It forgets after as many updates as before; but each of them has other examples.")),
        (reference ** (base / batch), _("A larger batch needs fewer updates to forget, not more.")),
        (
            1 - (1 - reference) * batch / base,
            _("Scaling 1 - beta2 is close while it is small; but only close."),
        ),
    ]
    return next((hint for value, hint in near if abs(given - value) < 1e-12), "")
