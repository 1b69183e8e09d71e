"""Races: a copy is what it would be alone, at its own rate, and what a target took is read off rightly."""

import numpy as np
import pytest
import torch
from reference import relative_error

from accum_lib.accumulate import accumulate
from accum_lib.lessons.variance import targets as module
from accum_lib.lessons.variance.races import Recipe, Replicas, race
from accum_lib.lessons.variance.record import Race
from accum_lib.lessons.variance.targets import critical_batch, race_all, to_target
from accum_lib.machine import one_thread
from accum_lib.problems.digits import Digits

RATES, SEEDS = (0.1, 0.4), 3


@pytest.fixture(autouse=True)
def small_models_on_one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def replicas() -> Replicas:
    return Replicas(RATES, SEEDS)


def alone(replicas, batch_size: int, make_optimizer, updates: int, seed: int, heights=None) -> torch.Tensor:
    """One seed and one rate, with its own ordinary model, its own optimizer, and one big batch an update."""
    problem, stream = Digits("mlp"), replicas.micro_batches(batch_size, batch_size)
    model = problem.make_model(seed)
    optimizer = make_optimizer(model.parameters())
    full = [group["lr"] for group in optimizer.param_groups]
    for update in range(updates):
        pixels, labels = next(stream)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(pixels[seed]), labels[seed]).backward()
        for group, rate in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = rate * (heights[update] if heights else 1)
        optimizer.step()
    logits = model(problem.images[1437:])
    return torch.nn.functional.cross_entropy(logits, problem.labels[1437:]).detach()


