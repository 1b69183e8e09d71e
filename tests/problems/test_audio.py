"""The audio problem: exact under accumulation, counted by hand, and its two leaks shown leaking."""

import pytest
import torch
from torch.nn import functional as F

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.problems.audio import (
    BINS,
    NAMES,
    Audio,
    can_be_aligned,
    frames_needed,
    sequence_error_rate,
    spelled,
)
from accum_lib.problems.base import micro_batches


def gradient(problem: Audio, m: int, indices=None) -> torch.Tensor:
    indices = torch.arange(problem.num_samples) if indices is None else indices
    model = problem.make_model()
    accumulate(model, [problem.batch(i) for i in indices.split(m)], problem.loss_sum, problem.count)
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def by_hand(problem: Audio) -> torch.Tensor:
    """One utterance at a time, without padding or batches; CTC in its one-sample form."""
    model, total, syllables = problem.make_model(), 0.0, 0
    for features, target in zip(problem.features, problem.targets, strict=True):
        scores = model(features[None], torch.tensor([features.shape[1]]))[:, 0]
        loss = F.ctc_loss(scores, target, (len(scores),), (len(target),), reduction="sum")
        if loss.isfinite():
            parts = torch.autograd.grad(loss, list(model.parameters()))
            total = total + torch.cat([p.flatten() for p in parts])
            syllables += len(target)
    return total / syllables


def off(found, right) -> float:
    return float((found - right).norm() / right.norm())


@pytest.mark.parametrize("too_short", [0, 2])
@pytest.mark.parametrize("m", [1, 3, 12])
def test_every_m_gives_the_gradient_of_a_loop_over_utterances(m, too_short) -> None:
    problem = Audio(12, torch.float64, too_short=too_short)
    assert off(gradient(problem, m), by_hand(problem)) < 1e-12


def test_without_the_mask_padding_leaks() -> None:
    problem = Audio(12, torch.float64, mask=False)
    assert off(gradient(problem, 1), by_hand(problem)) < 1e-12  # nothing is padded
    assert off(gradient(problem, 12), by_hand(problem)) > 1e-4


def test_counting_the_utterances_that_are_too_short_is_noticed(monkeypatch) -> None:
    problem = Audio(12, torch.float64, too_short=2)
    monkeypatch.setattr(problem, "count", lambda batch: int(batch.lengths.sum()))
    assert off(gradient(problem, 3), by_hand(problem)) > 1e-2


def test_an_infinite_loss_is_why_zero_infinity_is_there() -> None:
    problem = Audio(6, torch.float64, too_short=2)
    batch, model = problem.batch(torch.arange(6)), problem.make_model()
    scores = model(batch.features, batch.frames)
    plain = F.ctc_loss(scores, batch.targets, batch.frames, batch.lengths, reduction="none")
    assert plain.isinf().tolist() == [True, True, False, False, False, False]
    assert can_be_aligned(batch).tolist() == (~plain.isinf()).tolist()
    assert problem.losses(model, batch)[:2].tolist() == [0, 0]


@pytest.mark.parametrize(("target", "frames"), [([1], 1), ([1, 2], 2), ([1, 1], 3), ([2, 2, 2, 1, 1], 8)])
def test_the_frames_a_target_needs(target, frames) -> None:
    assert frames_needed(target) == frames


def test_the_seed_decides_everything_and_leaves_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = Audio(5), Audio(5), Audio(5, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.features, same.features, strict=True))
    assert [t.tolist() for t in one.targets] != [t.tolist() for t in other.targets]
    assert torch.equal(one.make_model(3).out.weight, same.make_model(3).out.weight)


def test_shapes_and_counts_by_hand() -> None:
    problem = Audio(4)
    batch = problem.batch(torch.tensor([2, 0]))
    lengths = [len(problem.targets[i]) for i in (2, 0)]
    assert batch.features.shape == (2, BINS, max(problem.features[i].shape[1] for i in (2, 0)))
    assert batch.lengths.tolist() == lengths
    assert problem.count(batch) == sum(lengths)
    assert len(batch) == 2
    scores = problem.make_model()(batch.features, batch.frames)
    assert scores.shape == (batch.features.shape[2], 2, len(NAMES) + 1)


def test_reading_removes_repeats_and_blanks() -> None:
    path = torch.tensor([0, 2, 2, 0, 2, 1, 1, 5])
    assert spelled(F.one_hot(path, 7), 7) == [2, 2, 1]


@pytest.mark.parametrize(("settings", "message"), [({"num_samples": 0}, "num_samples"), ({"num_samples": 2, "too_short": 3}, "too_short")])  # fmt: skip # noqa: E501
def test_bad_sizes_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Audio(**settings)


def test_it_learns_to_read() -> None:
    problem, held_out = Audio(96), Audio(48, seed=1)
    model = problem.make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=problem.default_learning_rate)
    assert sequence_error_rate(held_out, model) > 0.95
    order = torch.Generator().manual_seed(0)
    for _ in range(12):
        for window in windows(micro_batches(problem, 4, order), 2):
            accumulate(model, window, problem.loss_sum, problem.count)
            apply_update(model, optimizer, max_grad_norm=5.0)
    assert sequence_error_rate(held_out, model) < 0.5
