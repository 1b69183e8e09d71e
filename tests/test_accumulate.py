"""The core, promise by promise, against one big batch in float64 and against hand counts."""

import math
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from reference import (
    big_batch_gradients,
    big_batch_loss,
    count,
    flatten,
    gradient,
    loss_sum,
    make_batch,
    make_model,
    make_window,
    relative_error,
    weights,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import StepLR
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset

from accum_lib.accumulate import NonFiniteGradientError, accumulate, apply_update, windows
from accum_lib.losses import (
    classification_loss_sum,
    count_next_tokens,
    count_samples,
    count_tokens,
    sum_of_mean,
)

EXACT = 1e-12  # of the gradient's norm, in float64
NAN, INF = math.nan, math.inf

# --- Windows


@pytest.mark.parametrize(
    ("micro_batches", "steps", "lengths"),
    [
        (6, 3, [3, 3]),
        (7, 3, [3, 3, 1]),  # a shorter trailing window
        (2, 5, [2]),  # an epoch shorter than K
        (3, 1, [1, 1, 1]),
        (1, 1, [1]),
    ],
)
def test_every_micro_batch_is_in_one_window_in_order(micro_batches, steps, lengths) -> None:
    cut = list(windows(range(micro_batches), steps))
    assert [len(window) for window in cut] == lengths
    assert list(chain(*cut)) == list(range(micro_batches))


def test_any_iterable_will_do() -> None:
    expected = [[0, 1], [2]]
    assert list(windows([0, 1, 2], 2)) == expected
    assert list(windows((i for i in range(3)), 2)) == expected
    assert list(windows({0: "a", 1: "b", 2: "c"}, 2)) == expected
    loader = DataLoader(TensorDataset(torch.arange(5)), batch_size=2)
    assert [[b[0].tolist() for b in window] for window in windows(loader, 2)] == [[[0, 1], [2, 3]], [[4]]]


def test_a_window_may_be_a_generator_or_a_loader_that_shuffles() -> None:
    """It is gone through once: else there would be counts and no passes, or counts of other batches."""
    model, batches = make_model(), make_window(3, 1, 2)
    accumulate(model, batches, loss_sum, count)
    expected = gradient(model)
    loader = DataLoader(batches, batch_size=None, shuffle=True)
    for window in ((batch for batch in batches), iter(batches), tuple(batches), loader):
        assert accumulate(model, window, loss_sum, count).micro_batches == 3
        assert relative_error(gradient(model), expected) < EXACT


def test_a_loader_can_be_cut_again_for_the_next_epoch() -> None:
    loader = DataLoader(TensorDataset(torch.arange(3)), batch_size=1)
    assert [len(w) for _ in range(2) for w in windows(loader, 2)] == [2, 1, 2, 1]


def test_k_may_change_from_update_to_update() -> None:
    assert list(windows(range(8), lambda update: update + 1)) == [[0], [1, 2], [3, 4, 5], [6, 7]]


def test_k_may_be_a_numpy_integer() -> None:
    assert list(windows(range(3), np.int64(2))) == [[0, 1], [2]]


def test_batches_are_drawn_only_as_they_are_needed() -> None:
    drawn = []
    stream = windows((drawn.append(i) for i in range(9)), 4)
    assert drawn == []
    next(stream)
    assert len(drawn) == 4


def test_a_window_is_not_kept_while_the_next_is_drawn() -> None:
    class Batch: ...

    alive, alive_at_draw = weakref.WeakSet(), []

    def draw() -> Batch:
        alive_at_draw.append(len(alive))
        batch = Batch()
        alive.add(batch)
        return batch

    stream = windows((draw() for _ in range(6)), 2)
    while next(stream, None):
        pass
    assert alive_at_draw == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("steps", [0, -1])
def test_k_below_one_is_refused_at_once(steps) -> None:
    with pytest.raises(ValueError, match=r"1 .* or more"):
        windows([1], steps)


@pytest.mark.parametrize("steps", [2.5, True, "4", None])
def test_k_that_is_no_whole_number_is_refused_at_once(steps) -> None:
    with pytest.raises(TypeError, match="whole number"):
        windows([1], steps)


def test_a_function_that_gives_a_bad_k_is_refused_when_it_does() -> None:
    stream = windows(range(4), lambda update: 1 - update)
    assert next(stream) == [0]
    with pytest.raises(ValueError, match="got 0"):
        next(stream)


def test_empty_data_are_an_error_and_not_an_epoch_without_updates() -> None:
    with pytest.raises(ValueError, match="empty"):
        list(windows([], 2))


def test_a_used_up_generator_is_an_error() -> None:
    batches = iter([1, 2, 3])
    assert list(windows(batches, 2)) == [[1, 2], [3]]
    with pytest.raises(ValueError, match="consumed"):
        list(windows(batches, 2))


# --- The gradient and the loss of a window


@pytest.mark.parametrize(
    "counts", [(4, 4), (4,), (1, 7, 3), (5, 5, 1), (0, 3, 2), (2, 0), (1, 1, 1, 1, 1, 1, 1, 1)]
)
def test_gradient_and_loss_are_those_of_one_big_batch(counts) -> None:
    model, window = make_model(), make_window(*counts)
    result = accumulate(model, window, loss_sum, count)
    assert relative_error(gradient(model), flatten(big_batch_gradients(model, window))) < EXACT
    assert result.loss == pytest.approx(big_batch_loss(model, window).item(), rel=EXACT)
    assert (result.count, result.micro_batches) == (sum(counts), len(counts))


def test_a_loss_over_samples_from_a_loader() -> None:
    inputs, labels = make_batch(7)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=3)  # 3, 3, 1
    model = make_model()
    (window,) = windows(loader, 3)
    result = accumulate(model, window, classification_loss_sum, count_samples)
    assert relative_error(gradient(model), flatten(big_batch_gradients(model, [(inputs, labels)]))) < EXACT
    assert result.count == 7


