"""The noise scale for free: the monitor sees what it should, changes nothing, and covers the truth."""

import numpy as np
import pytest
import torch
from reference import relative_error
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.lessons.variance.measure import draw
from accum_lib.noise import (
    NoiseScaleMonitor,
    example_gradients,
    from_gradients,
    from_window,
    from_windows,
    population,
)
from accum_lib.problems.base import micro_batches
from accum_lib.problems.digits import Digits
from accum_lib.problems.roberta import Roberta

EXACT = 1e-9


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits("mlp", torch.float64, 96)


def epoch(problem, monitor, model, micro_batch_size: int, steps: int, seed: int = 0) -> None:
    """Accumulate over a whole epoch; the weights stand still."""
    order = torch.Generator().manual_seed(seed)
    for window in windows(micro_batches(problem, micro_batch_size, order), steps):
        accumulate(model, window, monitor.loss_sum, monitor.count)
        model.zero_grad(set_to_none=True)


def watch(problem, model=None, **settings) -> NoiseScaleMonitor:
    model = model or problem.make_model()
    settings = {"every": 1, "population": problem.num_samples, **settings}
    return NoiseScaleMonitor(model, problem.loss_sum, problem.count, **settings)


def test_it_sees_the_norms_of_the_micro_batches_own_gradients(digits) -> None:
    """Ragged: micro-batches of 10, the last of 6, in windows of 4. By hand from the examples' gradients."""
    model = digits.make_model()
    gradients = example_gradients(digits, model)
    with watch(digits, model) as monitor:
        epoch(digits, monitor, model, 10, 4)
        found = monitor.estimate()
    order = torch.randperm(96, generator=torch.Generator().manual_seed(0)).split(10)
    estimates, totals = [], []
    for parts in (order[:4], order[4:8], order[8:]):
        total = sum(len(p) for p in parts)
        shares = [gradients[p].sum(0) / total for p in parts]
        squares = [float(s.square().sum()) for s in shares]
        estimates.append(from_window([len(p) for p in parts], squares, float(sum(shares).square().sum()), 96))
        totals.append(total)
    expected = from_windows(np.array(estimates), np.array(totals))
    for name in ("trace", "squared_norm", "low", "high", "observations"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=EXACT)


def test_training_is_the_same_to_the_last_bit(digits) -> None:
    finals = []
    for watched in (True, False):
        model = digits.make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(digits, model) as monitor:
            source = monitor if watched else digits
            for window in windows(micro_batches(digits, 8), 3):
                accumulate(model, window, source.loss_sum, source.count)
                apply_update(model, optimizer)
        finals.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert not any(p._backward_hooks for p in model.parameters()), "no hook is left"
    assert torch.equal(*finals)


def drawn(problem, monitor, model, micro_batch_size: int, steps: int, updates: int, seed: int) -> None:
    """Windows each drawn anew from all examples, as the interval assumes; the weights stand still."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        rows = torch.randperm(problem.num_samples, generator=generator)[: micro_batch_size * steps]
        window = [problem.batch(part) for part in rows.split(micro_batch_size)]
        accumulate(model, window, monitor.loss_sum, monitor.count)
        model.zero_grad(set_to_none=True)


def intervals(problem, model, seeds: int, settings: dict) -> np.ndarray:
    """(seeds, 2) the interval of one estimate, each from other windows."""
    found = []
    for seed in range(seeds):
        with watch(problem, model) as monitor:
            drawn(problem, monitor, model, seed=seed, **settings)
            estimate = monitor.estimate(confidence=0.9)
        found.append((estimate.low, estimate.high))
    return np.array(found)


def coverage(found: np.ndarray, value: float) -> float:
    """How often the intervals hold it."""
    return float(np.mean((found[:, 0] <= value) & (value <= found[:, 1])))


def uneven_roberta() -> Roberta:
    """One label in five is 1. With half of each, an untrained model's gradients cancel: |G| is nearly 0."""
    problem = Roberta(num_samples=96, max_tokens=12)
    problem.labels = (torch.arange(96) % 5 == 0).long()
    return problem


MODELS = {
    "digits, MLP": (
        lambda: Digits("mlp", torch.float64, 512),
        200,
        {"micro_batch_size": 4, "steps": 4, "updates": 32},
    ),
    "RoBERTa, tiny": (uneven_roberta, 60, {"micro_batch_size": 2, "steps": 3, "updates": 16}),
}


