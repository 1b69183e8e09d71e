"""What ``DistributedRanks`` does besides: idle processes, no data, unused parameters, models it refuses."""

import os

import distributed_jobs as jobs
import pytest
import torch
from reference import big_batch_gradients, flatten, make_batch, make_model, relative_error

from accum_lib.accumulate import accumulate
from accum_lib.distributed import DistributedRanks, launch


@pytest.fixture(scope="module")
def found() -> list[dict]:
    """All small cases in one pair of processes; a dictionary from each."""
    return launch(jobs.small_cases, 2)


def test_nobody_else_can_reach_the_processes(found) -> None:
    """They unpickle what they read where they meet, so it must be no server, and on no network."""
    kinds, theirs, ours = zip(*(each["listening"] for each in found), strict=True)
    assert set(kinds) == {"FileStore"}
    assert set().union(*theirs) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert set().union(*ours) == jobs.addresses(os.getpid())


def test_an_idle_process_is_lent_a_micro_batch_that_weighs_nothing(found) -> None:
    batch = make_batch(3, seed=5)
    true = flatten(big_batch_gradients(make_model(), [batch]))
    for each in found:
        seen, result, gradient = each["stand_in"]
        assert seen == [(3, pytest.approx(float(batch[0].sum())))]
        assert (result.count, result.micro_batches) == (3, 1)
        assert relative_error(gradient, true) < 1e-12


def in_one_process(name: str, window: int) -> list[torch.Tensor | None]:
    """The gradient of the mean over all processes' micro-batches, each run once."""
    model = jobs.Branches()
    batches = [batch for mine in jobs.branch_batches(name, window) for batch in mine]
    total = sum(len(x) for x, _ in batches)
    (sum(model(*batch).sum() for batch in batches) / total).backward()
    return [p.grad for p in model.parameters()]


def apart(found: list[torch.Tensor | None], expected: list[torch.Tensor | None]) -> bool:
    return any(
        (a is None) != (b is None) or (a is not None and not torch.allclose(a, b, rtol=1e-12))
        for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("setting", jobs.BRANCHED, ids=str)
def test_a_parameter_that_some_passes_do_not_use_is_averaged_too(found, setting) -> None:
    """Whether DDP searches for it or not; one that no process uses has no gradient, as in one process."""
    for each in found:
        for window, gradients in enumerate(each["unused"][setting]):
            assert not apart(gradients, in_one_process(setting[0], window))


def test_ddp_by_itself_would_let_the_processes_part(found) -> None:
    """The deliberately wrong one: no error, and each process has a gradient of its own."""
    first, second = (each["apart"][-1] for each in found)
    assert apart(first, second)


def test_what_recomputation_hides_is_an_error_of_every_process(found) -> None:
    """PyTorch would average nothing of that bucket, without a word until the next window."""
    for each, branch in zip(found, "ab", strict=True):
        missing, exact = each["hidden"]
        assert f"waits for {branch}.weight, {branch}.bias, never.weight, never.bias, which" in missing
        assert exact == "nothing was raised"


def test_a_static_graph_is_averaged_in_every_pass_or_refused(found) -> None:
    for each in found:
        refused, exact = each["static"]
        assert "static_graph=True) cannot leave out the averaging" in refused
        assert exact == "nothing was raised"


def test_no_data_and_nothing_that_counts_are_said_by_all(found) -> None:
    for each in found:
        assert "no micro-batches in any of the 2 processes" in each["no_data"]
        assert "the window's 2 micro-batches count 0 in total" in each["nothing_counts"]


def test_a_model_that_does_not_average_is_refused(found) -> None:
    assert "a Sequential does not average its gradients" in found[0]["refused"]


def test_without_a_process_group_it_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="with process_group"):
        DistributedRanks(make_model())


def test_both_infinities_in_one_window_are_still_named() -> None:
    model, signs = make_model(), iter([1.0, -1.0])
    with pytest.raises(ValueError, match="the loss of micro-batch 0 is inf"):
        accumulate(
            model,
            [make_batch(1), make_batch(1)],
            lambda m, b: jobs.loss_sum(m, b) * float("inf") * next(signs),
            jobs.count,
        )