def as_mapping(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """As a Transformers collator gives it."""
    return {"inputs": batch[0], "labels": batch[1]}


def mean_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """As a Transformers model gives it: NaN if no label counts."""
    return F.cross_entropy(model(batch["inputs"]), batch["labels"])


@pytest.mark.parametrize("counts", [(3, 1), (2, 0, 4)])
def test_a_mean_loss_over_mapping_batches(counts) -> None:
    model, window = make_model(), make_window(*counts)
    mappings = [as_mapping(batch) for batch in window]
    result = accumulate(model, mappings, sum_of_mean(mean_loss, count_tokens), count_tokens)
    assert relative_error(gradient(model), flatten(big_batch_gradients(model, window))) < EXACT
    assert result.loss == pytest.approx(big_batch_loss(model, window).item(), rel=EXACT)


def test_a_micro_batch_that_counts_nothing_is_not_run() -> None:
    model, window, run = make_model(), make_window(2, 0), []
    assert mean_loss(model, as_mapping(window[1])).isnan()
    accumulate(model, window, lambda m, batch: run.append(batch) or loss_sum(m, batch), count)
    assert run == [window[0]]


def test_counts_need_not_be_whole_and_may_be_tensors() -> None:
    """Only their ratio matters: halved counts double the mean loss and its gradient."""
    model, window = make_model(), make_window(1, 3)
    result = accumulate(model, window, loss_sum, lambda batch: torch.tensor(count(batch) / 2))
    assert relative_error(gradient(model), 2 * flatten(big_batch_gradients(model, window))) < EXACT
    assert result.count == 2.0


def test_old_gradients_are_replaced_and_not_added_to() -> None:
    model, window = make_model(), make_window(2, 3)
    for p in model.parameters():
        p.grad = torch.full_like(p, 100.0)
    accumulate(model, window, loss_sum, count)
    assert relative_error(gradient(model), flatten(big_batch_gradients(model, window))) < EXACT


def test_a_gradient_that_is_what_backward_starts_from_is_its_own() -> None:
    """Its memory may be shared with a learned offset's ``.grad``: one for all passes would be added to."""
    model, window, offset = make_model(), make_window(2, 3, 4), nn.Parameter(torch.zeros(1).double())
    accumulate(model, window, lambda model, batch: loss_sum(model, batch) + offset.squeeze(), count)
    assert offset.grad.item() == pytest.approx(3 / 9)  # once in each of three micro-batches
    assert relative_error(gradient(model), flatten(big_batch_gradients(model, window))) < EXACT
    offset.grad, share = None, torch.full((), 1 / 9).double()  # the deliberately wrong one
    for batch in window:
        (loss_sum(model, batch) + offset.squeeze()).backward(share)
    assert offset.grad.item() != pytest.approx(3 / 9)


def test_frozen_parameters_get_no_gradient() -> None:
    model = make_model()
    model[0].requires_grad_(False)
    accumulate(model, make_window(2, 3), loss_sum, count)
    assert [p.grad is None for p in model.parameters()] == [True, True, False, False]


def test_the_graph_of_a_micro_batch_is_freed_before_the_next_runs() -> None:
    nodes, alive = weakref.WeakSet(), []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss: Tensor) -> Tensor:
            alive.append(len(nodes))
            nodes.add(ctx)  # it lives as long as the graph does
            return loss.clone()

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:
            return grad

    accumulate(make_model(), make_window(2, 2, 2), lambda m, b: Watched.apply(loss_sum(m, b)), count)
    assert alive == [0, 0, 0]


