"""The installed frameworks: the table is computed now, and what is called mended is equal.

No verdict on a framework is written down here, since versions change. What is tested is that updates are
really compared, that remedies are equal, and that a right and a wrong framework of our own are told apart.
"""

from dataclasses import replace

import torch

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.check import check_case
from accum_lib.check.frameworks import cases, transformers_trainer
from accum_lib.check.frameworks.scoreboard import (
    CONTESTANTS,
    Contestant,
    NotRun,
    ScoreRow,
    legend,
    scoreboard,
    table,
)
from accum_lib.exact import trainer_loss

CHEAP = [cases.digits(), cases.token_classification()]


def test_every_installed_framework_is_there(rows) -> None:
    assert {r.framework for r in rows} == {c.name for c in CONTESTANTS}
    assert all(r.version == next(c for c in CONTESTANTS if c.name == r.framework).version() for r in rows)


def test_each_case_has_a_twin_with_a_short_epoch(rows) -> None:
    for name in {r.framework for r in rows}:
        subjects = [r.subject for r in rows if r.framework == name]
        plain = [s for s in subjects if "short epoch" not in s]
        assert sorted(subjects) == sorted([*plain, *(f"{s}, short epoch" for s in plain)])


def test_updates_were_really_compared(rows) -> None:
    for row in rows:
        assert row.report.epochs == 2
        assert row.report.updates, row
        assert all(u.passes > 0 for u in row.report.updates)
        assert row.report.tensors_compared > 0


def test_what_is_not_equal_is_named_and_has_a_remedy_that_is_equal(rows) -> None:
    for row in rows:
        if not row.report.ok:
            assert row.report.codes
            assert "unexplained" not in row.report.codes, row
            assert row.mended is not None
            assert row.mended.ok, (row.framework, row.subject, row.mended.codes)


def ours(subject):
    def loop(model, optimizer, batches, accumulation_steps):
        for window in windows(batches, accumulation_steps):
            accumulate(model, window, subject.case.loss_sum, subject.case.count)
            apply_update(model, optimizer)

    return loop


def no_k(subject):
    def loop(model, optimizer, batches, accumulation_steps):
        for window in windows(batches, accumulation_steps):
            for batch in window:
                subject.mean_loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()

    return loop


def test_a_right_and_a_wrong_framework_are_told_apart() -> None:
    """With the same machinery, on the same cases: ours, and one that never divides by K."""
    good = Contestant("good", "torch", ours, ours, "")
    bad = Contestant("bad", "torch", no_k, ours, "ours")
    told = list(scoreboard([good, bad], CHEAP))
    assert all(r.report.ok and r.mended is None for r in told if r.framework == "good")
    assert all(r.report.codes == ("no_division",) for r in told if r.framework == "bad")
    assert all(r.mended.ok for r in told if r.framework == "bad")
    text = table(told)
    assert "| good" in text
    assert "| equal |" in text
    assert "no_division" in text
    [meaning] = legend(told)
    assert meaning.startswith("- `no_division`: Each micro-batch's mean gradient is added up")
    assert legend([r for r in told if r.framework == "good"]) == []


def needs_a_package(subject):
    def loop(model, optimizer, batches, accumulation_steps):
        import no_such_package  # noqa: F401

    return loop


def fails_once(subject):
    def loop(model, optimizer, batches, accumulation_steps):
        raise RuntimeError("broken | here\nand more") if len(batches) < 3 else KeyError

    return loop


def test_each_framework_stands_alone_and_a_missing_one_is_a_row_with_its_reason() -> None:
    names = [("none", "no-such-package", ours), ("half", "torch", needs_a_package),
             ("broken", "torch", fails_once), ("good", "torch", ours)]  # fmt: skip
    rows = list(scoreboard([Contestant(n, package, make, make, "") for n, package, make in names], CHEAP))
    reasons = [(r.framework, r.reason) for r in rows if isinstance(r, NotRun)]
    assert reasons[:2] == [("none", "no-such-package is not installed"),
                           ("half", "ModuleNotFoundError: No module named 'no_such_package'")]  # fmt: skip
    assert reasons[2:] == [("broken", "KeyError: "), ("broken", "RuntimeError: broken / here")] * 2
    assert [r.framework for r in rows if isinstance(r, ScoreRow)] == ["good"] * 4
    assert legend(rows) == []
    assert not any(r.mended for r in rows), "each row can be asked, as notebook 02 does"
    text = table(rows).splitlines()
    assert text[2] == "| none |  | | | | not tried: no-such-package is not installed | |"
    assert {line.count("|") for line in text} == {8}


def test_the_trainer_hands_over_every_micro_batch_in_order() -> None:
    subject, seen = cases.token_classification(), []

    def noting(model):
        def note(outputs, labels, num_items_in_batch):
            seen.append((labels.shape, int(num_items_in_batch)))
            return trainer_loss(model)(outputs, labels, num_items_in_batch)

        return note

    report = check_case(transformers_trainer.trainer_loop(noting), replace(subject.case, epochs=1))
    counts = [int(subject.case.count(b)) for b in subject.case.batches]
    assert [shape for shape, _ in seen] == [b["labels"].shape for b in subject.case.batches]
    assert [n for _, n in seen] == [sum(counts[:3])] * 3 + [sum(counts[3:6])] * 3 + [sum(counts[6:])] * 2
    assert report.ok


def test_the_cases_are_ragged_where_tokens_count() -> None:
    for subject in cases.framework_cases():
        counts = [subject.case.count(b) for b in subject.case.batches]
        even = subject.head in ("MLP", "RobertaForSequenceClassification")
        assert (len(set(counts)) == 1) is even
        assert len(counts) % subject.case.accumulation_steps == 2
        mean, total = (
            subject.mean_loss(model := subject.case.make_model(), subject.case.batches[0]),
            counts[0],
        )
        summed = subject.case.loss_sum(model, subject.case.batches[0])
        assert torch.allclose(mean * total, summed)
