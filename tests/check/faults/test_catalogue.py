"""The catalogue: every fault is named, every correction passes, and the two differ in a few lines."""

import difflib
import inspect
import re
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from accum_lib.check import Case, check_case, explain
from accum_lib.check.case import token_case
from accum_lib.check.faults import FAULTS, LIMITS, RECENT, loops, models, recent
from accum_lib.lessons.when_it_breaks.observe import OBSERVATIONS, Pages, sightings

EVERY = FAULTS + RECENT + LIMITS
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


@pytest.mark.parametrize("fault", FAULTS + RECENT, ids=lambda fault: fault.code)
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


# --- Parts of a loss


def test_means_of_sequences_are_told_from_means_of_tokens_both_ways() -> None:
    def loss_sum(model, batch):
        lengths = (batch["labels"] != -100).sum(dim=1)
        return (recent.policy_terms(model, batch).sum(dim=1) / lengths).sum()

    case = replace(recent.policy_case(), loss_sum=loss_sum, count=lambda batch: len(batch["labels"]))
    assert check_case(recent.sequence_denominator, case).ok
    wrong = check_case(recent.token_denominator, case)
    assert wrong.codes == ("sequence_denominator",)
    assert wrong.diagnoses[0].message.startswith("tokens weigh alike")


def test_an_auxiliary_loss_is_seen_only_where_the_case_has_one() -> None:
    case = recent.mixture_case()
    found = check_case(recent.auxiliary_per_micro_batch, case).diagnoses[0].message
    least, most = (float(x) for x in re.findall(r"weighs ([\d.]+) to ([\d.]+) times", found)[0])
    assert least == pytest.approx(14 / 8, abs=0.01), "the window counts 14, this micro-batch 8"
    assert most == pytest.approx(13 / 1, abs=0.01)
    blind = check_case(recent.auxiliary_per_micro_batch, replace(case, auxiliary=None))
    assert blind.codes == ("unexplained",)

    def all_of_it_twice(model, optimizer, batches, accumulation_steps):
        doubled = [(x.repeat(2, 1), y.repeat(2)) for x, y in batches]
        total = loops.totals(batches, accumulation_steps)
        for i, batch in enumerate(doubled):
            (recent.mixture_loss_sum(model, batch) / total[i]).backward()
            if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
                optimizer.step()
                optimizer.zero_grad()

    assert check_case(all_of_it_twice, case).codes == ("wrong_scale",), "both parts: no auxiliary loss' fault"


@pytest.mark.parametrize("skips", [True, False])
def test_a_skipped_micro_batch_stays_one_of_k(skips) -> None:
    """On even micro-batches; where nothing is skipped, and a loss of 0 is added, it is a mean of means."""
    case = token_case((4, 0, 4, 4, 4, 0, 4, 4, 4), 3, "even, two without labels")

    def loop(model, optimizer, batches, accumulation_steps):
        for i, (x, y) in enumerate(batches):
            loss = nn.functional.cross_entropy(model(x), y)
            if not skips:
                loss = loops.loss_mean(model(x), y)
            if loss.isfinite():
                (loss / accumulation_steps).backward()
            if (i + 1) % accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()

    assert check_case(loop, case).codes == (("skipped_in_divisor",) if skips else ("mean_of_means",))


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
