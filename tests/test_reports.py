"""What public reports ask of accumulation: each way that the docs give, against one big batch."""

import math
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.losses import classification_loss_sum, count_samples

RIGHT = {"rtol": 0, "atol": 1e-14}
Batch = tuple[Tensor, Tensor]


def made() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def batches() -> list[Batch]:
    """Uneven; in windows of 3 the last is short."""
    generator = torch.Generator().manual_seed(1)
    rows = (2, 3, 4, 2, 3, 4, 2, 3)
    return [
        (torch.randn(n, 4, generator=generator).double(), torch.randint(3, (n,), generator=generator))
        for n in rows
    ]


def big(window: list[Batch]) -> Batch:
    return torch.cat([x for x, _ in window]), torch.cat([y for _, y in window])


def mean_loss(model: nn.Module, window: list[Batch]) -> Tensor:
    inputs, labels = big(window)
    return F.cross_entropy(model(inputs), labels)


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in model.parameters()]


# --- Optimizers that take two gradients: sharpness-aware minimization (davda54/sam, issues 3, 62, 64, 94)


class SAM(torch.optim.SGD):
    """As its repository has it: a step uphill, the gradient there, and a step from where it began."""

    @torch.no_grad()
    def first_step(self) -> None:
        held = [p for p in self.param_groups[0]["params"] if p.grad is not None]
        length = torch.stack([p.grad.norm() for p in held]).norm()
        self.began = [(p, p.clone()) for p in held]
        for p in held:
            p.add_(0.05 * p.grad / length)

    @torch.no_grad()
    def second_step(self) -> None:
        for p, value in self.began:
            p.copy_(value)
        super().step()

    def step(self, closure=None):
        assert closure is not None, "Sharpness Aware Minimization requires closure"
        self.first_step()
        self.zero_grad()
        with torch.enable_grad():
            closure()
        self.second_step()


def accumulated(model: nn.Module, window: list[Batch]) -> float:
    return accumulate(model, window, classification_loss_sum, count_samples).loss


def in_one_batch(model: nn.Module, window: list[Batch]) -> None:
    model.zero_grad()
    mean_loss(model, window).backward()


def two_steps(optimizer: SAM, gradient) -> None:
    gradient()
    optimizer.first_step()
    gradient()
    optimizer.second_step()


def closure(optimizer: SAM, gradient) -> None:
    gradient()
    optimizer.step(gradient)


@pytest.mark.parametrize("update", [two_steps, closure])
def test_sharpness_aware_minimization_takes_a_window_twice(update) -> None:
    found = []
    for gradient in (accumulated, in_one_batch):
        model = made()
        optimizer = SAM(model.parameters(), lr=0.5)
        for window in windows(batches(), 3):
            update(optimizer, lambda model=model, window=window, gradient=gradient: gradient(model, window))
        found.append(list(model.parameters()))
    torch.testing.assert_close(found[0], found[1], **RIGHT)
    assert not torch.equal(found[0][0], made()[0].weight)


# --- A term that is no sum over samples


def penalty(model: nn.Module) -> Tensor:
    return 0.1 * sum(p.square().sum() for p in model.parameters())


@pytest.mark.parametrize("times_its_count", [True, False])
def test_a_penalty_counts_as_often_as_its_micro_batch(times_its_count) -> None:
    """Added once to each micro-batch's sum, it would be there K / count times."""

    def loss_sum(model: nn.Module, batch: Batch) -> Tensor:
        times = count_samples(batch) if times_its_count else 1
        return classification_loss_sum(model, batch) + times * penalty(model)

    model, reference, window = made(), made(), batches()[:3]
    result = accumulate(model, window, loss_sum, count_samples)
    expected = mean_loss(reference, window) + penalty(reference)
    expected.backward()
    right = all(
        torch.allclose(a, b, **RIGHT)
        for a, b in zip(gradients(model), gradients(reference), strict=True)  # type: ignore[arg-type]
    )
    assert right == times_its_count == math.isclose(result.loss, expected.item())


