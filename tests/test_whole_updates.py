"""What an update owns, and that it is whole or has not begun: parts of models, optimizers, schedulers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import big_batch_loss, count, loss_sum, make_model, make_window, weights
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import LBFGS, SGD, Adam, Optimizer, SparseAdam
from torch.optim import lr_scheduler as schedules

from accum_lib import _guards
from accum_lib.accumulate import accumulate, apply_update

WINDOW = (3, 1, 4)


def scaler(scale: float = 2.0**10) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=scale)


def grads(*modules: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for m in modules for p in m.parameters()]


def same(some: list[Tensor | None], others: list[Tensor | None]) -> bool:
    return all(a is b or torch.allclose(a, b, rtol=1e-12) for a, b in zip(some, others, strict=True))


# --- A part of the model is trained


@pytest.mark.parametrize("max_grad_norm", [None, 0.05, 100.0])
def test_a_scaler_changes_nothing_where_the_head_alone_is_trained(max_grad_norm) -> None:
    plain, scaled = make_model(), make_model()
    norms = []
    for model, tool in ((plain, None), (scaled, scaler())):
        accumulate(model, make_window(*WINDOW), loss_sum, count, scaler=tool)
        result = apply_update(
            model, SGD(model[2].parameters(), lr=1.0), max_grad_norm=max_grad_norm, scaler=tool
        )
        norms.append(result.grad_norm)
        assert grads(model) == [None] * 4
        assert torch.equal(model[0].weight, make_model()[0].weight)
    assert torch.allclose(weights(plain), weights(scaled), rtol=1e-12)
    assert norms[0] == norms[1] or norms[0] == pytest.approx(norms[1], rel=1e-12)


def test_the_norm_is_that_of_the_whole_model() -> None:
    model, reference = make_model(), make_model()
    big_batch_loss(reference, make_window(*WINDOW)).backward()
    expected = torch.cat([p.grad.flatten() for p in reference.parameters()]).norm()
    accumulate(model, make_window(*WINDOW), loss_sum, count)
    result = apply_update(model, SGD(model[2].parameters(), lr=1.0), max_grad_norm=1.0)
    assert result.grad_norm == pytest.approx(float(expected), rel=1e-12)


def test_a_shared_layer_that_nothing_moves_counts_once() -> None:
    layer, head = nn.Linear(3, 3, dtype=torch.float64), nn.Linear(3, 2, dtype=torch.float64)
    model = nn.Sequential(layer, nn.Tanh(), layer, head)
    inputs, labels = torch.randn(4, 3).double(), torch.tensor([0, 1, 1, 0])
    gradients = torch.autograd.grad(F.cross_entropy(model(inputs), labels), list(model.parameters()))
    expected = torch.cat([g.flatten() for g in gradients]).norm()
    accumulate(model, [(inputs, labels)], bag_loss, rows)
    result = apply_update(model, SGD(head.parameters(), lr=1.0), max_grad_norm=1.0)
    assert result.grad_norm == pytest.approx(float(expected), rel=1e-12)


def test_an_infinity_that_no_optimizer_moves_skips_a_scaled_update() -> None:
    model, tool = make_model(torch.float32), scaler()
    before = weights(model)
    accumulate(model, make_window(*WINDOW, dtype=torch.float32), loss_sum, count, scaler=tool)
    model[0].weight.grad[0, 0] = math.inf
    assert apply_update(model, SGD(model[2].parameters(), 1.0), max_grad_norm=1.0, scaler=tool).skipped
    assert torch.equal(weights(model), before)


def test_an_optimizer_without_any_gradient_is_an_error_and_not_a_step_of_nothing() -> None:
    model, another = make_model(), make_model()
    accumulate(model, make_window(2), loss_sum, count)
    with pytest.raises(ValueError, match="no parameter of the optimizer has a gradient"):
        apply_update(model, SGD(another.parameters(), lr=1.0))
    apply_update(model, SGD(model[0].parameters(), lr=1.0))
    with pytest.raises(ValueError, match="given together, as a list"):  # what the first call has cleared
        apply_update(model, SGD(model[2].parameters(), lr=1.0))


def test_a_parameter_in_two_places_is_refused_before_anything_moves() -> None:
    """A scaler would divide its gradient twice, and a norm would count it twice."""
    model = make_model()
    parameters = list(model.parameters())
    twice = [
        [SGD(parameters, lr=1.0), SGD(model[2].parameters(), lr=1.0)],
        twice_in_one_group(parameters),
    ]
    for optimizer in twice:
        accumulate(model, make_window(*WINDOW), loss_sum, count)
        with pytest.raises(ValueError, match="in two of the optimizers, or twice in one"):
            apply_update(model, optimizer, max_grad_norm=1.0)
        assert torch.equal(weights(model), weights(make_model()))
    sgd = SGD(parameters, lr=1.0)
    apply_update(model, [sgd, sgd])  # one optimizer, though it is named twice
    assert grads(model) == [None] * 4


def twice_in_one_group(parameters: list[Tensor]) -> Optimizer:
    with pytest.warns(UserWarning, match="duplicate parameters"):
        return SGD([*parameters, parameters[0]], lr=1.0)


class Forgetful(set):
    def __contains__(self, item: object) -> bool:
        return False


def test_the_norm_of_a_parameter_in_two_places_would_be_another(monkeypatch) -> None:
    """The deliberately wrong one: without the refusal."""
    model = make_model()
    accumulate(model, make_window(*WINDOW), loss_sum, count)
    once = float(nn.utils.get_total_norm([p.grad for p in model.parameters()]))
    monkeypatch.setattr(_guards, "set", Forgetful, raising=False)
    parameters = list(model.parameters())
    result = apply_update(nn.Identity(), [SGD(parameters), SGD(parameters[:1])], max_grad_norm=1e9)
    assert result.grad_norm > 1.05 * once


@pytest.mark.parametrize(
    ("model", "optimizer", "message"),
    [
        ({"encoder": make_model()}, None, "model: a module, or several as a list; got dict"),
        (list(make_model().parameters()), None, "model: a module, .*got Parameter"),
        (make_model().forward, None, "model: a module, .*got method"),
        (None, {"sgd": SGD(make_model().parameters())}, "optimizer: one of torch.optim, .*got dict"),
        (None, make_model(), "optimizer: one of torch.optim, .*got Sequential"),
    ],
)
def test_what_is_no_model_and_no_optimizer_is_said_in_a_sentence(model, optimizer, message) -> None:
    def both() -> None:
        accumulate(model or make_model(), make_window(2), loss_sum, count)
        apply_update(make_model(), optimizer)

    with pytest.raises(TypeError, match=message):
        both()


# --- Several optimizers, several modules, a loss with parameters of its own


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
@pytest.mark.parametrize("scaled", [False, True])
def test_two_optimizers_move_what_one_with_two_groups_moves(max_grad_norm, scaled) -> None:
    one, two = make_model(), make_model()
    groups = [{"params": one[0].parameters(), "lr": 0.1}, {"params": one[2].parameters(), "lr": 1.0}]
    pairs = (
        (one, SGD(groups)),
        (two, [SGD(two[0].parameters(), lr=0.1), SGD(two[2].parameters(), lr=1.0)]),
    )
    for model, optimizer in pairs:
        tool = scaler() if scaled else None
        accumulate(model, make_window(*WINDOW), loss_sum, count, scaler=tool)
        apply_update(model, optimizer, max_grad_norm=max_grad_norm, scaler=tool)
    assert torch.allclose(weights(one), weights(two), rtol=1e-12)
    assert not torch.equal(weights(one), weights(make_model()))


@pytest.mark.parametrize("part", [0, 2])
def test_two_optimizers_skip_together(part) -> None:
    """GradScaler looks at each optimizer's gradients alone: one would move and the other not."""
    model, tool = make_model(torch.float32), scaler()
    before = weights(model)
    optimizers = [SGD(model[0].parameters(), lr=1.0), SGD(model[2].parameters(), lr=1.0)]
    accumulate(model, make_window(*WINDOW, dtype=torch.float32), loss_sum, count, scaler=tool)
    model[part].bias.grad[0] = math.inf
    assert apply_update(model, optimizers, scaler=tool).skipped
    assert torch.equal(weights(model), before)


