"""The checker itself: its numbers by hand, what it refuses, that it fails when it is broken on purpose."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from accum_lib.accumulate import windows
from accum_lib.check import (
    Case,
    assert_equivalent,
    check,
    check_case,
    compare,
    explain,
    join_batches,
    reference,
    standard_cases,
)
from accum_lib.check.case import COUNTS, token_case, token_loss_sum, token_model
from accum_lib.check.faults import loops as L
from accum_lib.check.reference import rounding_tolerance
from accum_lib.check.report import Report
from accum_lib.losses import count_tokens
from accum_lib.problems.digits import Digits
from accum_lib.problems.regression import Regression

RAGGED = token_case(COUNTS, 3, "ragged")
EVEN = token_case((4, 4, 4, 4), 2, "even")


# --- Numbers, by hand


def test_a_right_loop_is_equal_in_every_number() -> None:
    report = check_case(L.right, RAGGED)
    assert report.ok
    assert report.equal
    assert (len(report.updates), report.expected_updates, report.epochs) == (6, 6, 2)
    assert report.tensors_compared == 6 * 6, "six parameters in six updates"
    assert report.clears == 6
    assert report.leftover == 0
    assert report.ticks is None
    assert [u.expected for u in report.updates[:3]] == [(0, 1, 2), (3, 4, 5), (6, 7)]
    assert [u.passes for u in report.updates] == [3, 3, 2, 3, 3, 2]
    for update in report.updates:
        assert update.relative_error < 1e-15
        assert update.scale == pytest.approx(1, abs=1e-14)
        assert update.weights[list(update.expected)] == pytest.approx(1, abs=1e-10)
        outside = [i for i in range(8) if i not in update.expected]
        assert np.abs(update.weights[outside]).max() < 1e-10
        assert update.moved


def test_adding_means_up_weighs_each_by_the_windows_count_over_its_own() -> None:
    report = check_case(L.no_division, RAGGED)
    first = report.updates[0]
    assert first.weights[:3] == pytest.approx([13 / 5, 13 / 1, 13 / 7], rel=1e-9)
    assert report.codes == ("no_division",)


def test_on_even_micro_batches_the_scale_is_k() -> None:
    report = check_case(L.no_division, EVEN)
    assert report.updates[0].scale == pytest.approx(2, rel=1e-12)
    assert report.relative_error == pytest.approx(1, rel=1e-12)
    assert "2.00 times as long" in report.diagnoses[0].message


def test_the_worst_parameter_is_the_one_that_is_off() -> None:
    def bends_one(model, optimizer, batches, accumulation_steps):
        total = L.totals(batches, accumulation_steps)
        for i, (inputs, labels) in enumerate(batches):
            (L.loss_sum(model(inputs), labels) / total[i]).backward()
            if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
                model[2].bias.grad.mul_(1.5)
                optimizer.step()
                optimizer.zero_grad()

    report = check_case(bends_one, RAGGED)
    assert not report.equal
    assert {u.worst_parameter for u in report.updates} == {"2.bias"}
    assert report.updates[0].worst_error == pytest.approx(0.5, rel=1e-9)
    assert report.codes == ("unexplained",)


def test_a_parameter_without_a_gradient_is_missed() -> None:
    def forgets(model, optimizer, batches, accumulation_steps):
        def clear(*_) -> None:
            model[0].weight.grad = None

        handle = optimizer.register_step_pre_hook(clear)
        L.right(model, optimizer, batches, accumulation_steps)
        handle.remove()

    assert "missing_gradient" in check_case(forgets, RAGGED).codes


def test_an_optimizer_of_the_loops_own_is_seen() -> None:
    def own_adam(model, batches, k):
        L.right(model, torch.optim.Adam(model.parameters(), lr=1e-3), batches, k)

    assert check_case(own_adam, RAGGED).ok


@pytest.mark.parametrize("wrong", [False, True])
def test_an_optimizer_that_evaluates_its_closure_last_has_moved(wrong) -> None:
    """LBFGS may end with an evaluation, after which nothing moves any more."""

    def lbfgs(model, batches, accumulation_steps):
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)
        for window in windows(batches, accumulation_steps):
            total = sum(count_tokens(batch) for batch in window) * (1.5 if wrong else 1.0)

            def closure(window=window, total=total):
                optimizer.zero_grad()
                losses = [token_loss_sum(model, batch) / total for batch in window]
                for loss in losses:
                    loss.backward()
                return sum(loss.detach() for loss in losses)

            optimizer.step(closure)

    report = check_case(lbfgs, RAGGED)
    assert report.ok is not wrong
    assert report.codes == (("wrong_scale",) if wrong else ())


def test_a_closure_counts_with_the_gradient_it_leaves() -> None:
    def with_closure(model, optimizer, batches, accumulation_steps):
        total = L.totals(batches, accumulation_steps)
        for start in range(0, len(batches), accumulation_steps):

            def closure(start=start):
                optimizer.zero_grad()
                for i in range(start, min(start + accumulation_steps, len(batches))):
                    loss = L.loss_sum(model(batches[i][0]), batches[i][1]) / total[i]
                    loss.backward()
                return loss

            optimizer.step(closure)

    report = check_case(with_closure, RAGGED)
    assert report.equal, explain(report)


def test_batches_for_several_epochs_at_once() -> None:
    def whole_training(model, optimizer, batches, accumulation_steps, epochs):
        for _ in range(epochs):
            L.right(model, optimizer, batches, accumulation_steps)

    report = check_case(whole_training, RAGGED)
    assert report.ok
    assert [u.epoch for u in report.updates] == [0, 0, 0, 1, 1, 1]


def test_float32_is_equal_to_its_own_rounding() -> None:
    report = check_case(L.right, RAGGED, torch.float32)
    assert report.ok
    assert 1e-9 < report.relative_error < report.tolerance < 1e-4
    assert check_case(L.mean_of_means, RAGGED, torch.float32).codes == ("mean_of_means",)


def test_a_model_with_fewer_parameters_than_micro_batches_is_compared_without_weights() -> None:
    case = Case.of_problem(Regression(40), 4, 3)

    def squared(model, optimizer, batches, accumulation_steps):
        problem = Regression(40)
        for start in range(0, len(batches), accumulation_steps):
            window = batches[start : start + accumulation_steps]
            for batch in window:
                (problem.loss_sum(model, batch) / sum(len(y) for _, y in window)).backward()
            optimizer.step()
            optimizer.zero_grad()

    report = check_case(squared, case)
    assert report.equal
    assert np.isnan(report.updates[0].weights).all()
    assert not report.diagnoses


# --- What the model does


def test_the_limits_of_the_method_are_told_from_faults_of_the_loop() -> None:
    def classify(model, optimizer, batches, accumulation_steps):
        L.right(model, optimizer, batches, accumulation_steps)

    norm = Case.of_problem(Digits("cnn", num_samples=40), 8, 2)
    assert check_case(classify, norm).codes == ("batch_norm",)
    assert check_case(L.no_division, norm).codes == ("batch_norm", "no_division")


def test_a_loss_taken_in_float32_widens_the_tolerance_and_is_not_blamed_on_the_batch() -> None:
    def rounded(model: nn.Module, batch):
        return F.cross_entropy(model(batch[0]).float(), batch[1], reduction="sum", ignore_index=-100)

    case = replace(RAGGED, loss_sum=rounded)
    report = check_case(L.right, case)
    assert report.ok
    assert 1e-7 < report.tolerance < 1e-4


# --- Tolerance


def test_the_tolerance_is_the_probabilistic_bound() -> None:
    unit, n = 2.0**-53, 400
    expected = math.exp(math.sqrt(2 * math.log(2 * n / 1e-9)) * math.sqrt(n) * unit) - 1
    assert rounding_tolerance(torch.float64, n) == pytest.approx(expected, rel=1e-6)
    assert rounding_tolerance(torch.float32, n) == pytest.approx(expected * 2**29, rel=1e-3)
    assert rounding_tolerance(torch.float64, n, 5.0) == pytest.approx(5 * expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_real_sums_stay_within_it(dtype) -> None:
    """Sums of n random numbers, added one by one in this precision, against float64."""
    generator = torch.Generator().manual_seed(0)
    for n in (10, 100, 500):
        for _ in range(20):
            values = torch.rand(n, generator=generator).to(dtype)
            total = torch.zeros((), dtype=dtype)
            for value in values:
                total = total + value
            exact = values.double().sum()
            assert abs(total.double() - exact) / exact <= rounding_tolerance(dtype, n)


# --- What it refuses


def test_equal_on_nothing_is_impossible() -> None:
    right = check_case(L.right, RAGGED)
    assert right.equal
    nothing = replace(right.updates[0], tensors_compared=0)
    assert not replace(right, updates=(nothing, *right.updates[1:])).equal
    assert not replace(right, updates=()).equal
    assert not replace(right, updates=(), expected_updates=0).equal
    assert not replace(right, updates=right.updates[:-1]).equal
    still = replace(right.updates[0], moved=False)
    assert not replace(right, updates=(still, *right.updates[1:])).equal
    unknown = replace(right.updates[0], relative_error=math.nan)
    assert not replace(right, updates=(unknown, *right.updates[1:])).equal


def test_a_loop_that_does_nothing_is_not_equal() -> None:
    report = check_case(lambda model, optimizer, batches, accumulation_steps: None, RAGGED)
    assert not report.equal
    assert report.codes
    report = check_case(lambda model: None, RAGGED)
    assert not report.ok


def test_a_loop_without_learning_rate_moves_nothing() -> None:
    case = replace(RAGGED, learning_rate=0.0)
    assert "not_moved" in check_case(L.right, case).codes


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (replace(RAGGED, batches=[]), "no micro-batches"),
        (replace(RAGGED, accumulation_steps=0), "1 or more; got 0"),
        (replace(RAGGED, count=lambda batch: 0), r"\(0, 1, 2\) counts 0"),
        (replace(RAGGED, make_model=lambda: token_model().requires_grad_(False)), "nothing to check"),
    ],
)
def test_a_case_that_cannot_be_checked_says_why(case, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_case(L.right, case)


def test_a_loop_that_asks_for_too_much_is_told_what_there_is() -> None:
    with pytest.raises(TypeError, match=r"asks for 'tokenizer'.*has model, optimizer, batches"):
        check_case(lambda model, optimizer, batches, accumulation_steps, tokenizer: None, RAGGED)


def test_what_the_loop_raises_names_the_case() -> None:
    def broken(model, optimizer, batches, accumulation_steps):
        raise RuntimeError("my own mistake")

    with pytest.raises(RuntimeError, match="my own mistake") as caught:
        check_case(broken, RAGGED)
    assert "on the case 'ragged'" in caught.value.__notes__[0]


def test_hooks_are_gone_afterwards() -> None:
    from torch.optim import optimizer as module

    before = len(module._global_optimizer_pre_hooks), len(module._global_optimizer_post_hooks)
    check_case(L.right, RAGGED)
    with pytest.raises(ZeroDivisionError):
        check_case(lambda model: 1 / 0, RAGGED)
    after = len(module._global_optimizer_pre_hooks), len(module._global_optimizer_post_hooks)
    assert before == after


def test_the_random_state_of_the_loop_is_not_disturbed() -> None:
    """The reference draws masks of its own, so a loop with dropout trains as it would without the checker."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_case(L.right, RAGGED)
    assert torch.equal(torch.rand(3), expected)


