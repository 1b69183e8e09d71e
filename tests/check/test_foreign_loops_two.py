"""The second stranger's loops: what the checker says of them must be what they mean."""

import pytest
from foreign_loops_two import LOOPS

from accum_lib.check import check_case, explain, standard_cases

RIGHT = [name for name, (_, codes) in LOOPS.items() if not codes]


def test_there_are_enough_of_each_kind():
    assert len(RIGHT) >= 15
    assert len(LOOPS) - len(RIGHT) >= 25


@pytest.mark.parametrize("name", LOOPS)
def test_codes(name):
    loop, codes = LOOPS[name]
    report = check_case(loop, standard_cases()[0])
    assert set(report.codes) == codes, explain(report)


@pytest.mark.parametrize("number", range(len(standard_cases())))
@pytest.mark.parametrize("name", RIGHT)
def test_right_loops_are_ok_on_every_case(name, number):
    report = check_case(LOOPS[name][0], standard_cases()[number])
    assert report.ok, explain(report)
