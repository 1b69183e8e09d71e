"""Advice against brute force over all (M, K); what it says of what cannot be; and wrong inputs."""

import itertools
import math

import numpy as np
import pytest

from accum_lib.lessons.choose_k import choose as module
from accum_lib.lessons.choose_k.choose import Chooser, advise, known_noise, landscape
from accum_lib.lessons.choose_k.record import TimeModel
from accum_lib.memory.cards import processor
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import mlp_workload
from accum_lib.noise.records import NoiseScale

WORKLOAD, SETTINGS = mlp_workload(hidden=64), Settings("sgd", "for-loop")
PREDICTION = predict(WORKLOAD, SETTINGS, "cpu")
NOTHING = np.ones(1)
N = 40


def times(one: float, example: float, update: float) -> TimeModel:
    return TimeModel("cpu", one, example, update, NOTHING, NOTHING, NOTHING)


def limit_for(micro_batch_size: int) -> int:
    """Just enough for that M with K = 2."""
    return PREDICTION.peak_bytes(micro_batch_size, 2)


def everything(limit: int, n: int = N) -> list[tuple[int, int]]:
    """All (M, K) that fit and have no more examples than there are: one by one, with nothing clever."""
    pairs = itertools.product(range(1, n + 1), range(1, n + 1))
    return [(m, k) for m, k in pairs if m * k <= n and PREDICTION.peak_bytes(m, k) <= limit]


def slow_time(t: TimeModel, noise: float, m: int, k: int) -> float:
    """Seconds to the same progress, added up pass by pass, times the updates that are needed."""
    seconds = sum(t.pass_seconds + sum(t.example_seconds for _ in range(m)) for _ in range(k))
    return (seconds + t.update_seconds) * (m * k + noise) / (m * k)


COEFFICIENTS = [(1, 0.1, 0), (1, 0.1, 30), (0.1, 1, 5), (0, 1, 0), (1, 0, 1), (1, 2, 200)]
TIMES = [times(*each) for each in COEFFICIENTS]


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("largest", [2, 3, 7, 40])
@pytest.mark.parametrize("noise", [1.0, 6.0, 33.0, 500.0])
def test_the_fastest_is_that_of_all_pairs(t, largest, noise) -> None:
    limit = limit_for(largest)
    found = Chooser(PREDICTION, limit, N, t).fastest(noise)
    least = min(slow_time(t, noise, *pair) for pair in everything(limit))
    assert found in everything(limit)
    assert slow_time(t, noise, *found) == pytest.approx(least, rel=1e-9)


def test_the_comparison_would_notice_a_search_that_stops_early(monkeypatch) -> None:
    """With K = 1 alone the search misses the best of them, and the comparison above sees that."""
    t, limit = times(1, 0.1, 30), limit_for(3)
    least = min(slow_time(t, 500.0, *pair) for pair in everything(limit))
    monkeypatch.setattr(module.math, "sqrt", lambda _: 0.0)
    found = Chooser(PREDICTION, limit, N, t).fastest(500.0)
    assert slow_time(t, 500.0, *found) > 1.1 * least


@pytest.mark.parametrize("largest", [2, 3, 7, 40])
@pytest.mark.parametrize("noise", [1.0, 6.0, 33.0, 500.0])
def test_the_balance_has_the_smallest_steps_that_reach_the_noise_scale(largest, noise) -> None:
    limit, batch = limit_for(largest), min(round(noise), N)
    m, k = Chooser(PREDICTION, limit, N).balance(noise)
    pairs = itertools.product(range(1, N + 1), range(1, N + 1))
    fits = [(k, m) for m, k in pairs if PREDICTION.peak_bytes(m, k) <= limit]
    batch = min(batch, max(m * k for k, m in fits))  # not every B can be reached
    assert (k, m) == min((k, m) for k, m in fits if m * k >= batch)