# --- Clipping that is the loop's own


def clips_at(norm: float | None, each: bool = False):
    def loop(model, optimizer, batches, accumulation_steps, max_grad_norm=norm):
        for window in windows(batches, accumulation_steps):
            total = sum(count_tokens(b) for b in window)
            for batch in window:
                (token_loss_sum(model, batch) / total).backward()
                if each and max_grad_norm:
                    nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            if max_grad_norm:
                nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()

    return loop


@pytest.mark.parametrize("norm", [1.0, 0.1, 2, None, 0, float("inf")])
def test_a_loop_keeps_its_own_max_grad_norm(norm) -> None:
    """By hand: no update's gradient is longer than the norm, and with a small norm all are just as long."""
    used, clips = [], clips_at(norm)

    def noting(model, optimizer, batches, accumulation_steps, max_grad_norm=norm):
        optimizer.register_step_pre_hook(
            lambda *_: used.append(float(nn.utils.get_total_norm([p.grad for p in model.parameters()])))
        )
        clips(model, optimizer, batches, accumulation_steps, max_grad_norm)

    assert check_case(noting, RAGGED).ok
    assert max(used) <= (norm or 9.0) * (1 + 1e-9)
    assert norm != 0.1 or min(used) > 0.0999


def test_an_own_max_grad_norm_excuses_no_other_clipping() -> None:
    assert check_case(clips_at(0.1, each=True), RAGGED).codes == ("clipped_per_micro_batch",)
    assert check_case(clips_at(0.1), replace(RAGGED, max_grad_norm=0.2)).ok, "it is given the case's"
    fixed = clips_at(0.1)
    deaf = check_case(lambda model, optimizer, batches, k: fixed(model, optimizer, batches, k), RAGGED)
    assert deaf.codes == ("clipped",), "nothing says that it is meant to"


