"""Alternatives, the claim and the pace: bytes by the lens, exactness by the equivalence lens."""

import numpy as np
import pytest
from memory_cases import error, measured, predicted, workload

from accum_lib.lessons.memory.claims import WAYS, alternatives, gradient_errors, memory_clauses, time_clauses
from accum_lib.lessons.memory.measure import pace
from accum_lib.memory.guard import WouldNotFitError
from accum_lib.memory.planner import useful_down_to
from accum_lib.memory.records import Pace
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import MODELS, mlp_workload, named

ROUNDING = 1e-12
HOOKED = ("adamw-in-backward", "adama", "adamw-bf16-gradients")


@pytest.mark.parametrize("optimizer", HOOKED)
@pytest.mark.parametrize("k", [1, 4])
def test_the_prediction_of_each_alternative_is_what_the_profiler_measures(optimizer, k) -> None:
    case = "encoder", (), Settings(optimizer=optimizer, implementation="for-loop")
    found, real = predicted(*case).peak_bytes(8, k), measured(*case, 8, k)
    assert abs(error(found, real)) < 0.01, f"predicted {found:,}, measured {real:,}"


def test_which_alternatives_are_exact_and_which_are_not() -> None:
    plain, again, rounded, folded, at_once = (gradient_errors(4)[name] for name, _ in WAYS)
    assert max(*plain[:2], *again[:2]) < ROUNDING
    assert 2**-11 < rounded[0] < 2**-6, "eight bits of mantissa"
    assert folded[0] < ROUNDING, "AdamA's first moment is exact"
    assert folded[1] > 0.1, "its second is not: a sum of squares is not the square of a sum"
    assert at_once[2] == 4, "an update for each micro-batch"
    assert {errors[2] for errors in (plain, again, rounded, folded)} == {1}


def test_without_accumulation_all_of_them_are_exact_but_the_rounded_one() -> None:
    found = gradient_errors(1)
    for name, (gradient, moment, updates) in found.items():
        assert updates == 1
        exact = name != "bfloat16 gradient buffer"
        assert (max(gradient, moment) < ROUNDING) == exact, name


def test_each_saves_what_it_is_said_to_save() -> None:
    model = workload("RoBERTa")
    plain, again, rounded, folded, at_once = alternatives(model, 8, 4)
    assert again.peak_bytes < plain.peak_bytes
    assert 1.2 < again.arithmetic < 1.4
    size = sum(4 * p.numel() for p in model.make_model().parameters())
    assert plain.peak_bytes - rounded.peak_bytes == pytest.approx(size / 2, rel=0.1)
    assert plain.peak_bytes - folded.peak_bytes == pytest.approx(size, rel=0.1)
    assert at_once.peak_bytes == pytest.approx(folded.peak_bytes, rel=0.01)


def test_the_claim_about_memory_is_false_at_fixed_m_and_true_at_fixed_b() -> None:
    found = predicted("RoBERTa", (), Settings())
    fixed_m, fixed_b = memory_clauses(found, 64, 64)
    assert not fixed_m.holds
    assert found.peak_bytes(64, 2) > found.peak_bytes(64, 1)
    assert fixed_b.holds
    assert f"From M = {useful_down_to(found)} down" in fixed_b.evidence


def test_where_accumulation_stops_helping_is_where_the_update_is_the_fullest() -> None:
    found = predicted("RoBERTa", (), Settings())
    end = useful_down_to(found)
    by_hand = [m for m in range(1, 200) if found.timeline(m, 2).peak_phase == "update"]
    assert by_hand == list(range(1, end + 1))
    assert end > 0
    sgd = predicted("RoBERTa", (), Settings(optimizer="sgd"))
    assert useful_down_to(sgd) == 0, "plain SGD needs nothing of its own"


def made_up(sizes: list[int], steps: list[int], per_example: list[float]) -> Pace:
    examples = np.array(sizes) * np.array(steps)
    seconds = (examples * np.array(per_example))[:, None] * np.array([[0.9, 1.0, 3.0]])
    return Pace(np.array(sizes), np.array(steps), seconds, np.zeros(len(sizes)))


@pytest.mark.parametrize(("last", "holds"), [(0.6, False), (1.01, False), (1.5, True)])
def test_slower_means_clearly_more_time_for_each_example(last, holds) -> None:
    clause, other = time_clauses(made_up([8, 8], [1, 8], [1.0, last]), made_up([32, 2], [1, 16], [1.0, last]))
    assert clause.holds == other.holds == holds
    assert "fixed M = 8" in clause.claim
    assert "fixed B = 32" in other.claim


def test_the_pace_is_of_real_updates_one_of_each_in_every_round() -> None:
    found = pace(mlp_workload(hidden=16, layers=1), [(8, 1), (4, 2)], rounds=3)
    assert found.seconds.shape == (2, 3)
    assert (found.seconds > 0).all()
    assert found.per_example == pytest.approx(np.median(found.seconds, axis=1) / 8)


def test_the_pace_of_what_does_not_fit_is_not_taken() -> None:
    with pytest.raises(WouldNotFitError, match="predicted to need"):
        pace(mlp_workload(), [(10**9, 1)])


@pytest.mark.parametrize(("model", "head"), [(m, h) for m, (_, heads, _) in MODELS.items() for h in heads])
def test_the_known_models_sizes_are_straight_lines(model, head) -> None:
    """Which is why two traces suffice for them. A third one has to lie on the lines."""
    from accum_lib.memory.cuda import CUDA
    from accum_lib.memory.lines import through
    from accum_lib.memory.trace.update import trace_update

    layers = {"gpt2": "n_layer", "distilbert": "n_layers", "t5-small": "num_layers"}
    layer = layers.get(model.split("-m")[0], "num_hidden_layers")
    source = named(model, head, 32, **{layer: 2})
    assert source.known
    settings = Settings(precision="bf16", checkpointing=True)
    lines = through({m: trace_update(source, m, 2, settings, CUDA()) for m in (2, 16, 7)})
    assert len(lines.constant) > 100