@pytest.mark.parametrize("name", ["digits, MLP", pytest.param("RoBERTa, tiny", marks=pytest.mark.slow)])
def test_its_interval_covers_the_exact_value_as_often_as_it_says(name, capsys) -> None:
    make, seeds, settings = MODELS[name]
    problem = make()
    model = problem.make_model().eval()
    exact = population(problem, model).noise_scale
    found = intervals(problem, model, seeds, settings)
    held = coverage(found, exact)
    with capsys.disabled():
        print(f"\n{name}: exact noise scale {exact:.1f}; 90 % intervals held it in {held:.1%} of {seeds} "
              f"runs, median {np.median(found[:, 0]):.1f} to {np.median(found[:, 1]):.1f}")  # fmt: skip
    assert held > 0.9 - 3 * (0.9 * 0.1 / seeds) ** 0.5
    assert coverage(found, exact / 3) < 0.5, "intervals that hold everything would cover, too"
    assert coverage(found, exact * 4) < 0.5


def test_windows_that_tell_nothing_are_left_out(digits) -> None:
    model = digits.make_model()
    with watch(digits, model) as monitor:
        with pytest.raises(ValueError, match="nothing is measured yet: 0 windows"):
            monitor.estimate()
        epoch(digits, monitor, model, 96, 1)
        with pytest.raises(ValueError, match="nothing is measured yet: 1 windows"):
            monitor.estimate()
        epoch(digits, monitor, model, 13, 7)  # 7 micro-batches, then a trailing one alone
        assert monitor.estimate().observations == 1


def test_one_window_in_so_many_is_measured_and_the_last_can_be_asked_for(digits) -> None:
    model = digits.make_model()
    with watch(digits, model, every=3) as monitor:
        epoch(digits, monitor, model, 4, 3)  # 8 windows: numbers 0, 3 and 6
        assert monitor.estimate().observations == 3
        assert monitor.estimate(last=2).observations == 2
        with pytest.raises(ValueError, match=r"last must be 1 or more.*got 0"):
            monitor.estimate(last=0)


def test_a_window_that_breaks_off_leaves_nothing_behind(digits) -> None:
    model = digits.make_model()
    window = list(micro_batches(digits, 24))
    broken = [*window[:2], (torch.full_like(window[2][0], float("nan")), window[2][1])]
    with watch(digits, model) as monitor, watch(digits) as clean:
        with pytest.raises(ValueError, match="the loss of micro-batch 2 is nan"):
            accumulate(model, broken, monitor.loss_sum, monitor.count)

        class BrokenOffError(Exception):
            pass

        def breaks_off(m, batch):
            loss = monitor.loss_sum(m, batch)
            if batch is window[1]:
                raise BrokenOffError
            return loss

        with pytest.raises(BrokenOffError):
            accumulate(model, window, breaks_off, monitor.count)
        accumulate(model, window, monitor.loss_sum, monitor.count)
        fresh = digits.make_model()
        with watch(digits, fresh) as clean:
            accumulate(fresh, window, clean.loss_sum, clean.count)
            assert monitor.estimate().trace == pytest.approx(clean.estimate().trace, rel=EXACT)
        assert monitor.estimate().observations == 1


def test_micro_batches_that_count_nothing_are_left_out(digits) -> None:
    model, window = digits.make_model(), list(micro_batches(digits, 32))
    empty = (torch.zeros(0, 1, 8, 8).double(), torch.zeros(0, dtype=torch.long))
    traces = []
    for batches in (window, [window[0], empty, *window[1:]]):
        with watch(digits, model) as monitor:
            accumulate(model, batches, monitor.loss_sum, monitor.count)
            traces.append(monitor.estimate().trace)
    assert traces[0] == pytest.approx(traces[1], rel=EXACT)


def test_a_scaled_loss_gives_the_same(digits) -> None:
    model, window = digits.make_model(), list(micro_batches(digits, 24))
    traces = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        with watch(digits, model, scaler=scaler) as monitor:
            accumulate(model, window, monitor.loss_sum, monitor.count, scaler=scaler)
            traces.append(monitor.estimate().trace)
    assert traces[0] == pytest.approx(traces[1], rel=EXACT)