# --- Names and words


@pytest.mark.parametrize(
    "loop",
    [
        lambda net, opt, loader, k: L.right(net, opt, loader, k),
        lambda a, b, c, d: L.right(a, b, c, d),
        lambda model, optimizer, train_loader, gradient_accumulation_steps=1, log=None: L.right(
            model, optimizer, train_loader, gradient_accumulation_steps
        ),
        lambda batches, model, optimizer, accumulation_steps: L.right(
            model, optimizer, batches, accumulation_steps
        ),
    ],
)
def test_a_loop_may_name_its_parameters_as_it_likes(loop) -> None:
    assert check_case(loop, RAGGED).ok


def test_one_line_is_enough() -> None:
    assert_equivalent(L.right)
    with pytest.raises(AssertionError, match=r"NOT EQUAL to one big batch(.|\n)*mean_of_means"):
        assert_equivalent(L.mean_of_means)


def test_the_words_have_the_numbers() -> None:
    text = explain(check_case(L.tail_divided_by_k, RAGGED))
    assert "NOT EQUAL" in text
    assert "8 micro-batches counting 5, 1, 7, 2, 4, 3, 6, 8" in text
    assert "0.667 0.667" in text
    assert "* tail_divided_by_k:" in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        amiss = explain(check_case(L.scheduler_per_micro_batch, RAGGED))
    assert amiss.startswith("equal updates, but something else is amiss")
    assert "16 scheduler ticks" in amiss