def test_a_scaler_by_itself_would_move_one_of_them() -> None:
    """The deliberately wrong update, which the test above would notice."""
    model, tool = make_model(torch.float32), scaler()
    before = model[2].weight.detach().clone()
    accumulate(model, make_window(*WINDOW, dtype=torch.float32), loss_sum, count, scaler=tool)
    model[0].bias.grad[0] = math.inf
    for optimizer in (SGD(model[0].parameters(), lr=1.0), SGD(model[2].parameters(), lr=1.0)):
        tool.step(optimizer)
    assert not torch.equal(model[2].weight, before)


def test_several_modules_are_one_model() -> None:
    whole, parts = make_model(), list(make_model())
    trained = [parts[0], parts[2]]
    accumulate(whole, make_window(*WINDOW), loss_sum, count)

    def in_parts(modules: list[nn.Module], batch: Any) -> Tensor:
        first, last = modules
        return loss_sum(nn.Sequential(first, parts[1], last), batch)

    accumulate(trained, make_window(*WINDOW), in_parts, count)
    assert same(grads(whole), grads(*trained))
    apply_update(trained, [SGD(p.parameters(), lr=1.0) for p in trained], max_grad_norm=0.1)
    apply_update(whole, SGD(whole.parameters(), lr=1.0), max_grad_norm=0.1)
    assert torch.allclose(weights(nn.Sequential(*trained)), weights(whole), rtol=1e-12)