@pytest.mark.parametrize("goal", ["balance", "time"])
@pytest.mark.parametrize("kib", [100, 150, 200, 300, 2000])
@pytest.mark.parametrize("noise", [3.0, 40.0, 3000.0])
def test_what_does_not_fit_is_never_advised(goal, kib, noise) -> None:
    card = processor("a small one", kib * 1024)
    found = advise(WORKLOAD, card, 500, known_noise(noise), times(1, 0.1, 9), goal, SETTINGS)
    if not found.fits:
        assert PREDICTION.peak_bytes(1, 1) > found.limit_bytes
        assert "accumulation cannot help" in found.reasons[0]
        return
    peak = PREDICTION.peak_bytes(found.micro_batch_size, found.accumulation_steps)
    assert peak == found.peak_bytes <= found.limit_bytes <= 0.9 * kib * 1024
    assert found.effective_batch_size <= 500


def test_both_kinds_of_card_that_cannot_help_are_told_apart() -> None:
    floor = advise(WORKLOAD, processor("tiny", 2**10), 100, known_noise(20), settings=SETTINGS)
    assert "however small M is" in " ".join(floor.reasons)
    assert PREDICTION.floor_bytes(1) + 64 < PREDICTION.peak_bytes(1, 1)
    between = math.ceil((PREDICTION.floor_bytes(1) + 64) / 0.9)
    one = advise(WORKLOAD, processor("small", between), 100, known_noise(20), settings=SETTINGS)
    assert "Even the smallest micro-batch" in " ".join(one.reasons)


def test_the_interval_of_the_noise_is_that_of_the_steps() -> None:
    noise = NoiseScale(60.0, 20.0, 200.0, 0.9, 1.0, 1.0, 30)
    card = processor("a small one", math.ceil(limit_for(4) / 0.9) + 16 * 2**10)
    found = advise(WORKLOAD, card, 10_000, noise, settings=SETTINGS)
    assert found.batch_low < found.effective_batch_size < found.batch_high
    assert found.steps_low < found.accumulation_steps < found.steps_high
    assert "90% interval" in " ".join(found.reasons)
    endless = NoiseScale(60.0, 20.0, math.inf, 0.9, 1.0, 1.0, 30)
    assert advise(WORKLOAD, card, 100, endless, times(1, 1, 1), "time", SETTINGS).batch_high <= 100
    assert "without an upper end" in " ".join(advise(WORKLOAD, card, 100, endless, settings=SETTINGS).reasons)


def test_the_whole_batch_and_too_few_examples_are_said() -> None:
    large = processor("large", 2**30)
    whole = advise(WORKLOAD, large, 10_000, known_noise(50), settings=SETTINGS)
    assert (whole.micro_batch_size, whole.accumulation_steps) == (50, 1)
    assert "no accumulation is needed" in whole.reasons[0]
    few = advise(WORKLOAD, large, 30, known_noise(50), settings=SETTINGS)
    assert few.effective_batch_size == 30
    assert "more data, not a larger K" in " ".join(few.reasons)


def test_no_time_is_named_where_none_was_measured() -> None:
    gpu = advise(WORKLOAD, "RTX 3090", 100, known_noise(50))
    assert gpu.seconds is gpu.fastest is gpu.slower is None
    assert "no time is named" in gpu.reasons[-1]
    assert " ms" not in " ".join(gpu.reasons)
    with pytest.raises(ValueError, match="say nothing of RTX 3090"):
        advise(WORKLOAD, "RTX 3090", 100, known_noise(50), times(1, 1, 1))
    assert advise(WORKLOAD, "RTX 3090", 100, known_noise(50), goal="time").goal == "balance"


def test_a_window_whose_inputs_do_not_fit_is_cut_and_said() -> None:
    card = processor("a small one", math.ceil(limit_for(2) / 0.9))
    found = advise(WORKLOAD, card, 10_000, known_noise(5000), settings=SETTINGS)
    assert found.fits
    assert PREDICTION.peak_bytes(1, found.effective_batch_size + 8) > found.limit_bytes
    assert "no more than these fit" in " ".join(found.reasons)