def test_token_counts_by_hand() -> None:
    labels = torch.tensor([[5, 6, -100], [-100, 7, 8]])
    assert count_tokens({"labels": labels}) == count_tokens((None, labels)) == 4
    assert count_next_tokens({"labels": labels}) == 3  # the first label of a row predicts nothing
    assert count_tokens({"labels": labels}, ignore_index=5) == 5
    assert count_samples({"labels": labels}) == 2


def test_a_batch_without_labels_is_named() -> None:
    with pytest.raises(KeyError, match=r"no 'labels'.*ids"):
        count_samples({"ids": 1})


# --- Mixed precision


def test_bfloat16_autocast_as_a_decorator() -> None:
    """Eight bits of mantissa round by at most 2^-9 each time; a few such roundings follow each other."""
    model, window = make_model(torch.float32), make_window(3, 1, 4, dtype=torch.float32)
    kinds, hook = [], model[0].register_forward_hook(lambda *args: kinds.append(args[2].dtype))
    accumulate(model, window, torch.autocast("cpu", torch.bfloat16)(loss_sum), count)
    hook.remove()
    expected = flatten(big_batch_gradients(make_model(), make_window(3, 1, 4)))
    assert set(kinds) == {torch.bfloat16}
    assert 1e-6 < relative_error(gradient(model), expected) < 10 * 2**-9
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


SCALE = 2.0**10  # a power of two, so that scaling rounds nothing


def make_scaler(scale: float = SCALE) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=scale)


def test_gradients_stay_scaled_and_the_reported_loss_does_not() -> None:
    model, window = make_model(), make_window(3, 1)
    result = accumulate(model, window, loss_sum, count, scaler=make_scaler())
    assert relative_error(gradient(model), SCALE * flatten(big_batch_gradients(model, window))) < EXACT
    assert result.loss == pytest.approx(big_batch_loss(model, window).item(), rel=EXACT)


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
def test_a_scaled_update_is_the_unscaled_one(max_grad_norm) -> None:
    """Unscaled before it is clipped: else the scale, and not the gradient, decides how much is cut."""
    plain, scaled, scaler = make_model(), make_model(), make_scaler()
    for model, tool in ((plain, None), (scaled, scaler)):
        accumulate(model, make_window(3, 1), loss_sum, count, scaler=tool)
        result = apply_update(model, SGD(model.parameters(), 1.0), max_grad_norm=max_grad_norm, scaler=tool)
        assert not result.skipped
    assert relative_error(weights(scaled), weights(plain)) < EXACT