def test_large_layers_in_float32_keep_their_digits() -> None:
    """A million entries, whose squares a single float32 sum would add up with an error of 1e-3."""
    torch.manual_seed(0)
    model = nn.Linear(1024, 1024, bias=False)
    inputs = torch.rand(8, 1024)

    def loss_sum(m, batch):
        return m(batch).square().sum()

    with NoiseScaleMonitor(model, loss_sum, len, every=1) as monitor:
        accumulate(model, [inputs[:4], inputs[4:]], monitor.loss_sum, monitor.count)
        found = monitor.estimate()
    parts = [
        torch.autograd.grad(loss_sum(model.double(), part.double()) / 8, model.weight)[0]
        for part in (inputs[:4], inputs[4:])
    ]
    squares = [float(p.square().sum()) for p in parts]
    trace, _ = from_window([4, 4], squares, float(sum(parts).square().sum()))
    assert found.trace == pytest.approx(trace, rel=1e-3)


# --- However a gradient arrives


class Repeated(nn.Module):
    """One block used several times, with its activations recomputed; ``times`` 0 takes it from the batch."""

    def __init__(self, reentrant: bool, times: int = 3) -> None:
        super().__init__()
        self.first, self.block, self.reentrant, self.times = (
            nn.Linear(6, 8),
            nn.Linear(8, 8),
            reentrant,
            times,
        )

    def forward(self, x):
        hidden = self.first(x)
        for _ in range(self.times or len(x) // 2):
            hidden = checkpoint(lambda h: self.block(h).tanh(), hidden, use_reentrant=self.reentrant)
        return hidden


class Outside(Repeated):
    """The recomputed block's weight is in the loss directly, too."""

    def forward(self, x):
        return super().forward(x) + self.block.weight.sum()


class Rows(nn.Module):
    """Sparse gradients of a table, whose rows repeat; with a dense one of the same table if it is tied."""

    def __init__(self, tied: bool = False, bag: bool = False) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(7, 3, sparse=True, mode="sum") if bag else nn.Embedding(7, 3)
        self.bag, self.tied = bag, tied

    def forward(self, x):
        rows = (x.abs() * 3).long() % 7
        found = self.table(rows) if self.bag else F.embedding(rows, self.table.weight, sparse=True)
        return (found @ self.table.weight.T if self.tied else found).tanh()


class SparseFirst(nn.Module):
    """The table's sparse gradient comes from within a recomputed part, and a dense one after it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)

    def forward(self, x):
        rows = (x.abs() * 3).long() % 7
        hidden = x @ self.table.weight.T @ self.table.weight
        return checkpoint(self.found, hidden, rows, use_reentrant=True)

    def found(self, hidden, rows):
        return hidden.tanh() + F.embedding(rows, self.table.weight, sparse=True).sum(1)


class Mixed(nn.Module):
    """A temperature in bfloat16 and a complex factor beside float32: a norm of any kind of number."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.5, dtype=torch.bfloat16))
        self.turn = nn.Parameter(torch.tensor([0.3 + 0.4j, 1.0 - 0.2j]))
        self.wide = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x):
        return (x[:, :2] * self.turn).abs() * self.temperature * self.wide


def squares(model, batch):
    return model(batch).square().sum()


def with_penalty(model, batch):
    """The loss and its gradient's length, which is taken on the way and never arrives in ``.grad``."""
    inside = torch.autograd.grad(squares(model, batch), list(model.parameters()), create_graph=True)
    return squares(model, batch) + sum(g.square().sum() for g in inside)


def halved_later(model: nn.Module) -> None:
    for p in model.parameters():
        p.register_hook(lambda gradient: gradient / 2)


def nothing(model: nn.Module) -> None:
    pass


def windows_of(rows=(5, 3, 7, 2)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 6, generator=generator).double() for n in rows]


def by_hand(model, loss_sum, window) -> tuple[float, float]:
    """``(trace, squared_norm)`` from each micro-batch's ``.grad``, made alone."""
    total, shares = sum(map(len, window)), []
    for batch in window:
        model.zero_grad()
        (loss_sum(model, batch) / total).backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in model.parameters()]
        parts = [torch.view_as_real(g) if g.is_complex() else g for g in grads]
        shares.append(torch.cat([p.double().flatten() for p in parts]))
    model.zero_grad()
    lengths = [float(s.square().sum()) for s in shares]
    return from_window([len(b) for b in window], lengths, float(sum(shares).square().sum()))


