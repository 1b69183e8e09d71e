"""CTC's weightings beside a loop over utterances and PyTorch's own reductions."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from accum_lib.lessons.beyond_text import measure as lens
from accum_lib.problems.audio import Audio


@pytest.fixture(scope="module")
def found():
    return {name: lens.weigh(name) for name in lens.WEIGHTINGS}


def test_the_windows_count_is_exact_and_the_others_are_not(found) -> None:
    assert found["window"].errors.max() < 1e-13
    assert (found["mean of means"].errors[:-1] > 0.01).all()
    assert found["mean of means"].errors[-1] < 1e-13  # one micro-batch: one mean
    assert (found["torch mean"].errors > 0.01).all()


def test_the_weight_of_a_syllable_by_hand(found) -> None:
    lengths = found["window"].lengths
    for name in lens.WEIGHTINGS:
        for m, weights in zip(found[name].micro_batch_sizes, found[name].weights, strict=True):
            parts = [lengths[i // m * m :][:m] for i in range(32)]  # the micro-batch that each is in
            right = {
                "window": np.ones(32),
                "mean of means": [lengths.sum() * m / 32 / part.sum() for part in parts],
                "torch mean": lengths.mean() / lengths,
            }[name]
            assert weights == pytest.approx(right, rel=1e-9)


def test_torch_mean_is_what_pytorch_computes(found) -> None:
    """Its gradient by ``reduction="mean"`` itself, in one batch."""
    problem = Audio(32, torch.float64)
    gradients = []
    for reduction in ("mean", "sum"):
        model, batch = problem.make_model(), problem.batch(torch.arange(32))
        scores = model(batch.features, batch.frames)
        loss = F.ctc_loss(scores, batch.targets, batch.frames, batch.lengths, reduction=reduction)
        parts = torch.autograd.grad(loss, list(model.parameters()))
        gradients.append(torch.cat([p.flatten() for p in parts]))
    whole = gradients[1] / batch.lengths.sum()
    error = float((gradients[0] - whole).norm() / whole.norm())
    assert found["torch mean"].errors == pytest.approx([error] * 6, rel=1e-9)


def test_at_m_1_a_mean_of_means_is_torchs_mean(found) -> None:
    assert found["mean of means"].weights[0] == pytest.approx(found["torch mean"].weights[0])


def test_a_leaking_net_is_not_exact_even_when_weighed_rightly() -> None:
    assert lens.weigh("window", Audio(32, torch.float64, mask=False)).errors[2] > 1e-4


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="weighting must be one of window"):
        lens.weigh("mean")
    with pytest.raises(ValueError, match="needs 32 utterances; the problem has 5"):
        lens.weigh("window", Audio(5))


def test_training_reads_better_and_is_recorded_from_the_start() -> None:
    run = lens.train("window", epochs=5)
    assert run.error_rates[0] > 0.95
    assert run.error_rates[-1] < 0.3
    assert run.scores.shape[0] == len(run.spelled) == 6
    assert run.scores.sum(-1) == pytest.approx(np.ones(run.scores.shape[:2]), abs=1e-5)
    assert run.scores.shape[1] == len(run.seconds)
    assert run.spelled[-1] == run.target