@pytest.mark.parametrize("tool", [None, torch.amp.GradScaler("cpu", enabled=False)])
def test_scaled_gradients_are_not_applied_without_the_scaler(tool) -> None:
    model, scaler = make_model(), make_scaler()
    optimizer, before = SGD(model.parameters(), 1.0), weights(model)
    accumulate(model, make_window(3, 1), loss_sum, count, scaler=scaler)
    with pytest.raises(ValueError, match="the gradients are scaled: give apply_update the GradScaler"):
        apply_update(model, optimizer, scaler=tool)
    assert torch.equal(weights(model), before)
    assert not apply_update(model, optimizer, scaler=scaler).skipped  # they are still there
    accumulate(model, make_window(3, 1), loss_sum, count)  # the next ones are not scaled
    apply_update(model, optimizer)
    assert relative_error(weights(model), weights(two_updates())) < EXACT


def two_updates() -> nn.Module:
    model = make_model()
    for _ in range(2):
        accumulate(model, make_window(3, 1), loss_sum, count)
        apply_update(model, SGD(model.parameters(), 1.0))
    return model


@pytest.mark.parametrize("make_optimizer", [SGD, partial(AdamW, fused=True)])  # fused, it skips by itself
def test_an_infinite_gradient_skips_the_update_and_does_not_tick_the_scheduler(make_optimizer) -> None:
    model, scaler = make_model(torch.float32), make_scaler(2.0**127)
    optimizer = make_optimizer(model.parameters(), lr=1.0)
    scheduler, before = StepLR(optimizer, step_size=1, gamma=0.5), weights(model)
    window = make_window(3, 1, dtype=torch.float32)
    accumulate(model, window, lambda m, batch: 100 * loss_sum(m, batch), count, scaler=scaler)
    result = apply_update(model, optimizer, scheduler=scheduler, scaler=scaler)
    assert result.skipped
    assert torch.equal(weights(model), before)
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert all(p.grad is None for p in model.parameters())
    assert scaler.get_scale() == 2.0**126


def test_after_a_skipped_update_the_next_one_counts() -> None:
    model, scaler = make_model(torch.float32), make_scaler(2.0**127)
    optimizer = SGD(model.parameters(), lr=1.0)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    skipped = []
    for factor in (100, 1e-3):
        window = make_window(3, 1, dtype=torch.float32)
        accumulate(model, window, lambda m, b, f=factor: f * loss_sum(m, b), count, scaler=scaler)
        skipped.append(apply_update(model, optimizer, scheduler=scheduler, scaler=scaler).skipped)
    assert skipped == [True, False]
    assert optimizer.param_groups[0]["lr"] == 0.5


# --- The update


def updated_by(max_grad_norm: float | None) -> tuple[Tensor, Tensor, float | None]:
    """The step that SGD with lr = 1 took, the window's gradient, and the norm that was reported."""
    model, window = make_model(), make_window(3, 1, 2)
    before, expected = weights(model), flatten(big_batch_gradients(model, window))
    accumulate(model, window, loss_sum, count)
    result = apply_update(model, SGD(model.parameters(), lr=1.0), max_grad_norm=max_grad_norm)
    return before - weights(model), expected, result.grad_norm


def test_without_clipping_the_step_is_the_gradient() -> None:
    step, expected, norm = updated_by(max_grad_norm=None)
    assert relative_error(step, expected) < EXACT
    assert norm is None


def test_clipping_sees_the_whole_window_once() -> None:
    """Cut to 0.1 as a whole; the published mistake cuts each micro-batch's share before adding them."""
    step, expected, norm = updated_by(max_grad_norm=0.1)
    assert norm == pytest.approx(float(expected.norm()), rel=EXACT)
    assert norm > 0.1
    assert relative_error(step, expected * 0.1 / expected.norm()) < 1e-5  # torch adds 1e-6 to the norm


def test_a_short_gradient_is_measured_and_not_clipped() -> None:
    step, expected, norm = updated_by(max_grad_norm=100.0)
    assert relative_error(step, expected) < EXACT
    assert norm == pytest.approx(float(expected.norm()), rel=EXACT)