ARRIVALS = {
    "recomputed": (lambda: Repeated(False), squares, nothing),
    "recomputed, reentrant": (lambda: Repeated(True), squares, nothing),
    "reentrant and direct": (lambda: Outside(True), squares, nothing),
    "functional and sparse": (Rows, squares, nothing),
    "sparse and tied": (lambda: Rows(tied=True), squares, nothing),
    "sparse, then dense": (SparseFirst, squares, nothing),
    "bags": (lambda: Rows(bag=True), squares, nothing),
    "a gradient penalty": (lambda: nn.Linear(6, 4), with_penalty, nothing),
    "a hook that came later": (lambda: nn.Linear(6, 4), squares, halved_later),
    "many kinds of numbers": (Mixed, squares, nothing),
}


@pytest.mark.parametrize("name", ARRIVALS)
def test_however_a_gradient_arrives_its_norm_is_that_of_what_is_added(name) -> None:
    make, loss_sum, change = ARRIVALS[name]
    torch.manual_seed(0)
    model, exact = (make(), 0.1) if make is Mixed else (make().double(), EXACT)
    with NoiseScaleMonitor(model, loss_sum, len, every=1) as monitor:
        for window in (windows_of(), windows_of((4, 6))):
            change(model)  # after the hooks of the first window are in place
            accumulate(model, window, monitor.loss_sum, monitor.count)
            expected = by_hand(model, loss_sum, window)
            found = monitor.estimate(last=1)
            assert (found.trace, found.squared_norm) == pytest.approx(expected, rel=exact)


def test_pieces_that_come_late_leave_one_window_out() -> None:
    """The block is used once in a window's first micro-batch, and twice later: what came first is unknown."""
    torch.manual_seed(0)
    model, window = Repeated(True, times=0).double(), windows_of((2, 5, 4))
    with NoiseScaleMonitor(model, squares, len, every=1) as monitor:
        accumulate(model, window, monitor.loss_sum, monitor.count)
        with pytest.raises(ValueError, match="The first in which a gradient came in pieces is left out"):
            monitor.estimate()
        for _ in range(2):
            accumulate(model, window, monitor.loss_sum, monitor.count)
        found = monitor.estimate()
    assert found.observations == 2
    assert (found.trace, found.squared_norm) == pytest.approx(by_hand(model, squares, window), rel=EXACT)


def test_a_parameter_that_few_micro_batches_reach_has_arrived_once() -> None:
    """It is reached in the second micro-batch of two windows, and in nothing between them."""

    class Gate(nn.Linear):
        def forward(self, x):
            return super().forward(x) if len(x) == 3 else self.bias * x.sum()

    model, window = Gate(6, 4).double(), windows_of((5, 3))
    with NoiseScaleMonitor(model, squares, len, every=1) as monitor:
        for _ in range(3):
            accumulate(model, window, monitor.loss_sum, monitor.count)
        assert monitor.estimate().observations == 3


def test_layers_may_be_frozen_and_thawed_on_the_way() -> None:
    model, window = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double(), windows_of()
    with NoiseScaleMonitor(model, squares, len, every=1) as monitor:
        for trained in (True, False, True):
            model[0].requires_grad_(trained)
            accumulate(model, window, monitor.loss_sum, monitor.count)
            found = monitor.estimate(last=1)
            assert (found.trace, found.squared_norm) == pytest.approx(
                by_hand(model, squares, window), rel=1e-4
            )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_may_be_converted_on_the_way(dtype) -> None:
    """PyTorch then adds up its gradients elsewhere: a hook in the old place is never called."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    with NoiseScaleMonitor(model, squares, len, every=1) as monitor:
        for kind in (torch.float32, dtype):
            model.to(kind).zero_grad()
            window = [batch.to(kind) for batch in windows_of()]
            accumulate(model, window, monitor.loss_sum, monitor.count)
        found = monitor.estimate(last=1)
    assert (found.trace, found.squared_norm) == pytest.approx(by_hand(model, squares, window), rel=0.02)


def test_several_modules_are_one_model() -> None:
    encoder, head = nn.Linear(6, 5).double(), nn.Linear(5, 4).double()

    def loss_sum(modules, batch) -> torch.Tensor:
        return squares(nn.Sequential(*modules), batch)

    with NoiseScaleMonitor([encoder, head], loss_sum, len, every=1) as monitor:
        accumulate([encoder, head], windows_of(), monitor.loss_sum, monitor.count)
        found = monitor.estimate()
    expected = by_hand(nn.Sequential(encoder, head), squares, windows_of())
    assert (found.trace, found.squared_norm) == pytest.approx(expected, rel=1e-4)


def test_an_optimizer_in_the_backward_pass_is_refused() -> None:
    """It takes the gradient away before the window's is whole: the estimate was off by a factor of three."""
    model = nn.Linear(6, 4).double()
    monitor = NoiseScaleMonitor(model, squares, len, every=1)
    model.weight.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    with pytest.raises(ValueError, match=r"after its gradient is added .*Remove what"):
        accumulate(model, windows_of(), monitor.loss_sum, monitor.count)