def test_joining_pads_what_is_ragged() -> None:
    one = {"input_ids": torch.ones(1, 2), "attention_mask": torch.ones(1, 2), "labels": torch.ones(1, 2)}
    two = {"input_ids": torch.ones(1, 3), "attention_mask": torch.ones(1, 3), "labels": torch.ones(1, 3)}
    joined = join_batches([one, two])
    assert joined["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert joined["labels"].tolist() == [[1, 1, -100], [1, 1, 1]]
    pair = join_batches([(torch.zeros(2, 3), torch.zeros(2)), (torch.ones(1, 3), torch.ones(1))])
    assert pair[0].shape == (3, 3)
    assert pair[1].tolist() == [0, 0, 1]
    with pytest.raises(TypeError, match="type str: give a join function"):
        join_batches(["a", "b"])


# --- The checker, broken on purpose


def works() -> None:
    """What the checker must do at the least. Each mutation below must make this fail."""
    assert check_case(L.right, RAGGED).ok
    for wrong in (L.no_division, L.mean_of_means, L.dropped_tail, L.tail_divided_by_k, L.wrong_denominator):
        report = check_case(wrong, RAGGED)
        assert not report.equal
        assert report.codes == (wrong.__name__,)
    off_by_one_label = check_case(counts_one_too_many, RAGGED)
    assert not off_by_one_label.equal


def counts_one_too_many(model, optimizer, batches, accumulation_steps):
    """Divides by a count that is too large by one label in a thousand."""
    total = L.totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        (L.loss_sum(model(inputs), labels) / (total[i] * 1.001)).backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def test_it_works() -> None:
    works()


def compares_nothing(monkeypatch) -> None:
    real = compare._compare
    monkeypatch.setattr(
        compare, "_compare", lambda *a: replace(real(*a), relative_error=0.0, scale=1.0, tensors_compared=0)
    )


def compares_a_gradient_with_itself(monkeypatch) -> None:
    real = compare._error_and_scale
    monkeypatch.setattr(compare, "_error_and_scale", lambda found, right: real(right, right))


def compares_none(monkeypatch) -> None:
    monkeypatch.setattr(reference.Reference, "of_big_batch", lambda self, indices: {})


def skips_the_tail(monkeypatch) -> None:
    real = Case.windows
    monkeypatch.setattr(
        Case, "windows", lambda self: [w for w in real(self) if len(w) == self.accumulation_steps]
    )


def loosens_the_tolerance(monkeypatch) -> None:
    from accum_lib.check import check as module  # noqa: F401

    monkeypatch.setattr("accum_lib.check.compare.rounding_tolerance", lambda *_: 0.01)


def ignores_missing_updates(monkeypatch) -> None:
    monkeypatch.setattr(
        Report, "equal", property(lambda r: all(u.relative_error <= r.tolerance for u in r.updates))
    )


def divides_the_reference_by_k(monkeypatch) -> None:
    real = reference.Reference.of_big_batch
    monkeypatch.setattr(
        reference.Reference, "of_big_batch", lambda self, i: {n: g / 3 for n, g in real(self, i).items()}
    )


MUTATIONS = [
    compares_nothing,
    compares_a_gradient_with_itself,
    compares_none,
    skips_the_tail,
    loosens_the_tolerance,
    ignores_missing_updates,
    divides_the_reference_by_k,
]


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda m: m.__name__)
def test_a_broken_checker_is_noticed(mutate, monkeypatch) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, ValueError, IndexError)):
        works()