# --- A micro-batch that is NaN (prime-rl 1961: its tokens stayed in the divisor; espnet 3283: its gradient)


def spoilt() -> list[Batch]:
    window = batches()[:4]
    window[2][0][0, 0] = math.nan
    return window


def named_and_left_out(model: nn.Module) -> None:
    window = spoilt()
    with pytest.raises(ValueError, match=r"micro-batch 2 is nan: .* as they were before") as error:
        accumulated(model, window)
    assert "micro-batch 2" in str(error.value)
    del window[2]
    accumulated(model, window)


def counted_as_nothing(model: nn.Module) -> None:
    def count(batch: Batch) -> int:
        return count_samples(batch) if batch[0].isfinite().all() else 0

    accumulate(model, spoilt(), classification_loss_sum, count)


@pytest.mark.parametrize("way", [named_and_left_out, counted_as_nothing])
def test_a_micro_batch_that_is_left_out_is_not_in_the_divisor_either(way) -> None:
    model, reference, window = made(), made(), batches()[:4]
    way(model)
    in_one_batch(reference, [*window[:2], window[3]])
    torch.testing.assert_close(gradients(model), gradients(reference), **RIGHT)


def test_a_gradient_that_was_refused_is_not_in_the_next_window() -> None:
    model, reference, window = made(), made(), batches()[:3]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accumulated(model, window)
    model[0].weight.grad[0, 0] = math.nan
    with pytest.raises(ValueError, match="the norm of the window's gradient is nan"):
        apply_update(model, optimizer, error_if_nonfinite=True)
    accumulated(model, window)
    in_one_batch(reference, window)
    torch.testing.assert_close(gradients(model), gradients(reference), **RIGHT)


# --- Scalers


def test_an_update_that_was_left_out_does_not_block_the_scaler() -> None:
    """By hand: "unscale_() has already been called on this optimizer since the last update()" (LVSM 19)."""
    found = []
    for scaler in (torch.amp.GradScaler("cpu", init_scale=1024.0), None):
        model = made().float()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=scaler is not None)  # pytorch 97415
        for window in windows([(x.float(), y) for x, y in batches()], 3):
            accumulate(model, window, classification_loss_sum, count_samples, scaler=scaler)
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            with pytest.raises(TypeError, match="needs its metrics"):
                apply_update(model, optimizer, scaler=scaler, scheduler=plateau)
            apply_update(model, optimizer, scaler=scaler, max_grad_norm=0.1)
        found.append(list(model.parameters()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


# --- Memory (verl 6698, horovod 641: what is logged kept each micro-batch's graph)


@pytest.mark.parametrize("log", ["loss", "activations"])
def test_nothing_of_a_micro_batch_s_graph_outlives_it_but_what_the_caller_keeps(log) -> None:
    model, hidden, alive, logged = made(), [], [], []

    def loss_sum(model: nn.Module, batch: Batch) -> Tensor:
        alive.append(sum(reference() is not None for reference in hidden))
        inside = model[0](batch[0])
        hidden.append(weakref.ref(inside))
        loss = F.cross_entropy(model[2](inside), batch[1], reduction="sum")
        logged.append(loss if log == "loss" else inside)
        return loss

    accumulate(model, batches()[:4], loss_sum, count_samples)
    assert alive == ([0, 0, 0, 0] if log == "loss" else [0, 1, 2, 3])


# --- What a faster core must not do


@pytest.mark.parametrize("loss", [lambda w: w[0], lambda w: w.squeeze(), lambda w: w.sum()])
def test_a_loss_that_is_a_view_of_a_parameter_counts_each_micro_batch_once(loss) -> None:
    """Its gradient may be the very tensor that backward starts from: to start all passes from one adds up."""
    weight = nn.Parameter(torch.ones(1))
    accumulate([], [1, 1, 1], lambda m, b: loss(weight), float)
    assert weight.grad.item() == pytest.approx(1)
    again, start = nn.Parameter(torch.ones(1)), torch.tensor(1 / 3)
    for _ in range(3):
        again.squeeze().backward(start)
    assert again.grad.item() == pytest.approx(4 / 3)
