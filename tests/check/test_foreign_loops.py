"""The checker on training loops that strangers wrote: does it name just what their authors would name?"""

from collections import Counter
from dataclasses import replace
from functools import cache

import foreign_loops
import pytest
from foreign_loops import LOOPS, Foreign

from accum_lib.check import Case, check_case, explain, standard_cases
from accum_lib.check.loop import wishes_of
from accum_lib.check.report import Report

MAX_GRAD_NORM = 1.0  # every window's gradient in the main case is longer, and so is every micro-batch's
RIGHT = [entry for entry in LOOPS if not entry.codes]


def name_of(entry: Foreign) -> str:
    return entry.loop.__name__


def main_case(entry: Foreign) -> Case:
    """The case in which every fault shows; with clipping for a loop that asks for it."""
    case = standard_cases()[0]
    clips = "max_grad_norm" in wishes_of(entry.loop).values()
    return replace(case, max_grad_norm=MAX_GRAD_NORM) if clips else case


@cache
def main_report(entry: Foreign) -> Report:
    return check_case(entry.loop, main_case(entry))


def got(entry: Foreign) -> frozenset[str]:
    """The codes that the checker gives; an exception's name if the loop or the checker raises."""
    try:
        report = main_report(entry)
    except Exception as error:
        return frozenset({f"raised {type(error).__name__}"})
    return frozenset(report.codes) or (frozenset() if report.ok else frozenset({"unnamed"}))


@pytest.mark.parametrize("entry", LOOPS, ids=name_of)
def test_named_as_its_author_would(entry: Foreign) -> None:
    report = main_report(entry)
    assert set(report.codes) == entry.codes, explain(report)
    assert report.ok == (not entry.codes), explain(report)


@pytest.mark.parametrize("case", standard_cases(), ids=lambda case: case.name)
@pytest.mark.parametrize("entry", RIGHT, ids=name_of)
def test_right_on_every_case(entry: Foreign, case: Case) -> None:
    report = check_case(entry.loop, case)
    assert report.ok, explain(report)


def test_confusion_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints, for every code, how often it was expected, found, missed, and named without reason."""
    found, missed, extra = Counter(), Counter(), Counter()
    different = []
    for entry in LOOPS:
        codes = got(entry)
        found.update(entry.codes & codes or (["(right)"] if not entry.codes | codes else []))
        missed.update(entry.codes - codes or (["(right)"] if not entry.codes and codes else []))
        extra.update(codes - entry.codes)
        if codes != entry.codes:
            different.append((name_of(entry), sorted(entry.codes), sorted(codes)))
    with capsys.disabled():
        print(f"\n{'code':<28}{'expected':>9}{'found':>7}{'missed':>8}{'extra':>7}")
        for code in sorted({*found, *missed, *extra}):
            expected = found[code] + missed[code]
            print(f"{code:<28}{expected:>9}{found[code]:>7}{missed[code]:>8}{extra[code]:>7}")
        print(f"{len(LOOPS)} loops, {len(RIGHT)} of them right; {len(different)} differ:")
        for name, expected, codes in different:
            print(f"  {name}: expected {expected or 'ok'}, got {codes or 'ok'}")


@pytest.mark.parametrize(("stranger", "wrong"), [(foreign_loops.one, 30), (foreign_loops.two, 25)])
def test_each_stranger_wrote_enough_of_each_kind(stranger, wrong: int) -> None:
    by_one = [entry for entry in LOOPS if entry.loop.__module__ == stranger.__name__]
    right = [entry for entry in by_one if not entry.codes]
    assert len(right) >= 15
    assert len(by_one) - len(right) >= wrong
    assert len({name_of(entry) for entry in LOOPS}) == len(LOOPS)
