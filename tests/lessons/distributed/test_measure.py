"""Bytes counted by DDP's hook against a count by hand; times and forecast against obvious sums."""

from dataclasses import replace

import distributed_jobs as jobs
import numpy as np
import pytest

from accum_lib.distributed import launch
from accum_lib.lessons.distributed import networks as slow
from accum_lib.lessons.distributed.measure import busy_seconds, exposed_seconds
from accum_lib.lessons.distributed.networks import (
    NotPermittedError,
    fit,
    measure_slowed,
    network_from,
    predict_times,
)
from accum_lib.lessons.distributed.record import Network, ProcessWork, Span, Traffic

PARAMETERS = 4 * 5 + 5 + 5 * 3 + 3  # of reference.py's model
BYTES = 8 * PARAMETERS  # float64
NETWORK = Network(latency=1e-4, bandwidth=1e9)


@pytest.fixture(scope="module")
def counted() -> list[dict]:
    """From each of two processes: {(K, every): (calls, bytes, kinds of spans)} of one update."""
    return launch(jobs.traffic, 2, (1, 2, 4, 8))


def test_bytes_of_an_update_do_not_depend_on_k_if_averaging_is_deferred(counted) -> None:
    for found in counted:
        assert {found[k, False][1] for k in (1, 2, 4, 8)} == {BYTES}


def test_bytes_of_an_update_are_k_fold_if_every_pass_averages(counted) -> None:
    for found in counted:
        assert [found[k, True][1] for k in (1, 2, 4, 8)] == [k * BYTES for k in (1, 2, 4, 8)]
        assert found[8, True][0] == 8 * found[1, True][0], "calls, too"


def test_every_pass_and_every_all_reduce_is_on_the_timeline(counted) -> None:
    assert counted[0][4, False][2] == {"forward": 4, "backward": 4, "all-reduce": 1}
    assert counted[0][4, True][2] == {"forward": 4, "backward": 4, "all-reduce": 4}


def test_fsdp_keeps_whole_gradients_where_it_does_not_average() -> None:
    deferred, every = launch(jobs.shards_of_fsdp, 2)[0]
    assert deferred.kept_bytes == BYTES
    assert every.kept_bytes == 8 * (3 * 4 + 3 + 2 * 5 + 2), "process 0 has 3 rows of 5, and 2 of 3"
    assert every.scatters == 3 * deferred.scatters, "three micro-batches"
    assert every.gathers == deferred.gathers > 0, "parameters are gathered in every pass either way"


def test_overlap_and_waiting_against_a_count_of_milliseconds() -> None:
    """A slow reference that shares nothing: look at each thousandth of a second."""
    spans = (
        Span("forward", 0.0, 0.1),
        Span("backward", 0.1, 0.3),
        Span("all-reduce", 0.2, 0.25),
        Span("all-reduce", 0.22, 0.4),
        Span("all-reduce", 0.45, 0.5),
    )
    ticks = np.arange(0, 0.6, 0.001) + 0.0005
    under_way = {s: (s.start <= ticks) & (ticks < s.stop) for s in spans}
    sending = np.any([when for s, when in under_way.items() if s.kind == "all-reduce"], axis=0)
    computing = np.any([when for s, when in under_way.items() if s.kind != "all-reduce"], axis=0)
    assert busy_seconds([s for s in spans if s.kind == "all-reduce"]) == pytest.approx(sending.sum() / 1000)
    assert exposed_seconds(spans) == pytest.approx((sending & ~computing).sum() / 1000)


