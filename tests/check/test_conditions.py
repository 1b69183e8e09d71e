"""A loop may round and set modes; a model that changes itself is named; and no fault hides behind either."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm
from torch.utils.checkpoint import checkpoint

from accum_lib.check import Case, check_case, explain
from accum_lib.check.case import COUNTS, token_case, token_loss_sum
from accum_lib.check.faults.loops import totals
from accum_lib.losses import count_tokens

RAGGED = token_case(COUNTS, 3, "ragged")


def same(logits: torch.Tensor) -> torch.Tensor:
    return logits


def loop_of(of_logits=same, divisor=float, before=None, wrong: bool = False, casts=same, close=False):
    """The right loop with a thing of its own in it; ``wrong``: a mean of means, ``close``: 4e-7 too long."""

    def loop(model, optimizer, batches, accumulation_steps):
        if before is not None:
            before(model)
        total = totals(batches, accumulation_steps)
        for i, (inputs, labels) in enumerate(batches):
            counted = int((labels != -100).sum())
            by = accumulation_steps * counted if wrong else total[i] * (1 + 4e-7 * close)
            loss = F.cross_entropy(of_logits(model(casts(inputs))), labels, reduction="sum")
            (loss / divisor(by)).backward()
            if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
                optimizer.step()
                optimizer.zero_grad()

    return loop


def under_autocast(loop):
    """Its forward passes alone; in float32, since autocast leaves float64 as it is."""

    def inside(model, optimizer, batches, accumulation_steps):
        plain = model.forward
        model.forward = torch.autocast("cpu", torch.bfloat16)(plain)
        loop(model, optimizer, batches, accumulation_steps)
        model.forward = plain

    return inside


# --- The loop's own precision

ROUNDING = {
    "float32 logits": dict(of_logits=lambda x: x.float()),
    "bfloat16 logits": dict(of_logits=lambda x: x.bfloat16()),
    "a float32 softmax": dict(of_logits=lambda x: F.log_softmax(x, -1, dtype=torch.float32)),
    "a float32 copy": dict(of_logits=lambda x: torch.empty_like(x, dtype=torch.float32).copy_(x)),
    "a float32 divisor": dict(divisor=lambda n: 1 / (1 / torch.tensor(n).float())),
    "a float32 number": dict(divisor=lambda n: 1 / torch.tensor(1 / n, dtype=torch.float32)),
    "a float32 quotient": dict(divisor=lambda n: 1 / torch.tensor(n, dtype=torch.float32).reciprocal()),
    "a quotient of whole numbers": dict(divisor=lambda n: 1 / (1 / torch.tensor(int(n)))),
}


@pytest.mark.parametrize("name", [n for n in ROUNDING if "copy" not in n])
def test_a_loop_that_rounds_is_equal_with_a_note(name) -> None:
    report = check_case(loop_of(**ROUNDING[name]), RAGGED)
    assert report.ok, explain(report)
    assert report.relative_error > 1e-10, "it does round"
    (remark,) = report.remarks
    assert remark.startswith(
        "the loop rounds to bfloat16" if "bfloat16" in name else "the loop rounds to float32"
    )
    assert f"  Note: {remark}." in explain(report)


@pytest.mark.parametrize("name", ROUNDING)
def test_no_fault_hides_behind_rounding(name) -> None:
    """Not even one of 4e-7, which is no more than float32 itself may make."""
    if "whole" not in name:  # which would round it off
        assert not check_case(loop_of(**{**ROUNDING[name], "close": True}), RAGGED).equal
    wrong = check_case(loop_of(**{**ROUNDING[name], "wrong": True}), RAGGED)
    assert {"mean_of_means", "tail_divided_by_k"} == set(wrong.codes), explain(wrong)


def test_autocast_in_float32_is_equal_with_a_note_and_hides_nothing() -> None:
    right, wrong = (
        check_case(under_autocast(loop_of(wrong=w)), RAGGED, torch.float32) for w in (False, True)
    )
    assert right.ok, explain(right)
    assert right.relative_error > 1e-4
    assert right.remarks[0].startswith("the loop rounds to bfloat16")
    assert set(wrong.codes) == {"mean_of_means", "tail_divided_by_k"}
    assert check_case(loop_of(), RAGGED, torch.float32).remarks == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("where", ["buffer", "copy", "hook", "flat", "stacked"])
def test_sums_of_few_bits_are_a_fault_all_the_same(dtype, where) -> None:
    def loop(model, optimizer, batches, accumulation_steps):
        total, parameters = totals(batches, accumulation_steps), list(model.parameters())
        sums = [torch.zeros(p.shape, dtype=dtype) for p in parameters]
        flat = torch.zeros(sum(p.numel() for p in parameters), dtype=dtype)
        stack = []
        for i, batch in enumerate(batches):
            grads = torch.autograd.grad(token_loss_sum(model, batch) / total[i], parameters)
            stack.append(torch.cat([g.flatten() for g in grads]))
            for one, grad in zip(sums, grads, strict=True):
                one += grad.to(dtype) if where == "copy" else grad
            flat += stack[-1].to(dtype)
            if (i + 1) % accumulation_steps and i + 1 < len(batches):
                continue
            whole = {"flat": flat, "stacked": torch.stack(stack).to(dtype).sum(0)}.get(where)
            parts = sums if whole is None else whole.split([p.numel() for p in parameters])
            for p, part in zip(parameters, parts, strict=True):
                p.grad = part.to(p.dtype).view_as(p)
            optimizer.step()
            optimizer.zero_grad()
            [one.zero_() for one in (*sums, flat)]
            stack.clear()

    def hooked(model, optimizer, batches, accumulation_steps):
        def rounded(p):
            p.grad = p.grad.to(dtype).to(p.dtype)

        handles = [p.register_post_accumulate_grad_hook(rounded) for p in model.parameters()]
        loop_of()(model, optimizer, batches, accumulation_steps)
        [handle.remove() for handle in handles]

    report = check_case(hooked if where == "hook" else loop, RAGGED)
    assert "low_precision_buffer" in report.codes, explain(report)


# --- The modes in which the loop runs


class Layers(nn.Module):
    """Attributes that the loops below set: a norm, dropout, two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.drop = nn.BatchNorm1d(6), nn.Dropout(0.3)
        self.first, self.out = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.out(self.drop(self.first(self.norm(x)).tanh()))


