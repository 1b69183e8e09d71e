"""The checker on loops of public projects: the verdict and every fault, on ragged and on even data."""

from collections import Counter

import pytest
from public_loops import LOOPS, Public

from accum_lib.check import check_case, explain
from accum_lib.check.case import token_case

COUNTS = {"ragged": (5, 1, 7, 2, 4, 3, 6, 8, 2, 5, 3, 4), "even": (4,) * 12}
SLOW = pytest.param("even", marks=pytest.mark.slow)


@pytest.mark.parametrize("entry", LOOPS, ids=lambda entry: entry.loop.__name__)
@pytest.mark.parametrize("kind", ["ragged", SLOW])
def test_a_public_loop_has_these_faults_and_no_other(entry: Public, kind: str) -> None:
    report = check_case(
        entry.loop, token_case(COUNTS[kind][: entry.n], entry.k, kind, max_grad_norm=entry.norm)
    )
    expected = getattr(entry, kind)
    assert set(report.codes) == expected, explain(report)
    assert report.ok == (not expected), explain(report)


def test_the_groups_are_of_many_kinds() -> None:
    halves = Counter(entry.loop.__module__.rpartition(".")[2] for entry in LOOPS)
    both = [entry for entry in LOOPS if entry.loop.__module__.endswith("half")]
    assert halves["first_half"] == halves["second_half"] == halves["fourth"] == 30
    assert len({entry.loop.__name__ for entry in LOOPS}) == len(LOOPS) >= 140
    assert sum(entry.norm is not None for entry in both) >= 20
    assert {entry.k for entry in both} == {2, 3, 4, 8}