@pytest.mark.parametrize("max_grad_norm", [0, 0.0, -1.0, NAN])
def test_a_bad_clipping_norm_is_refused_before_anything_moves(max_grad_norm) -> None:
    model = make_model()
    accumulate(model, make_window(2), loss_sum, count)
    weights_before, gradient_before = weights(model), gradient(model)
    with pytest.raises(ValueError, match="max_grad_norm must be above 0"):
        apply_update(model, SGD(model.parameters(), lr=1.0), max_grad_norm=max_grad_norm)
    assert torch.equal(weights(model), weights_before)
    assert torch.equal(gradient(model), gradient_before)


def with_a_bad_gradient(value: float) -> nn.Module:
    """A finite loss whose gradient is not: the root's derivative at zero, say, does that in practice."""
    model = make_model()
    accumulate(model, make_window(2), loss_sum, count)
    next(model.parameters()).grad[0, 0] = value
    return model


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_that_is_not_finite_moves_nothing_if_asked(value, max_grad_norm, fused) -> None:
    model = with_a_bad_gradient(value)
    optimizer = Adam(model.parameters(), lr=1.0, fused=fused)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    weights_before, gradient_before = weights(model), gradient(model)
    with pytest.raises(NonFiniteGradientError, match=r"norm of the window's gradient is (nan|inf)"):
        apply_update(
            model, optimizer, max_grad_norm=max_grad_norm, scheduler=scheduler, error_if_nonfinite=True
        )
    assert torch.equal(weights(model), weights_before)
    assert torch.equal(gradient(model).nan_to_num(), gradient_before.nan_to_num())
    assert optimizer.param_groups[0]["lr"] == 1.0
    moved = [tensor for state in optimizer.state.values() for tensor in state.values() if tensor.any()]
    assert not moved, "an optimizer that skips by itself has made its state, of zeros"
    assert not hasattr(optimizer, "found_inf")


def test_an_optimizer_that_skips_by_itself_goes_on_as_if_the_window_had_not_been() -> None:
    """The moments and the number of updates, too, are those of the good windows alone."""
    disturbed, left_alone = make_model(), make_model()
    for model, bad in ((disturbed, True), (left_alone, False)):
        optimizer = AdamW(model.parameters(), lr=0.1, fused=True)
        for number in range(3):
            accumulate(model, make_window(3, 1), loss_sum, count)
            if bad and number == 1:
                next(model.parameters()).grad[0, 0] = NAN
                with pytest.raises(NonFiniteGradientError):
                    apply_update(model, optimizer, error_if_nonfinite=True)
                accumulate(model, make_window(3, 1), loss_sum, count)
            apply_update(model, optimizer, max_grad_norm=0.5, error_if_nonfinite=True)
    assert torch.equal(weights(disturbed), weights(left_alone))


def test_an_optimizer_in_part_fused_is_not_told_to_skip_by_itself() -> None:
    model = with_a_bad_gradient(NAN)
    first, *others = model.parameters()
    optimizer = Adam([{"params": [first], "fused": True}, {"params": others}], lr=1.0)
    before = weights(model)
    with pytest.raises(NonFiniteGradientError):
        apply_update(model, optimizer, error_if_nonfinite=True)
    assert torch.equal(weights(model), before)


def test_without_that_look_a_nan_is_in_every_parameter() -> None:
    """The deliberately wrong one: clipping spreads a single NaN over all of them."""
    model = with_a_bad_gradient(NAN)
    apply_update(model, SGD(model.parameters(), lr=1.0), max_grad_norm=0.1)
    assert bool(weights(model).isnan().all())


@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_that_look_changes_no_update_and_gives_the_norm(max_grad_norm) -> None:
    plain, looked, norms = make_model(), make_model(), []
    for model, look in ((plain, False), (looked, True)):
        accumulate(model, make_window(3, 1), loss_sum, count)
        norms.append(float(gradient(model).norm()))
        result = apply_update(
            model, SGD(model.parameters(), lr=1.0), max_grad_norm=max_grad_norm, error_if_nonfinite=look
        )
    assert torch.equal(weights(looked), weights(plain))
    assert result.grad_norm == pytest.approx(norms[0], rel=EXACT)