def test_the_standard_cases_leave_no_fault_a_place_to_hide() -> None:
    """One is ragged with a trailing window, one even, one short, one has an empty micro-batch."""
    cases = standard_cases()
    counts = [[count_tokens(b) for b in case.batches] for case in cases]
    tails = [len(c) % case.accumulation_steps for c, case in zip(counts, cases, strict=True)]
    assert tails[0] > 1
    assert len(set(counts[0])) > 5
    assert len(set(counts[1])) == 1
    assert any(len(c) < case.accumulation_steps for c, case in zip(counts, cases, strict=True))
    assert any(0 in c for c in counts)
    assert all(case.loss_sum is token_loss_sum for case in cases)
    assert all(r.ok for r in check(L.right))


@pytest.mark.parametrize("announced", [True, False])
def test_a_clip_that_bites_in_two_updates_is_recognised_beside_a_division_by_hand(announced: bool) -> None:
    def loop(model, optimizer, batches, accumulation_steps, max_grad_norm=2.1):
        for i, (inputs, labels) in enumerate(batches):
            F.cross_entropy(model(inputs), labels, ignore_index=-100).backward()
            if (i + 1) % accumulation_steps == 0:
                for parameter in model.parameters():
                    parameter.grad /= accumulation_steps
                nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()

    case = token_case(
        (5, 1, 7, 2, 4, 3, 6, 8, 2, 5, 3, 4), 4, "two of six", max_grad_norm=2.1 if announced else None
    )
    assert check_case(loop, case).codes == ("mean_of_means",)  # no length that the clip has changed
