"""Does a training loop make the updates that one big batch would make? A checker to point at any loop.

    report = check(my_loop)                      # on the standard cases, in float64
    assert_equivalent(my_loop)                   # the same, as a test in one line
    check_case(my_loop, Case(...))               # on your own model, data and loss

It watches gradients, weights and the optimizer while the loop runs, compares every update with one big
batch's gradient at the same weights, and names what it finds, with the line where it arises. Verdict and
names rest on these numbers alone, not on the loop's source.
"""

from accum_lib.extras import need
from accum_lib.private import CHECKER, need_inside_torch

need(__name__, "check")
need_inside_torch(__name__, CHECKER)

from accum_lib.check.case import Case, standard_cases
from accum_lib.check.checker import check_case, gradient_error
from accum_lib.check.front import assert_equivalent, check
from accum_lib.check.loop import core_loop
from accum_lib.check.report import explain
from accum_lib.vectors import join_batches

__all__ = [
    "Case",
    "assert_equivalent",
    "check",
    "check_case",
    "core_loop",
    "explain",
    "gradient_error",
    "join_batches",
    "standard_cases",
]