def test_a_scaler_looks_for_itself() -> None:
    model, scaler = make_model(torch.float32), make_scaler(2.0**127)
    before = weights(model)
    window = make_window(3, 1, dtype=torch.float32)
    accumulate(model, window, lambda m, batch: 100 * loss_sum(m, batch), count, scaler=scaler)
    optimizer = SGD(model.parameters(), lr=1.0)
    assert apply_update(model, optimizer, scaler=scaler, error_if_nonfinite=True).skipped
    assert torch.equal(weights(model), before)


# --- Waiting: a number that the CPU reads of a tensor is one that a GPU must have finished first


class Reads(TorchFunctionMode):
    """How often a number is read of a tensor: ``x.item()``, ``float(x)``, ``if x``, a list, and so on."""

    names = frozenset({"item", "tolist", "__float__", "__int__", "__bool__", "cpu", "numpy"})

    def __init__(self, on_read: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.count, self.on_read = 0, on_read

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in self.names:
            self.count += 1
            self.on_read()
        return function(*args, **(kwargs or {}))


def len_of_labels(batch: tuple[Tensor, Tensor]) -> int:
    """Nothing is ignored here; where a count is read of the labels, those are on the CPU still."""
    return len(batch[1])


def reads_of(loop: Callable[[nn.Module, list], Any], micro_batches: int) -> int:
    model = make_model()
    with Reads() as reads:
        loop(model, make_window(*[2] * micro_batches))
    return reads.count


def plain_loop(model: nn.Module, window: list) -> None:
    accumulate(model, window, loss_sum, len_of_labels)
    apply_update(model, SGD(model.parameters(), lr=1.0), max_grad_norm=1.0, error_if_nonfinite=True)


@pytest.mark.parametrize("micro_batches", [1, 4, 32])
def test_a_gpu_is_waited_for_twice_in_each_update_however_large_k_is(micro_batches) -> None:
    """Once for the losses, once for the norm."""
    assert reads_of(plain_loop, micro_batches) == 2


@pytest.mark.parametrize(
    ("fused", "order"),
    [(False, ["read", "backward", "read", "step"]), (True, ["read", "backward", "step", "read"])],
)
def test_a_fused_optimizer_is_launched_before_anybody_waits_for_the_norm(fused, order) -> None:
    """And the losses are asked for before the last backward pass begins, so a GPU never runs dry."""
    model, events = make_model(), []
    optimizer = AdamW(model.parameters(), lr=0.1, fused=fused)
    optimizer.register_step_pre_hook(lambda *_: events.append("step"))
    next(model.parameters()).register_post_accumulate_grad_hook(lambda _: events.append("backward"))
    with Reads(lambda: events.append("read")):
        accumulate(model, make_window(2, 2), loss_sum, len_of_labels)
        apply_update(model, optimizer, max_grad_norm=1.0, error_if_nonfinite=True)
    assert events[: len(order) + 1] == ["backward", *order], (
        "what follows is Adam reading its own step counts"
    )


def test_that_count_notices_a_loop_that_reads_every_loss() -> None:
    def chatty(model: nn.Module, window: list) -> None:
        total = 0.0
        for batch in window:
            loss = loss_sum(model, batch) / len(window)
            loss.backward()
            total += loss.item()

    assert reads_of(chatty, 32) == 32


def test_the_scheduler_ticks_once_per_update() -> None:
    """Seven micro-batches, K = 3: three updates, so the rate is halved three times."""
    model = make_model()
    optimizer = SGD(model.parameters(), lr=8.0)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    for window in windows(make_window(*[1] * 7), 3):
        accumulate(model, window, loss_sum, count)
        apply_update(model, optimizer, scheduler=scheduler)
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_an_update_clears_the_gradients() -> None:
    model = make_model()
    accumulate(model, make_window(2), loss_sum, count)
    apply_update(model, SGD(model.parameters(), lr=1.0))
    assert all(p.grad is None for p in model.parameters())


# --- What goes wrong leaves no trace

Broken = Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor]