def test_nothing_known_of_the_noise_leaves_the_steps_open() -> None:
    found = advise(WORKLOAD, "RTX 3090", 100, None)
    assert found.fits
    assert found.accumulation_steps == 0
    assert "choose what you know of it" in found.reasons[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"card": "RTX 9999"}, "no card 'RTX 9999' is known"),
        ({"num_samples": 0}, "N = 0"),
        ({"num_samples": 2.5}, "N = 2.5"),
        ({"num_samples": True}, "N = True"),
        ({"noise": NoiseScale(-3.0, -5.0, 1.0, 0.9, 1.0, 1.0, 4)}, "0 or more examples"),
        ({"noise": NoiseScale(3.0, 5.0, 9.0, 0.9, 1.0, 1.0, 4)}, "within its interval"),
        ({"noise": NoiseScale(math.nan, 5.0, 9.0, 0.9, 1.0, 1.0, 4)}, "got nan"),
        ({"goal": "money"}, "balance, time; got 'money'"),
        ({"margin": 1.0}, "got 1.0"),
    ],
)
def test_wrong_inputs_are_refused_with_the_value_and_the_fix(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        advise(**{"workload": WORKLOAD, "card": "T4", "num_samples": 100, "noise": known_noise(9), **change})


def test_no_noise_at_all_asks_for_one_example() -> None:
    found = advise(WORKLOAD, "T4", 100, NoiseScale(0.0, 0.0, 1.0, 0.9, 1.0, 1.0, 4))
    assert found.effective_batch_size == 1
    assert found.examples_factor == math.inf


@pytest.mark.parametrize(("scale", "factor"), [(-1.0, 2.0), (0.0, 2.0), (math.inf, 2.0), (5.0, 0.5)])
def test_what_one_knows_has_to_be_possible(scale, factor) -> None:
    with pytest.raises(ValueError, match="got"):
        known_noise(scale, factor)


def test_the_landscape_is_the_same_as_one_by_one() -> None:
    t, limit, sizes, batches = times(1, 0.5, 3), limit_for(5), (1, 2, 5, 9), (1, 4, 10, 33, 64)
    land = landscape(Chooser(PREDICTION, limit, N, t), 12.0, sizes, batches)
    assert land.peak_more.tolist() == [PREDICTION.peak_bytes(m, 2) for m in sizes]
    assert land.peak_one.tolist() == [PREDICTION.peak_bytes(m, 1) for m in sizes]
    pairs = [Chooser(PREDICTION, limit, N).balance(b) for b in batches[:4]]
    slow = np.array([(12.0 + b) / b * t.seconds(*pair) for b, pair in zip(batches, pairs, strict=False)])
    assert land.time[:4] == pytest.approx(slow / slow.min())
    passes = np.array([(12.0 + b) / b * pair[1] for b, pair in zip(batches, pairs, strict=False)])
    assert land.passes[:4] == pytest.approx(passes / passes.min())
    assert np.isnan([land.time[4], land.passes[4], land.updates[4]]).all(), "more than N"


def test_a_larger_card_changes_the_steps_and_not_the_batch() -> None:
    small, large = (
        advise(WORKLOAD, processor("one", kib * 1024), 10_000, known_noise(256), settings=SETTINGS)
        for kib in (300, 500)
    )
    assert small.accumulation_steps > large.accumulation_steps
    assert abs(small.effective_batch_size - large.effective_batch_size) < small.accumulation_steps


def test_what_is_no_workload_or_no_noise_scale_is_named_with_the_fix() -> None:
    with pytest.raises(TypeError, match=r"such as known_noise\(400\), or None; got 400"):
        advise(WORKLOAD, "RTX 3090", 100, 400)
    with pytest.raises(
        TypeError, match=r"named\('roberta-base', 'classification', 128\); got 'roberta-base'"
    ):
        advise("roberta-base", "RTX 3090", 100, None)
    with pytest.raises(TypeError, match="a number of examples; got '400'"):
        known_noise("400")


def test_without_a_noise_scale_no_more_examples_are_advised_than_there_are() -> None:
    assert advise(WORKLOAD, "RTX 3090", 3, None).micro_batch_size <= 3
