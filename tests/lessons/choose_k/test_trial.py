"""The trial: it races what it says, goes on after a stop, and its verdicts can fail."""

from dataclasses import replace

import numpy as np
import pytest
from made_trials import NOISE, trial

from accum_lib.lessons.choose_k import trial as module
from accum_lib.lessons.choose_k.choose import known_noise
from accum_lib.lessons.choose_k.subjects import pilot, subject
from accum_lib.lessons.choose_k.trial import (
    AdviceTrial,
    loss_at,
    mean_interval,
    race_texts,
    steps_around,
    verdicts,
)
from accum_lib.lessons.variance.record import Race
from accum_lib.noise import population
from accum_lib.problems.roberta import Roberta


@pytest.fixture
def short(monkeypatch):
    """Both trials in a second or two."""
    for name, value in {
        "DIGITS_UPDATES": (6, 4, 3), "DIGITS_SEEDS": 2, "DIGITS_RATES": (0.4, 0.8), "TEXT_UPDATES": (3, 2, 1),
        "TEXT_SEEDS": 2, "TEXT_LOOKS": 2, "TEXT_M": 4, "TEXTS": 256, "HELD_OUT": 8, "TOKENS": 16,
    }.items():  # fmt: skip
        monkeypatch.setattr(module, name, value)
    return {"digits-mlp": known_noise(48), "tiny-roberta": known_noise(16)}


def test_steps_are_a_quarter_and_four_times_around_the_noise_scale() -> None:
    assert steps_around(64.0, 4) == (4, 16, 64)
    assert steps_around(53.0, 8) == (2, 8, 32)
    for impossible in (7.0, np.inf):
        with pytest.raises(ValueError, match=f"got {impossible:g}"):
            steps_around(impossible, 4)


def test_batches_that_cannot_be_are_refused_with_the_value_and_the_fix() -> None:
    """Without an error the texts would be dealt out for ever: no window would ever be full."""
    with pytest.raises(ValueError, match="1 example or more; got M = 0"):
        steps_around(64.0, 0)
    assert steps_around(128.0, 16, 512) == (2, 8, 32)
    with pytest.raises(ValueError, match=r"B = 1024, and the data set has N = 512.* 128 or less"):
        steps_around(256.0, 16, 512)
    for steps in (0, 33):
        with pytest.raises(ValueError, match=f"K must be from 1 to 32.*got {steps}"):
            race_texts(steps, 2, 1e-3)
    with pytest.raises(ValueError, match="the data set has N = "):
        AdviceTrial({"digits-mlp": known_noise(5000)}).run()


def test_a_stop_keeps_what_was_raced_and_the_next_run_goes_on(short, monkeypatch) -> None:
    raced, original = [], module.race
    monkeypatch.setattr(module, "race", lambda *a: raced.append(a[1]) or original(*a))
    one = AdviceTrial(short)
    shares = []

    def stop(share: float) -> None:
        shares.append(share)
        if len(raced) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.run(stop)
    assert raced == [16, 64, 256]
    found = one.run(shares.append)
    assert raced == [16, 64, 256, 256], "the two that were through are kept"
    assert [t.steps for t in found.trials] == [(2, 8, 32), (1, 4, 16)]
    assert found.seconds > 0
    again = AdviceTrial(short).run()
    for a, b in zip(found.trials, again.trials, strict=True):
        for r, s in zip(a.races, b.races, strict=True):
            assert np.array_equal(r.losses, s.losses), "a stop changes nothing"


def test_texts_train_as_one_big_batch_would(short) -> None:
    """K micro-batches of the same texts are one batch: an ordinary loop without accumulation agrees."""
    import torch
    from torch.nn import functional as F

    found = race_texts(4, 2, 1e-3)
    problem = Roberta("tiny", module.TEXTS + module.HELD_OUT, module.TOKENS)
    model = problem.make_model(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    order = torch.randperm(module.TEXTS, generator=torch.Generator().manual_seed(1))
    for rows in order[:32].split(16):
        batch = problem.batch(rows)
        labels = batch.pop("labels")
        optimizer.zero_grad()
        F.cross_entropy(model(**batch).logits, labels).backward()
        optimizer.step()
    held = problem.batch(torch.arange(module.TEXTS, module.TEXTS + module.HELD_OUT))
    loss = float(problem.loss_sum(model, held).detach()) / module.HELD_OUT
    assert found.losses[-1, 0, 1] == pytest.approx(loss, rel=1e-4)
    assert found.batch_size == 16


def test_the_pilot_finds_the_exact_noise_scale_at_weights_that_stand_still() -> None:
    digits = replace(subject("digits-mlp"), rate=0.0)
    exact = population(digits.problem, digits.problem.make_model(0)).noise_scale
    found = pilot(digits, updates=300)
    assert found.low <= exact <= found.high
    assert found.noise_scale == pytest.approx(exact, rel=0.2)
    assert 1 / found.noise_scale != pytest.approx(exact, rel=0.2), "upside down would be seen"


def test_what_does_not_run_here_is_refused() -> None:
    with pytest.raises(ValueError, match="RoBERTa-large does not run here"):
        pilot(subject("roberta-large"))
    with pytest.raises(ValueError, match="no 'bert' to advise on"):
        subject("bert")


def test_the_loss_at_a_budget_is_that_of_the_best_rate() -> None:
    losses = np.array([[[4.0], [4.0]], [[2.0], [3.0]], [[1.5], [1.0]]])
    race = Race("a", 8, np.array([0.1, 0.2]), np.array([0, 4, 8]), losses, losses)
    assert loss_at(race, 4) == pytest.approx([2.0])
    assert loss_at(race, 6) == pytest.approx([1.75])
    assert loss_at(race, 8) == pytest.approx([1.0])


def test_races_that_follow_the_noise_scale_hold_and_others_fail() -> None:
    assert all(clause.holds for clause in verdicts(trial(NOISE)))
    small = {c.claim: c.holds for c in verdicts(trial(NOISE / 10))}
    assert [claim for claim, holds in small.items() if not holds] == list(small)[2:]
    large = [c.holds for c in verdicts(trial(NOISE * 10))]
    assert not all(large[2:])


def test_the_equal_budgets_can_fail_too() -> None:
    found = trial(NOISE)
    turned = replace(found, losses_at_updates=found.losses_at_updates[::-1])
    assert not verdicts(turned)[0].holds
    turned = replace(found, losses_at_examples=found.losses_at_examples[::-1])
    assert not verdicts(turned)[1].holds


def test_a_target_that_was_missed_is_said() -> None:
    found = trial(NOISE)
    updates = found.found.updates.copy()
    updates[2, 0] = np.inf
    clauses = verdicts(replace(found, found=replace(found.found, updates=updates)))
    assert not clauses[-1].holds
    assert "K = 32" in clauses[-1].evidence


def test_the_interval_of_a_mean_is_students() -> None:
    """By hand: mean 2, standard error 1 / sqrt(3), t of two degrees at 95 % on one side 2.920."""
    low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 2.920 / 3**0.5, 2 + 2.920 / 3**0.5), abs=1e-3)