RECIPES = {
    "SGD": (Recipe("a"), lambda p, lr: torch.optim.SGD(p, lr=lr), None),
    "momentum and warm-up": (
        Recipe("b", momentum=0.9, warm_up=4),
        lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
        [0.25, 0.5, 0.75, 1, 1, 1],
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_copy_is_what_it_would_be_alone(replicas, name) -> None:
    """Batches of 128 are accumulated from two micro-batches here, and passed in one alone."""
    recipe, make, heights = RECIPES[name]
    found = race(replicas, 128, recipe, 6)
    for r, rate in enumerate(RATES):
        for seed in range(SEEDS):
            expected = alone(replicas, 128, lambda p, lr=rate: make(p, lr), 6, seed, heights)
            assert found.losses[-1, r, seed] == pytest.approx(float(expected), rel=1e-3)


def test_momentum_is_not_free_of_the_schedule_and_that_is_what_torch_does_too(replicas) -> None:
    """The schedule matters: without it the same race ends elsewhere."""
    warm, cold = (race(replicas, 128, Recipe("b", momentum=0.9, warm_up=w), 6) for w in (4, 0))
    assert np.abs(warm.losses[-1] - cold.losses[-1]).min() > 0.01


def test_adam_has_its_rates_too(replicas) -> None:
    small = Replicas((1e-3, 1e-2), 2)
    found = race(small, 8, Recipe("c", "Adam", beta2=0.9), 10)
    for r, rate in enumerate(small.rates):
        expected = alone(small, 8, lambda p, lr=rate: torch.optim.Adam(p, lr=lr, betas=(0.9, 0.9)), 10, 1)
        assert found.losses[-1, r, 1] == pytest.approx(float(expected), rel=1e-3)


def test_no_copy_sees_another(replicas) -> None:
    """Give one copy other data, and only its own gradient changes."""
    model, stream = replicas.make_model(), replicas.micro_batches(8, 8)
    pixels, labels = next(stream)
    accumulate(model, [(pixels, labels)], replicas.loss_sum, replicas.count)
    before = model.w1.grad.clone()
    other = pixels.clone()
    other[1] = 1 - other[1]
    accumulate(model, [(other, labels)], replicas.loss_sum, replicas.count)
    changed = (model.w1.grad - before).flatten(2).abs().amax(-1) > 0
    assert changed.tolist() == [[False, True, False]] * len(RATES)


def test_every_example_comes_once_an_epoch(replicas) -> None:
    stream = replicas.micro_batches(479, 479)  # three of them are the 1,437
    pixels = torch.cat([next(stream)[0][2] for _ in range(3)])
    everything = Digits("mlp").images[:1437].flatten(1)
    assert relative_error(pixels.sum(0), everything.sum(0)) < 1e-5
    assert len(torch.unique(pixels, dim=0)) == len(torch.unique(everything, dim=0))


def test_the_same_race_ends_the_same(replicas) -> None:
    one, two = (race(replicas, 16, Recipe("SGD"), 5) for _ in range(2))
    assert np.array_equal(one.losses, two.losses)


def test_a_race_can_be_stopped_and_bad_batches_are_named(replicas) -> None:
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race(replicas, 16, Recipe("SGD"), 100, tell=stop)
    for size in (0, 100, 1438):
        with pytest.raises(ValueError, match=f"a multiple of .*got {size}"):
            race(replicas, size, Recipe("SGD"), 1)


# --- What a target took


def made(size: int, updates: list[int], losses: list[list[float]]) -> Race:
    """Two rates, one seed."""
    values = np.array(losses).T[:, :, None]
    return Race("SGD", size, np.array([0.1, 0.2]), np.array(updates), values, values)


RACES = [
    made(4, [0, 10, 20], [[2.0, 1.0, 0.5], [2.0, 1.5, 1.2]]),
    made(8, [0, 10, 20], [[2.0, 1.9, 1.8], [2.0, 1.2, 0.4]]),
    made(16, [0, 10, 20], [[2.0, 1.6, 1.4], [2.0, 0.5, 0.2]]),
]


def test_the_crossing_is_read_off_on_a_straight_line_by_hand() -> None:
    found = to_target(RACES, 0.8)
    assert found.rates.tolist() == [0.1, 0.2, 0.2]
    assert found.updates[:, 0] == pytest.approx([14, 15, 8])
    assert found.examples[:, 0] == pytest.approx([56, 120, 128])
    fixed = to_target(RACES, 0.8, rate=0.1)
    assert np.isinf(fixed.updates[1:]).all()
    assert np.isnan(fixed.critical_batch_size)
    with pytest.raises(ValueError, match=r"B = 4 raced at the rates.*got 9"):
        to_target(RACES, 0.8, rate=9)


def test_the_fit_finds_the_hyperbola_that_made_the_numbers() -> None:
    sizes = np.array([4, 16, 64, 256])
    assert critical_batch(sizes, 900 + 30.0 * sizes) == pytest.approx((900, 30))
    only_updates = critical_batch(sizes, 30.0 * sizes)
    assert only_updates == pytest.approx((0, 30))


@pytest.fixture(scope="module")
def quick():
    """All races of the notebook, far shorter."""
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "PLAIN", {16: 30, 64: 20, 256: 10})
    patch.setattr(module, "PLAIN_SEEDS", 2)
    patch.setattr(module, "LOOKS", (8, 16))
    shares = []
    yield race_all(shares.append), shares
    patch.undo()


def test_all_races_are_run_and_the_bar_goes_from_nothing_to_full(quick) -> None:
    races, shares = quick
    assert [r.batch_size for r in races.plain] == [16, 64, 256]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert 0 < shares[0] < 0.1


def test_the_noise_scale_along_a_run_is_that_of_the_population(quick) -> None:
    """At the first look, by hand: the same run again, and the exact noise scale from its definition."""
    noise = quick[0].noise
    problem = Digits("mlp", num_samples=1437)
    model, order = problem.make_model(0), torch.Generator().manual_seed(0)
    rows = torch.randperm(1437, generator=order)
    for batch in rows[: 64 * 8].split(64):
        model.zero_grad()
        (problem.loss_sum(model, problem.batch(batch)) / 64).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= module.NOISE_RATE * p.grad
    each = []
    for i in range(1437):
        loss = problem.loss_sum(model, problem.batch(torch.tensor([i])))
        each.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    gradients = torch.stack(each).double()
    expected = gradients.var(0).sum() / gradients.mean(0).square().sum()
    assert noise.exact[0] == pytest.approx(float(expected), rel=1e-3)
    assert (noise.low <= noise.estimated).all()
    assert (noise.estimated <= noise.high).all()