# --- Memory


def peak_bytes(run) -> int:
    """The most that is alive beyond what was there before, from PyTorch's own allocator events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    alive = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def wide_model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 700), nn.Tanh(), nn.Linear(700, 700), nn.Tanh(), nn.Linear(700, 10))


def extra_memory(make_monitor) -> tuple[int, int]:
    """Bytes at the peak of a watched window beyond a plain one's, and those of the largest layer."""
    problem, model = Digits("mlp", num_samples=32), wide_model()

    class Wide(Digits):
        def make_model(self, seed=0):
            return wide_model()

    def loss_sum(m, batch):
        return nn.functional.cross_entropy(m(batch[0].flatten(1)), batch[1], reduction="sum")

    window = [problem.batch(rows) for rows in torch.arange(32).split(8)]

    def run(source_loss, source_count):
        def one():
            accumulate(model, window, source_loss, source_count)
            model.zero_grad(set_to_none=True)

        one()
        return peak_bytes(one)

    plain = run(loss_sum, problem.count)
    with make_monitor(model, loss_sum, problem.count) as monitor:
        watched = run(monitor.loss_sum, monitor.count)
    return watched - plain, max(p.numel() * p.element_size() for p in model.parameters())


def test_no_more_than_one_temporary_of_the_largest_layer_is_held() -> None:
    extra, layer = extra_memory(lambda *a: NoiseScaleMonitor(*a, every=1))
    assert layer == 4 * 490_000
    assert extra <= layer


def test_a_second_gradient_buffer_would_be_noticed() -> None:
    class Greedy(NoiseScaleMonitor):
        """Keeps a copy of every micro-batch's gradient until the window ends."""

        def _watch(self, parameter, places):
            inner = super()._watch(parameter, places)
            kept = self.__dict__.setdefault("kept", [])

            def hook(shares):
                kept.append(shares[0].clone())
                inner(shares)

            return hook

    extra, layer = extra_memory(lambda *a: Greedy(*a, every=1))
    assert extra > layer


def test_bad_settings_are_named(digits) -> None:
    with pytest.raises(ValueError, match=r"every must be 1.*got 0"):
        watch(digits, every=0)
    with pytest.raises(ValueError, match="all are frozen"):
        watch(digits, digits.make_model().requires_grad_(False))
    split = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match=r"several devices, \['cpu', 'meta'\]"):
        watch(digits, split)


def test_weights_of_windows_do_not_matter_for_frozen_layers(digits) -> None:
    """A frozen first layer has no gradient; the noise scale is that of what can be trained."""
    model = digits.make_model()
    model[1].requires_grad_(False)
    rows = draw(96, 40, 1)[0]
    window = [digits.batch(part) for part in rows.split(10)]
    with watch(digits, model) as monitor:
        accumulate(model, window, monitor.loss_sum, monitor.count)
        found = monitor.estimate()
    gradients = example_gradients(digits, model)
    assert gradients.shape[1] == 330
    whole = float(gradients[rows].mean(0).square().sum())
    assert found.squared_norm + found.trace / 40 * (1 - 40 / 96) == pytest.approx(whole, rel=EXACT)
    assert from_gradients(gradients).trace > 0
    assert relative_error(gradients[rows].mean(0), gradients.mean(0)) > 0.01
