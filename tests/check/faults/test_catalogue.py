"""The catalogue: every fault is named, every correction passes, and the two differ in a few lines."""

import difflib
import inspect
import re
import warnings

import pytest
import torch
from torch import nn

from accum_lib.check import Case, check_case, explain
from accum_lib.check.faults import FAULTS, LIMITS, loops, models
from accum_lib.lessons.when_it_breaks.observe import OBSERVATIONS, Pages, sightings

EVERY = FAULTS + LIMITS
by_code = pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.code)


def test_there_are_at_least_twelve_and_each_once() -> None:
    assert len(FAULTS) >= 12
    assert len({f.code for f in EVERY}) == len(EVERY)


@by_code
def test_the_fault_is_named_and_its_correction_passes(fault) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = check_case(fault.wrong, fault.case())
    assert wrong.codes == (fault.code,), explain(wrong)
    mended = check_case(fault.right, (fault.mended or fault.case)())
    assert mended.ok, explain(mended)


@by_code
def test_each_has_words_and_a_dated_source(fault) -> None:
    assert len(fault.what) > 60
    assert re.search(r"\((19|20)\d\d\)", fault.source)
    assert fault.title[0].isupper() or fault.title.startswith("i %")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
def test_wrong_and_right_differ_in_a_few_lines(fault) -> None:
    sources = [inspect.getsource(loop).splitlines()[1:] for loop in (fault.wrong, fault.right)]
    changed = [line for line in difflib.ndiff(*sources) if line[0] in "+-" and "def " not in line]
    body = [line for line in changed if not re.match(r". {4}(model|\))", line)]  # the signature, if wrapped
    assert 1 <= len([line for line in body if line.startswith("-")]) <= 9


def test_every_wrong_loop_of_the_module_is_in_the_catalogue() -> None:
    used = {f.wrong for f in EVERY} | {f.right for f in EVERY}
    every = {f for _, f in inspect.getmembers(loops, inspect.isfunction) if f.__module__ == loops.__name__}
    assert every - used == {loops.loss_sum, loops.loss_mean, loops.totals}


def test_the_window_totals_by_hand() -> None:
    labels = [torch.tensor(x) for x in ([1, 2, -100], [3], [-100], [4, 5])]
    batches = [(torch.zeros(len(y), 1), y) for y in labels]
    assert loops.totals(batches, 3) == [3, 3, 3, 2]
    assert loops.totals(batches, 5) == [5, 5, 5, 5]


# --- Remedies


def test_a_gradient_cache_is_exact() -> None:
    """Far better than the 1e-5 that one could ask for: it is the same sum in another order."""
    report = check_case(models.gradient_cache, models.contrastive_case())
    assert report.relative_error < 1e-14
    single = check_case(models.gradient_cache, models.contrastive_case(), torch.float32)
    assert single.relative_error < 1e-5
    plain = check_case(models.accumulated_contrastive, models.contrastive_case())
    assert plain.relative_error > 0.1


@pytest.mark.parametrize("norm", [lambda c: nn.GroupNorm(4, c), models.FrozenBatchNorm])
def test_norms_that_do_not_look_at_the_batch(norm) -> None:
    assert check_case(loops.right, models.norm_case("mended", norm)).ok


def test_frozen_statistics_stay_frozen_in_training() -> None:
    model = models.digits_cnn(models.FrozenBatchNorm).train()
    (first,) = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)][:1]
    before = first.running_mean.clone()
    model(torch.randn(4, 1, 8, 8))
    assert torch.equal(first.running_mean, before)
    assert not first.training


# --- Which check would catch it?


def test_sightings_are_measured_and_the_checker_sees_every_fault() -> None:
    chosen = [f for f in FAULTS if f.code in ("divided_twice", "mean_of_means", "last_loss_logged")]
    told = []
    table = sightings(chosen, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert table.faults == tuple(f.code for f in chosen)
    assert table.values.shape == table.seen.shape == (3, len(OBSERVATIONS))
    assert table.seen[:, -1].all(), "the checker"
    twice = dict(zip(table.observations, table.values[table.faults.index("divided_twice")], strict=True))
    assert twice["weights, SGD"] > 100 * twice["weights, Adam"], "Adam hides the gradient's length"
    logged = table.seen[table.faults.index("last_loss_logged")]
    assert not logged[:4].any(), "training is right"


def test_a_right_loop_is_seen_by_nothing() -> None:
    from dataclasses import replace

    table = sightings([replace(FAULTS[0], wrong=loops.right)])
    assert not table.seen.any()


def test_the_pages_are_ragged_and_keep_the_held_out_digits_apart() -> None:
    pages = Pages()
    sizes = {len(y) for _, y in pages.train}
    assert len(sizes) > 8
    assert sum(len(y) for _, y in pages.train) + 300 <= 1797
    assert all((y == -100).sum() == (torch.arange(len(y)) % 4 == 3).sum() for _, y in pages.train)
    assert sorted(map(len, [y for _, y in pages.shuffled(1)])) == sorted(len(y) for _, y in pages.train)


def test_case_names_are_words() -> None:
    assert all(isinstance(f.case(), Case) and f.case().name for f in EVERY)