class Weighted(nn.Module):
    """Homoscedastic uncertainty (Kendall et al. 2018, equation 10): a loss with a weight that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.fails_at: int | None = None
        self.calls = 0

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("stop")
        s = self.log_variance
        return torch.exp(-s) * loss_sum(model, batch) + s * count(batch)


def test_parameters_of_the_loss_are_trained_as_the_model_s_are() -> None:
    model, loss, reference, expected = make_model(), Weighted(), make_model(), Weighted()
    mean = torch.exp(-expected.log_variance) * big_batch_loss(reference, make_window(*WINDOW))
    (mean + expected.log_variance).backward()
    loss.log_variance.grad = torch.tensor(100.0, dtype=torch.float64)  # replaced, and not added to
    accumulate(model, make_window(*WINDOW), loss, count)
    assert same(grads(model, loss), grads(reference, expected))
    both = [*model.parameters(), *loss.parameters()]
    norm = apply_update(model, SGD(both, lr=1.0), max_grad_norm=100.0).grad_norm
    assert norm == pytest.approx(
        math.sqrt(sum(float((g**2).sum()) for g in grads(reference, expected))), rel=1e-12
    )
    assert grads(model, loss) == [None] * 5


def fails_half_way() -> Weighted:
    model, loss = make_model(), Weighted()
    loss.log_variance.grad, loss.fails_at = torch.tensor(7.0, dtype=torch.float64), 2
    with pytest.raises(RuntimeError, match="stop"):
        accumulate(model, make_window(*WINDOW), loss, count)
    return loss


def test_an_error_restores_the_gradient_of_the_loss_too() -> None:
    assert float(fails_half_way().log_variance.grad) == 7.0


def test_a_core_that_knows_the_model_alone_would_leave_half_a_gradient(monkeypatch) -> None:
    monkeypatch.setattr(_guards, "leaves", lambda loss: [])
    assert float(fails_half_way().log_variance.grad) != 7.0


class Tasks(nn.Module):
    """A weight for each task; a micro-batch belongs to one of them, so its loss reaches one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(2))
        self.calls = 0

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("stop")
        return self.weights[self.calls - 1] * loss_sum(model, batch)


def fails_after_both_tasks() -> list[float]:
    tasks = Tasks()
    for weight in tasks.weights:
        weight.grad = torch.tensor(7.0, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="stop"):
        accumulate(make_model(), make_window(*WINDOW), tasks, count)
    return [float(weight.grad) for weight in tasks.weights]


def test_a_weight_that_only_a_later_micro_batch_reaches_is_restored_too() -> None:
    assert fails_after_both_tasks() == [7.0, 7.0]


def test_a_core_that_searches_the_first_loss_alone_would_add_to_it(monkeypatch) -> None:
    search, losses = _guards.leaves, []
    first_alone = lambda loss: search(loss) if not losses and not losses.append(loss) else []  # noqa: E731
    monkeypatch.setattr(_guards, "leaves", first_alone)
    first, second = fails_after_both_tasks()
    assert first == 7.0 != second


# --- Schedulers