@pytest.fixture
def untouched() -> Iterator[nn.Module]:
    """A model with old gradients, one of them None; whatever the test does, all must be as before."""
    model = make_model()
    accumulate(model, make_window(2), loss_sum, count)
    next(model.parameters()).grad = None
    values, gradients = weights(model), [p.grad for p in model.parameters()]
    copies = [None if g is None else g.clone() for g in gradients]
    yield model
    assert torch.equal(weights(model), values)
    for p, old, copy in zip(model.parameters(), gradients, copies, strict=True):
        assert p.grad is old, "the very tensor is put back, not a copy"
        assert old is None or torch.equal(old, copy)


def broken_at(index: int, fault: Callable[[Tensor], object]) -> Broken:
    """A loss sum that is right but for the micro-batch with this index."""
    calls = iter(range(100))
    return lambda model, batch: (lambda x: fault(x) if next(calls) == index else x)(loss_sum(model, batch))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_loss_that_is_not_finite_names_its_micro_batch(untouched, value) -> None:
    with pytest.raises(ValueError, match="loss of micro-batch 1 is"):
        accumulate(untouched, make_window(2, 3, 1), broken_at(1, lambda loss: loss * value), count)


def test_the_index_counts_the_micro_batches_that_were_not_run_too(untouched) -> None:
    with pytest.raises(ValueError, match="loss of micro-batch 2 is nan"):
        accumulate(untouched, make_window(2, 0, 1), broken_at(1, lambda loss: loss * NAN), count)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (lambda loss: loss.expand(2), ValueError, r"scalar; micro-batch 1 gave shape \(2,\)"),
        (lambda loss: loss.reshape(1), ValueError, "reduction='sum'"),
        (lambda loss: loss.detach(), ValueError, "micro-batch 1 carries no gradient"),
        (lambda loss: loss.item(), TypeError, "micro-batch 1 gave float"),
        (lambda loss: None, TypeError, "must return a tensor"),
    ],
)
def test_a_loss_that_is_no_loss_is_explained(untouched, fault, error, message) -> None:
    with pytest.raises(error, match=message):
        accumulate(untouched, make_window(2, 3), broken_at(1, fault), count)


def test_a_loss_under_no_grad_is_explained(untouched) -> None:
    with pytest.raises(ValueError, match="micro-batch 0 carries no gradient"):
        accumulate(untouched, make_window(2, 3), torch.no_grad()(loss_sum), count)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("index", [0, 1])
def test_an_exception_or_an_interrupt_mid_window(untouched, error, index) -> None:
    def stop(loss: Tensor) -> None:
        raise error("stop")

    with pytest.raises(error, match="stop"):
        accumulate(untouched, make_window(2, 3), broken_at(index, stop), count)


def test_an_exception_in_a_backward_pass(untouched) -> None:
    def stop(_: Tensor) -> None:
        raise RuntimeError("in backward")

    def fault(loss: Tensor) -> Tensor:
        loss.register_hook(stop)
        return loss

    with pytest.raises(RuntimeError, match="in backward"):
        accumulate(untouched, make_window(2, 3), broken_at(1, fault), count)


@pytest.mark.parametrize(("value", "shown"), [(-1, "-1"), (NAN, "nan"), (INF, "inf")])
def test_a_count_that_is_no_count_names_its_micro_batch(untouched, value, shown) -> None:
    window = make_window(2, 3)
    with pytest.raises(ValueError, match=f"count of micro-batch 1 .* got {shown}"):
        accumulate(untouched, window, loss_sum, lambda batch: value if batch is window[1] else 2)


@pytest.mark.parametrize("counts", [(0,), (0, 0), ()])
def test_a_window_that_counts_nothing_has_no_mean(untouched, counts) -> None:
    with pytest.raises(ValueError, match=f"{len(counts)} micro-batches count 0 in total"):
        accumulate(untouched, make_window(*counts), loss_sum, count)


def test_training_goes_on_after_a_window_that_failed() -> None:
    model, window = make_model(), make_window(2, 3)
    with pytest.raises(ValueError, match="is nan"):
        accumulate(model, window, broken_at(1, lambda loss: loss * NAN), count)
    accumulate(model, window, loss_sum, count)
    assert relative_error(gradient(model), flatten(big_batch_gradients(model, window))) < EXACT
