"""Several processes leave the gradient of one big batch in float64, however uneven their shards are."""

from functools import cache

import distributed_jobs as jobs
import pytest
import torch
from distributed_jobs import MAX_NORM, RATE, Case
from reference import big_batch_gradients, big_batch_loss, count, flatten, make_model, relative_error

from accum_lib.distributed import launch

TOLERANCE = 1e-12
KINDS = [(kind, every, "right") for kind in ("ddp", "fsdp") for every in (False, True)]
WRONG = [("ddp", False, name) for name in jobs.WRONG]
SLOW = pytest.param(4, 1, marks=pytest.mark.slow)


@cache
def answers(case: Case) -> list[tuple]:
    """One process, one big batch for each update, written without any code of the library."""
    model, updates, shards = make_model(), [], jobs.shards(case)
    for start in range(0, max(case.shards), case.accumulation_steps):
        window = [b for shard in shards for b in shard[start : start + case.accumulation_steps]]
        gradients = big_batch_gradients(model, window)
        norm = flatten(gradients).norm()
        with torch.no_grad():
            loss = float(big_batch_loss(model, window))
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= RATE * g * min(1.0, MAX_NORM / (float(norm) + 1e-6))  # torch adds this to the norm
        tokens = sum(count(b) for b in window)
        updates.append((flatten(gradients), loss, tokens, len(window), float(norm)))
    return updates


def errors(case: Case, found: list[tuple]) -> list[float]:
    """The gradient's relative error in each update; everything else must agree, too."""
    expected = answers(case)
    assert len(found) == len(expected), "as many updates"
    for (_, loss, tokens, number, norm), true in zip(found, expected, strict=True):
        assert (tokens, number) == true[2:4]
        assert (loss, norm) == pytest.approx((true[1], true[4]), rel=TOLERANCE)
    return [relative_error(f[0], t[0]) for f, t in zip(found, expected, strict=True)]


def run(world_size: int, cases: list[Case]) -> list[dict]:
    """What each process found; the wrong variants as well, where they are compared."""
    return launch(jobs.run_grids, world_size, cases, KINDS + WRONG * (world_size == 2))


@pytest.fixture(scope="module")
def of_two() -> list[dict]:
    return run(2, jobs.grid(2))


# Of four processes, by default every fifth case: all ways to share out, each K, each M.
@pytest.mark.parametrize(("world_size", "one_in"), [(1, 1), (2, 1), (4, 5), SLOW])
def test_every_process_has_the_big_batchs_gradient(world_size, one_in, request) -> None:
    cases = jobs.grid(world_size)[::one_in]
    assert {c.shards for c in cases} == {c.shards for c in jobs.grid(world_size)}
    assert ({c.micro_batch_size for c in cases}, {c.accumulation_steps for c in cases}) == ({1, 4}, {1, 3, 4})
    by_rank = request.getfixturevalue("of_two") if world_size == 2 else run(world_size, cases)
    assert len(by_rank) == world_size
    compared = 0
    for found in by_rank:
        for kind in KINDS:
            for case, updates in zip(cases, found[kind], strict=True):
                assert max(errors(case, updates)) < TOLERANCE, (kind, case)
                compared += len(updates)
    assert compared >= 100 * world_size / one_in


@pytest.mark.parametrize("wrong", jobs.WRONG)
def test_the_comparison_fails_on_wrong_variants(wrong, of_two) -> None:
    """The same grid and the same comparison: every wrong variant is far off in most cases."""
    found = [
        relative_error(ours[0], true[0])
        for case, updates in zip(jobs.grid(2), of_two[0]["ddp", False, wrong], strict=True)
        for ours, true in zip(updates, answers(case), strict=True)
    ]
    assert sum(error > 1e-3 for error in found) > len(found) / 2, found