def frozen_norm() -> nn.Module:
    model = Layers()
    model.norm.requires_grad_(False)
    return model


def all_eval(model) -> None:
    model.eval()


def parts_eval(model) -> None:
    model.norm.eval()
    model.drop.eval()


def dropout_off(model) -> None:
    model.norm.eval()
    model.drop.p = 0.0


def frozen_first(model) -> None:
    model.eval()
    model.first.requires_grad_(False)


def thawed(model) -> None:
    model.eval()
    model.norm.requires_grad_(True)


def thawed_later(model) -> None:
    """Another half of the layers in each epoch."""
    model.eval()
    model.turn = not getattr(model, "turn", False)
    model.first.requires_grad_(model.turn)
    model.out.requires_grad_(not model.turn)


def in_float32(model) -> None:
    model.eval().float()


SET = {
    "all in evaluation": (all_eval, {}, "the loop puts the whole model into evaluation mode"),
    "norm and dropout": (parts_eval, {}, "the loop puts norm, drop into evaluation mode"),
    "dropout of nothing": (dropout_off, {}, "the loop puts norm into evaluation mode"),
    "a frozen layer": (frozen_first, {}, "the loop freezes first.bias, first.weight"),
    "thawed": (thawed, {}, "evaluation"),
    "in turns": (thawed_later, {}, "the loop freezes first.bias, first.weight, out.bias"),
    "in float32": (in_float32, {"casts": lambda x: x.float()}, "the loop sets parameters to float32"),
}


def case_of(make) -> Case:
    return Case("set by the loop", make, RAGGED.batches, 3, token_loss_sum, count_tokens)


