"""The hunt's clues: enough to tell every fault from every other, and nothing that names it."""

import numpy as np
import pytest

from accum_lib.check.faults import FAULTS, loops
from accum_lib.lessons.when_it_breaks.clues import ALIBIS, clues, mysteries
from accum_lib.lessons.when_it_breaks.figure import clues_picture


def test_every_fault_and_some_right_loops_are_hidden_there_once() -> None:
    suspects = mysteries()
    assert sorted(code for code, _ in suspects) == sorted([f.code for f in FAULTS] + ["right"] * len(ALIBIS))
    assert [c for c, _ in suspects] != [f.code for f in FAULTS] + ["right"] * len(ALIBIS), "they are shuffled"


def test_a_right_loop_leaves_no_clue() -> None:
    for loop in ALIBIS:
        seen = clues(loop)
        assert (seen.errors < seen.tolerance).all()
        assert np.allclose(seen.weights, seen.windows)
        assert np.array_equal(seen.found, seen.expected, equal_nan=True)
        assert np.allclose(seen.logged, seen.true_losses)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.code)
def test_each_fault_leaves_one(fault) -> None:
    seen = clues(fault.wrong)
    assert (
        not (seen.errors < seen.tolerance).all()
        or not np.array_equal(seen.found, seen.expected, equal_nan=True)
        or not np.allclose(seen.logged, seen.true_losses)
    )
    words = clues_picture(seen).summary.lower()
    assert fault.title.lower() not in words
    assert fault.code not in words


def test_counted_by_hand() -> None:
    seen = clues(loops.scheduler_per_micro_batch)
    assert seen.expected[:4].tolist() == [16, 6, 6, 6]  # 2 epochs of 8 micro-batches, K = 3: 3 updates each
    assert seen.found[:4].tolist() == [16, 6, 6, 16]
    assert np.isnan(seen.found[4]), "it was given no average"
    weights = clues(loops.mean_of_means).weights[0]
    assert weights[:3] == pytest.approx([13 / 15, 13 / 3, 13 / 21])  # counts 5, 1, 7; a third each