def updated(
    make: Callable[[Optimizer], Any], updates: int, by_hand: bool
) -> tuple[list[list[float]], Tensor]:
    """The rates and momenta after each update, and the parameters, by our update or by plain PyTorch."""
    model = make_model()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters()}]
    optimizer = SGD(groups, lr=0.1, momentum=0.9)
    scheduler, seen = make(optimizer), []
    for _ in range(updates):
        loss = accumulate(model, make_window(*WINDOW), loss_sum, count).loss
        if by_hand:
            optimizer.step()
            optimizer.zero_grad()
            plateau = isinstance(scheduler, schedules.ReduceLROnPlateau)
            scheduler.step(*[loss] if plateau else [])
        else:
            apply_update(model, optimizer, scheduler=scheduler, loss=loss)
        seen.append([group[name] for group in optimizer.param_groups for name in ("lr", "momentum")])
    return seen, weights(model)


SCHEDULES: dict[str, Callable[[Optimizer], Any]] = {
    "step": lambda o: schedules.StepLR(o, 2),
    "one cycle, with momentum": lambda o: schedules.OneCycleLR(o, 0.5, total_steps=6),
    "cyclic, with momentum": lambda o: schedules.CyclicLR(o, 0.1, 0.5, step_size_up=2),
    "cosine": lambda o: schedules.CosineAnnealingLR(o, 4),
    "warm restarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 2),
    "lambda": lambda o: schedules.LambdaLR(o, lambda step: 1 / (1 + step)),
    "multiplicative": lambda o: schedules.MultiplicativeLR(o, lambda step: 0.9),
    "polynomial": lambda o: schedules.PolynomialLR(o, 4),
    "plateau": lambda o: schedules.ReduceLROnPlateau(o, patience=0, threshold=0.5),
    "one after another": lambda o: schedules.SequentialLR(
        o, [schedules.ConstantLR(o, 0.5, 2), schedules.ExponentialLR(o, 0.9)], milestones=[3]
    ),
    "chained": lambda o: schedules.ChainedScheduler(
        [schedules.ConstantLR(o, 0.5, 2), schedules.ExponentialLR(o, 0.9)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_runs_as_it_does_by_hand(name) -> None:
    """To try the next rate must move neither the rate nor the momentum of the update that comes."""
    ours, theirs = (updated(SCHEDULES[name], 5, by_hand) for by_hand in (False, True))
    assert ours[0] == theirs[0]
    assert torch.equal(ours[1], theirs[1])


class Table(schedules.LRScheduler):
    """A scheduler as one writes it oneself."""

    def get_lr(self) -> list[float]:
        return [(0.1, 0.2)[self.last_epoch]] * len(self.optimizer.param_groups)


EXHAUSTED = {
    "one cycle": (lambda o: schedules.OneCycleLR(o, 0.5, total_steps=1), "Tried to step 2 times"),
    "a table": (lambda o: schedules.LambdaLR(o, [lambda step: (1.0, 0.5)[step]]), "out of range"),
    "one's own": (Table, "out of range"),
    "the second of a list": (
        lambda o: [schedules.StepLR(o, 1), schedules.OneCycleLR(o, 0.5, total_steps=1)],
        "to step 2 times",
    ),
    "chained": (
        lambda o: schedules.ChainedScheduler([schedules.StepLR(o, 1), Table(o)], optimizer=o),
        "out of range",
    ),
    "nested": (
        lambda o: schedules.SequentialLR(
            o,
            [schedules.ConstantLR(o), schedules.LambdaLR(o, lambda step: (1.0, 0.5)[step])],
            milestones=[0],
        ),
        "out of range",
    ),
}


@pytest.mark.parametrize("name", EXHAUSTED)
def test_a_schedule_that_has_run_out_is_refused_before_anything_moves(name) -> None:
    make, message = EXHAUSTED[name]
    model = make_model()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    accumulate(model, make_window(*WINDOW), loss_sum, count)
    apply_update(model, optimizer, scheduler=scheduler)
    accumulate(model, make_window(*WINDOW), loss_sum, count)
    before, gradients = weights(model), grads(model)
    rate, momenta = (
        optimizer.param_groups[0]["lr"],
        [s["momentum_buffer"].clone() for s in optimizer.state.values()],
    )
    with pytest.raises(ValueError, match=message):
        apply_update(model, optimizer, scheduler=scheduler)
    assert torch.equal(weights(model), before)
    assert same(grads(model), gradients)
    assert optimizer.param_groups[0]["lr"] == rate
    assert same([s["momentum_buffer"] for s in optimizer.state.values()], momenta)


class ByEpoch:
    """Advanced with the number of an epoch, as timm's schedulers are."""

    def step(self, epoch: int) -> None:
        raise AssertionError("nobody knows the epoch here")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (schedules.ReduceLROnPlateau, "give apply_update the window's loss, loss=result.loss"),
        (lambda o: ByEpoch(), "needs its epoch: advance it yourself"),
    ],
)
def test_a_schedule_that_asks_for_something_is_refused_without_it(make, message) -> None:
    model = make_model()
    optimizer, before = SGD(model.parameters(), lr=0.1), weights(model)
    accumulate(model, make_window(*WINDOW), loss_sum, count)
    with pytest.raises(TypeError, match=message):
        apply_update(model, optimizer, scheduler=make(optimizer))
    assert torch.equal(weights(model), before)


def group_added_later(make: Callable[[Optimizer], Any]) -> Callable[[nn.Module], tuple[Optimizer, Any]]:
    def both(model: nn.Module) -> tuple[Optimizer, Any]:
        optimizer = SGD(model[0].parameters(), lr=0.1)
        scheduler = make(optimizer)
        optimizer.add_param_group({"params": model[2].parameters()})
        return optimizer, scheduler

    return both


def with_scheduler(make: Callable[[Optimizer], Any]) -> Callable[[nn.Module], tuple[Optimizer, Any]]:
    def both(model: nn.Module) -> tuple[Optimizer, Any]:
        optimizer = SGD(model.parameters(), lr=0.1)
        return optimizer, make(optimizer)

    return both


HALF_DONE = {
    "a group without a lambda": (
        group_added_later(lambda o: schedules.LambdaLR(o, lambda step: 1.0)),
        "LambdaLR has no learning rate .*1 for 2 groups of parameters; make it after add_param_group",
    ),
    "a group without a lowest rate": (
        group_added_later(lambda o: schedules.ReduceLROnPlateau(o, patience=0, min_lr=[0.0])),
        "ReduceLROnPlateau has no learning rate .*1 for 2 groups",
    ),
    "a rate of NaN": (
        with_scheduler(lambda o: schedules.LambdaLR(o, lambda step: math.nan if step else 1.0)),
        r"it would be \[nan\]",
    ),
    "a scheduler of another optimizer": (
        with_scheduler(lambda o: schedules.StepLR(SGD(make_model().parameters(), lr=0.1), 1)),
        "StepLR belongs to an optimizer that this update does not move",
    ),
    "a class": (with_scheduler(lambda o: schedules.StepLR), "scheduler: one made for .*StepLR"),
    "a number": (with_scheduler(lambda o: 0.5), "scheduler: one made for .*got 0.5"),
    "a rate in words, as YAML reads 1e-3": (
        lambda model: (
            SGD([{"params": model[0].parameters()}, {"params": model[2].weight, "lr": "1e-3"}]),
            None,
        ),
        "SGD has a learning rate of '1e-3': give a finite number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HALF_DONE)
def test_what_would_fail_after_the_parameters_have_moved_is_refused_before(name) -> None:
    make, message = HALF_DONE[name]
    model = make_model()
    optimizer, scheduler = make(model)
    accumulate(model, make_window(*WINDOW), loss_sum, count)
    gradients = grads(model)
    with pytest.raises((ValueError, TypeError), match=message):
        apply_update(model, optimizer, scheduler=scheduler, loss=1.0)
    assert torch.equal(weights(model), weights(make_model()))
    assert same(grads(model), gradients)


def test_a_result_is_not_taken_for_its_loss() -> None:
    model = make_model()
    optimizer = SGD(model.parameters(), lr=0.1)
    result = accumulate(model, make_window(*WINDOW), loss_sum, count)
    with pytest.raises(TypeError, match=r"the window's loss, loss=result\.loss"):
        apply_update(model, optimizer, scheduler=schedules.ReduceLROnPlateau(optimizer), loss=result)
    assert torch.equal(weights(model), weights(make_model()))


class Wrapper:
    """As Accelerate's, which is no ``torch.optim.Optimizer``."""

    def __init__(self, inner: Optimizer) -> None:
        self.inner, self.param_groups = inner, inner.param_groups

    def step(self) -> None:
        self.inner.step()


def test_an_optimizer_that_wraps_another_takes_the_scheduler_of_what_it_wraps() -> None:
    model = make_model()
    inner = SGD(model.parameters(), lr=1.0)
    scheduler = schedules.ExponentialLR(inner, 0.5)
    accumulate(model, make_window(2), loss_sum, count)
    apply_update(model, Wrapper(inner), scheduler=scheduler)
    assert inner.param_groups[0]["lr"] == 0.5


def test_several_schedulers_tick_once_each() -> None:
    model = make_model()
    optimizers = [SGD(model[0].parameters(), lr=1.0), SGD(model[2].parameters(), lr=8.0)]
    accumulate(model, make_window(2), loss_sum, count)
    apply_update(model, optimizers, scheduler=[schedules.ExponentialLR(o, 0.5) for o in optimizers])
    assert [o.param_groups[0]["lr"] for o in optimizers] == [0.5, 4.0]


# --- A scaler that does not scale, and norms in 16 bits


@pytest.mark.parametrize("enabled", [True, False])
def test_a_scaler_that_is_switched_off_does_not_hide_a_gradient_that_is_not_finite(enabled) -> None:
    """As ``GradScaler(enabled=use_amp)`` is in float32: it skips nothing."""
    model, tool = make_model(torch.float32), torch.amp.GradScaler("cpu", enabled=enabled)
    before, optimizer = weights(model), SGD(model.parameters(), lr=1.0)
    accumulate(model, make_window(*WINDOW, dtype=torch.float32), loss_sum, count, scaler=tool)
    model[0].weight.grad[0, 0] = math.nan
    if enabled:
        assert apply_update(model, optimizer, scaler=tool, error_if_nonfinite=True).skipped
    else:
        with pytest.raises(_guards.NonFiniteGradientError):
            apply_update(model, optimizer, scaler=tool, error_if_nonfinite=True)
    assert torch.equal(weights(model), before)


def never_scaled(model: nn.Module, optimizer: Optimizer, tool: torch.amp.GradScaler) -> None:
    accumulate(model, make_window(*WINDOW, dtype=torch.float32), loss_sum, count)


def unscaled_before(model: nn.Module, optimizer: Optimizer, tool: torch.amp.GradScaler) -> None:
    accumulate(model, make_window(*WINDOW, dtype=torch.float32), loss_sum, count, scaler=tool)
    tool.unscale_(optimizer)


@pytest.mark.parametrize("prepare", [never_scaled, unscaled_before])
@pytest.mark.parametrize("part", [slice(None), slice(2, None)])
def test_what_a_scaler_cannot_unscale_is_said_before_anything_moves(prepare, part) -> None:
    """Where a part of the model is trained, gradients that were never scaled were divided all the same."""
    model, tool = make_model(torch.float32), scaler()
    before, optimizer = weights(model), SGD(model[part].parameters(), lr=1.0)
    prepare(model, optimizer, tool)
    with pytest.raises(ValueError, match=r"cannot unscale these gradients .*give it to accumulate as well"):
        apply_update(model, optimizer, scaler=tool)
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_norm_in_16_bits_neither_overflows_nor_loses_digits(dtype) -> None:
    """In float16 it would be infinite: clipped to it, the gradient would be 0, and nothing would move."""
    layer = nn.Linear(300, 300, bias=False, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    layer.weight.grad = (300 * torch.randn(300, 300, generator=generator)).to(dtype)
    expected = float(layer.weight.grad.double().norm())
    assert float(nn.utils.get_total_norm([layer.weight.grad])) != pytest.approx(expected, rel=1e-4)
    before = layer.weight.detach().clone()
    result = apply_update(layer, SGD(layer.parameters(), lr=100.0), max_grad_norm=1.0)
    assert result.grad_norm == pytest.approx(expected, rel=1e-4)
    assert float((layer.weight.detach() - before).norm()) == pytest.approx(100.0, rel=0.02)


# --- Optimizers that evaluate the loss themselves


def test_lbfgs_takes_the_window_as_one_big_batch() -> None:
    ours, reference = make_model(), make_model()
    window = make_window(*WINDOW)
    optimizer = LBFGS(ours.parameters(), max_iter=5, line_search_fn="strong_wolfe")
    for _ in range(2):
        optimizer.step(lambda: accumulate(ours, window, loss_sum, count).loss)
    by_hand = LBFGS(reference.parameters(), max_iter=5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        by_hand.zero_grad()
        loss = big_batch_loss(reference, window)
        loss.backward()
        return loss

    for _ in range(2):
        by_hand.step(closure)
    assert torch.allclose(weights(ours), weights(reference), rtol=1e-9)
    assert not torch.allclose(weights(ours), weights(make_model()))


def test_lbfgs_is_refused_in_words_before_anything_moves() -> None:
    model = make_model()
    accumulate(model, make_window(2), loss_sum, count)
    with pytest.raises(TypeError, match=r"LBFGS.step needs a closure.*optimizer.step\(lambda: accumulate"):
        apply_update(model, LBFGS(model.parameters()))
    assert torch.equal(weights(model), weights(make_model()))


# --- Sparse gradients


class Bag(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bag = nn.EmbeddingBag(20, 4, sparse=sparse, dtype=torch.float64)
        self.head = nn.Linear(4, 3, dtype=torch.float64)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.bag(tokens))


def bag_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")


def rows(batch: tuple[Tensor, Tensor]) -> int:
    return len(batch[1])


BAGS = [
    (torch.tensor([[1, 1, 5], [5, 7, 1]]), torch.tensor([0, 2])),
    (torch.tensor([[1, 2, 2]]), torch.tensor([1])),
]


@pytest.mark.parametrize("how", [{}, {"max_grad_norm": 0.1}, {"error_if_nonfinite": True}])
@pytest.mark.parametrize("scaled", [False, True])
def test_sparse_gradients_are_measured_and_clipped_as_dense_ones(how, scaled) -> None:
    """Rows that occur more than once included: their parts have to be added before they are squared."""
    sparse, dense, norms = Bag(sparse=True), Bag(sparse=False), []
    for model in (sparse, dense):
        tool = scaler() if scaled else None
        accumulate(model, BAGS, bag_loss, rows, scaler=tool)
        norms.append(apply_update(model, SGD(model.parameters(), 1.0), scaler=tool, **how).grad_norm)
    assert torch.allclose(weights(sparse), weights(dense), rtol=1e-12)
    assert norms[0] == norms[1] or norms[0] == pytest.approx(norms[1], rel=1e-12)


def test_the_norm_of_parts_of_a_row_would_be_another() -> None:
    """The deliberately wrong one: squares of a row's parts, as they arrived."""
    model = Bag(sparse=True)
    accumulate(model, BAGS, bag_loss, rows)
    gradient = model.bag.weight.grad
    assert float(gradient._values().norm()) != pytest.approx(float(gradient.to_dense().norm()), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Adam, "Adam does not take sparse gradients: build the embedding with sparse=False"),
        (SparseAdam, "moves sparse gradients alone"),
        (lambda p: SGD(p, lr=0.1, weight_decay=0.1), "give them weight_decay=0"),
        (lambda p: SGD(p, lr=0.1, fused=True), "SGD does not take sparse gradients with fused=True"),
    ],
)
def test_what_an_optimizer_does_not_take_is_said_before_anything_moves(make, message) -> None:
    model = Bag(sparse=True)
    before = weights(model)
    accumulate(model, BAGS, bag_loss, rows)
    with pytest.raises(ValueError, match=message):
        apply_update(model, make(model.parameters()))
    assert torch.equal(weights(model), before)


def test_a_sparse_adam_and_another_one_share_an_update() -> None:
    sparse = Bag(sparse=True)
    optimizers = [SparseAdam(sparse.bag.parameters(), lr=0.1), Adam(sparse.head.parameters(), lr=0.1)]
    accumulate(sparse, BAGS, bag_loss, rows)
    apply_update(sparse, optimizers, max_grad_norm=0.1, error_if_nonfinite=True)
    moved = (sparse.bag.weight != Bag(sparse=True).bag.weight).any(dim=1).nonzero().flatten().tolist()
    assert moved == [1, 2, 5, 7], "the rows that occur"
    assert not torch.equal(sparse.head.weight, Bag(sparse=True).head.weight)