@pytest.mark.parametrize("name", SET)
def test_the_reference_is_set_as_the_loop_has_set_the_model(name) -> None:
    before, more, remark = SET[name]
    case = case_of(frozen_norm if name == "thawed" else Layers)
    right = check_case(loop_of(before=before, **more), case)
    assert right.ok, explain(right)
    assert any(remark in r for r in right.remarks), right.remarks
    wrong = check_case(loop_of(before=before, wrong=True, **more), case)
    assert "mean_of_means" in wrong.codes, explain(wrong)
    if name == "thawed":
        assert right.tensors_compared == 6 * 6, "the norm's two tensors, too"


def test_a_case_that_fails_outside_of_the_loop_is_told_in_a_sentence() -> None:
    def head_in_float32(model, optimizer, batches, accumulation_steps):
        model.eval().out.float()
        for inputs, labels in batches:
            hidden = model.first(model.norm(inputs)).tanh()
            F.cross_entropy(model.out(hidden.float()), labels).backward()
            optimizer.step()

    with pytest.raises(
        ValueError, match=r"'set by the loop' fails outside of the loop.*RuntimeError: mat1 and mat2"
    ):
        check_case(head_in_float32, case_of(Layers))


def test_what_the_loop_sets_by_mistake_is_seen() -> None:
    def forgets_to_train(model, optimizer, batches, accumulation_steps):
        """An evaluation after the first micro-batch of each window, without model.train() after it."""
        total = totals(batches, accumulation_steps)
        for i, batch in enumerate(batches):
            model.train(i % accumulation_steps == 0)
            (token_loss_sum(model, batch) / total[i]).backward()
            if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
                optimizer.step()
                optimizer.zero_grad()

    def freezes_midway(model, optimizer, batches, accumulation_steps):
        """The last micro-batch of each window does not reach the first layer."""
        model.eval()
        total = totals(batches, accumulation_steps)
        for i, batch in enumerate(batches):
            last = (i + 1) % accumulation_steps == 0 or i + 1 == len(batches)
            model.first.requires_grad_(not last)
            (token_loss_sum(model, batch) / total[i]).backward()
            if last:
                optimizer.step()
                optimizer.zero_grad()

    without_dropout = case_of(lambda: _without(Layers(), "drop"))
    assert "mode_changed" in check_case(forgets_to_train, without_dropout).codes
    assert not check_case(freezes_midway, case_of(Layers)).equal
    assert check_case(loop_of(), without_dropout).codes == ("batch_norm",), "in training it sees the batch"
    assert check_case(loop_of(), case_of(Layers)).codes == ("random_masks",)


def _without(model: nn.Module, name: str) -> nn.Module:
    setattr(model, name, nn.Identity())
    return model


# --- Models that change themselves


class Counting(nn.Module):
    """The scale depends on how often it was called: a plain attribute, in no buffer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.calls = nn.Linear(6, 4), 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) / (1 + 0.1 * self.calls)


class Following(nn.Module):
    """Normalised by a running mean that it follows itself, in training or not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(6, 4)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        found = self.inner(x - self.mean)
        self.mean.lerp_(x.mean(0), 0.3)
        return found


class Carrying(nn.Module):
    """A hidden state from the last forward pass, in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.hidden = nn.Linear(6, 4), None

    def forward(self, x):
        found = self.inner(x) if self.hidden is None else self.inner(x + self.hidden[0])
        self.hidden = (x.mean(0),)
        return found


class Scheduled(nn.Module):
    """A step that it keeps in a dictionary, as for a gradient reversal."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.state, self.seen = nn.Linear(6, 4), {"step": 0}, {}

    def forward(self, x):
        self.state["step"] += 1
        self.seen[self.state["step"]] = float(x.sum())
        return self.inner(x) * (1 + 0.1 * self.state["step"])