def ring(payload: float, world_size: int, network: Network) -> float:
    """Step by step: scatter-reduce, then all-gather, each process sends one part in every step."""
    seconds = 0.0
    for _ in ("reduce", "gather"):
        for _ in range(world_size - 1):
            seconds += network.latency + (payload / world_size) / network.bandwidth
    return seconds


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_the_ring_formula_against_its_steps(world_size) -> None:
    assert NETWORK.all_reduce_seconds(1e6, world_size) == pytest.approx(ring(1e6, world_size, NETWORK))
    payload = np.array([1e3, 1e5, 1e7])
    found = network_from(payload, np.array([ring(p, world_size, NETWORK) for p in payload]), world_size)
    assert found.latency == pytest.approx(NETWORK.latency)
    assert found.bandwidth == pytest.approx(NETWORK.bandwidth)


def made(steps: int, every: bool, c: float, a: float, u: float) -> Traffic:
    """What a machine with these times would give."""
    seconds = sum(c + (a if every or k == steps - 1 else 0) for k in range(steps)) + u
    return Traffic(2, 4, steps, every, 1, 10**6, seconds, 0.0, 0.0, ())


def test_the_fit_finds_the_times_that_measurements_were_made_from() -> None:
    a = 0.6 * ring(1e6, 2, NETWORK)  # the rest is hidden
    found = fit([made(k, every, 0.01, a, 0.003) for k in (1, 4, 16) for every in (False, True)], NETWORK)
    assert (found.pass_seconds, found.update_seconds) == pytest.approx((0.01, 0.003))
    assert found.averaging_seconds(NETWORK, 2) == pytest.approx(a)
    for k in (2, 32):
        for every in (False, True):
            true = made(k, every, 0.01, a, 0.003).seconds
            assert found.update_time(NETWORK, 2, k, every) == pytest.approx(true)


def test_that_comparison_fails_on_a_wrong_model() -> None:
    """With the two ways of averaging confused, no times explain the measurements."""
    measured = [made(k, every, 0.01, 0.05, 0.003) for k in (1, 4, 16) for every in (False, True)]
    confused = fit([replace(t, every_micro_batch=not t.every_micro_batch) for t in measured], NETWORK)
    off = [abs(confused.update_time(NETWORK, 2, t.accumulation_steps, t.every_micro_batch) / t.seconds - 1)
           for t in measured]  # fmt: skip
    assert max(off) > 0.5


def test_the_forecast_against_its_definition() -> None:
    workload = ProcessWork(1e6, 4, pass_seconds=0.01, update_seconds=0.002)
    found = predict_times(workload, NETWORK, 8, (1, 2, 4, 64), tolerance=0.1)
    a = ring(1e6, 8, NETWORK)
    for i, k in enumerate(found.steps):
        assert found.deferred[i] == pytest.approx((k * 0.01 + 0.002 + a) / (4 * k))
        assert found.every[i] == pytest.approx((k * (0.01 + a) + 0.002) / (4 * k))
        assert (found.bytes_deferred[i], found.bytes_every[i]) == pytest.approx((1e6 / 4 / k, 1e6 / 4))
    assert found.enough == next(k for k in (1, 2, 4, 64) if a <= 0.1 * (k * 0.01 + 0.002))
    assert predict_times(workload, Network(1.0, 1e9), 8, (1, 2)).enough is None


def test_where_a_network_cannot_be_slowed_it_says_so(monkeypatch) -> None:
    monkeypatch.setattr(slow.shutil, "which", lambda tool: None if tool == "tc" else tool)
    with pytest.raises(NotPermittedError, match="no tc"):
        measure_slowed(100)
    with pytest.raises(ValueError, match="megabits must be above 0; got 0"):
        measure_slowed(0)
    monkeypatch.setattr(slow, "SCRIPT", "echo forbidden >&2; false {rate}")
    monkeypatch.setattr(slow.shutil, "which", lambda tool: tool)
    with pytest.raises(NotPermittedError, match="does not permit it"):
        measure_slowed(100)


def test_the_record_of_a_setting() -> None:
    found = Traffic(2, 8, 4, False, 3, 6400, 1.0, 0.4, 0.1, ())
    assert (found.examples, found.bytes_per_example, found.overlap) == (64, 200.0, 0.75)
