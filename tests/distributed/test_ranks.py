"""What ``DistributedRanks`` does besides: idle processes, no data, unused parameters, models it refuses."""

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


def test_an_idle_process_is_lent_a_micro_batch_that_weighs_nothing(found) -> None:
    batch = make_batch(3, seed=5)
    true = flatten(big_batch_gradients(make_model(), [batch]))
    for each in found:
        seen, result, gradient = each["stand_in"]
        assert seen == [(3, pytest.approx(float(batch[0].sum())))]
        assert (result.count, result.micro_batches) == (3, 1)
        assert relative_error(gradient, true) < 1e-12


def test_a_parameter_that_the_last_pass_does_not_use_is_averaged_too(found) -> None:
    """Its gradient comes from an earlier pass, under ``no_sync``: the mean over 4 micro-batches."""
    always, sometimes = found[0]["unused"]
    assert always == pytest.approx(torch.full((2,), 1.5, dtype=torch.float64))
    assert sometimes == pytest.approx(torch.full((2,), 0.75, dtype=torch.float64))
    assert all(map(torch.equal, found[0]["unused"], found[1]["unused"]))


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