class Taught(nn.Module):
    """Beside a frozen teacher, which its forward pass moves."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.teacher = nn.Linear(6, 4), nn.Linear(6, 4).requires_grad_(False)

    def forward(self, x):
        with torch.no_grad():
            self.teacher.weight.lerp_(self.inner.weight + 0.1, 0.3)
        return self.inner(x) + self.teacher(x)


class Logging(Following):
    """It counts and follows, and nothing depends on it."""

    def forward(self, x):
        self.seen = getattr(self, "seen", 0) + len(x)
        self.mean.lerp_(x.mean(0), 0.3)
        return self.inner(x)


def spectral(how):
    def make():
        torch.manual_seed(0)
        return nn.Sequential(how(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 4))

    return make


MOVING = {
    "spectral norm": (spectral(parametrizations.spectral_norm), "0.parametrizations.weight.0"),
    "spectral norm by hooks": (spectral(spectral_norm), "(0)"),
    "counting": (Counting, "(the model)"),
    "following": (lambda: nn.Sequential(Following()), "(0)"),
    "carrying": (Carrying, "(the model)"),
    "scheduled": (Scheduled, "(the model)"),
    "taught": (Taught, "(teacher)"),
}


@pytest.mark.parametrize("name", MOVING)
def test_a_model_that_changes_itself_is_named_and_no_fault_hides_behind_it(name) -> None:
    make, named = MOVING[name]
    right, wrong = (check_case(loop_of(wrong=w), case_of(make)) for w in (False, True))
    assert right.codes == ("moving_state",), explain(right)
    assert named in right.diagnoses[0].message
    assert set(wrong.codes) == {"moving_state", "mean_of_means", "tail_divided_by_k"}, explain(wrong)


def test_by_hand_one_micro_batch_has_two_gradients_in_such_a_model() -> None:
    for make, _named in MOVING.values():
        model, batch = make().double(), (RAGGED.batches[0][0].double(), RAGGED.batches[0][1])
        trained = [p for p in model.parameters() if p.requires_grad]
        first, second = (torch.autograd.grad(token_loss_sum(model, batch), trained) for _ in range(2))
        assert max(float((a - b).norm()) for a, b in zip(first, second, strict=True)) > 1e-9
        error = check_case(loop_of(), case_of(make)).model.moving
        assert all(0 < e < math.inf for e in error.values())


class Recomputed(nn.Module):
    """One block three times, recomputed in the backward pass; a table whose gradient is sparse."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.block, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.table, self.reentrant = nn.Embedding(7, 8, sparse=True), reentrant

    def forward(self, x):
        hidden = self.first(x) + self.table((x[:, 0].abs() * 3).long() % 7)
        for _ in range(3):
            hidden = checkpoint(lambda h: self.block(h).tanh(), hidden, use_reentrant=self.reentrant)
        return self.last(hidden) + self.block.bias.sum()


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_that_are_sparse_or_arrive_in_pieces_are_compared(reentrant) -> None:
    case = case_of(lambda: Recomputed(reentrant))
    right, wrong = (check_case(loop_of(wrong=w), case) for w in (False, True))
    assert right.ok, explain(right)
    assert [u.passes for u in right.updates] == [3, 3, 2] * 2, "a pass for each micro-batch"
    assert set(wrong.codes) == {"mean_of_means", "tail_divided_by_k"}, explain(wrong)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_a_model_that_cannot_be_copied_is_made_again() -> None:
    """``weight_norm`` keeps a tensor that is computed from parameters, which ``deepcopy`` refuses."""

    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 4))

    right, wrong = (check_case(loop_of(wrong=w), case_of(make)) for w in (False, True))
    assert right.ok
    assert set(wrong.codes) == {"mean_of_means", "tail_divided_by_k"}


def test_an_evaluation_under_autocast_is_no_coarse_sum() -> None:
    def looks_first(model, optimizer, batches, accumulation_steps):
        plain = model.forward

        def looking(x):
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    plain(x)
                return plain(x)

        model.forward = looking
        loop_of()(model, optimizer, batches, accumulation_steps)
        model.forward = plain

    assert check_case(looks_first, RAGGED, torch.float32).ok


def test_a_model_that_changes_what_nothing_depends_on_is_equal() -> None:
    assert check_case(loop_of(), case_of(Logging)).ok
