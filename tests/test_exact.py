"""Three frameworks with ``accum_lib.exact``: the gradient of one big batch, to 1e-10 in float64."""

from dataclasses import replace
from types import SimpleNamespace

import exact_jobs
import pytest
import torch

from accum_lib.check import check_case
from accum_lib.check.frameworks import cases
from accum_lib.check.frameworks.accelerate_loop import exact_accelerate_loop
from accum_lib.check.frameworks.lightning_loops import exact_lightning_loop
from accum_lib.check.frameworks.transformers_trainer import trainer_loop
from accum_lib.distributed import launch
from accum_lib.exact import WindowTraining, accelerate_updates, evened, in_micro_batches, trainer_loss
from accum_lib.vectors import gradient_of

SUM, COUNT = exact_jobs.loss_sum, cases.count_next_tokens
KNOWN = pytest.mark.skipif(not exact_jobs.trainer_is_known(), reason="its Trainer counts labels unshifted")
LOOPS = {
    "trainer": trainer_loop(trainer_loss),
    "accelerate": exact_accelerate_loop(SUM, COUNT),
    "lightning": exact_lightning_loop(SUM, COUNT),
}


@pytest.mark.parametrize("steps", exact_jobs.STEPS)
@pytest.mark.parametrize("name", [pytest.param("trainer", marks=KNOWN), "accelerate", "lightning"])
def test_each_is_exact_with_a_short_last_window(name, steps) -> None:
    """Eight ragged micro-batches: K = 3 leaves two, and of seven K = 2 leaves one and 8 has too few."""
    case = cases.causal_lm().case
    batches = case.batches if steps == 3 else case.batches[:7]
    case = replace(case, loss_sum=SUM, count=COUNT, accumulation_steps=steps, batches=batches)
    report = check_case(LOOPS[name], case)
    assert report.ok
    assert report.relative_error < 1e-10


@pytest.fixture(scope="module")
def two() -> list[dict]:
    return launch(exact_jobs.all_of_them, 2)


def big_batches(name: str, k: int) -> list[torch.Tensor]:
    """The gradient of each window over both processes, from one loss."""
    model, optimizer, _ = exact_jobs.made()
    batches, cut = exact_jobs.batches(), exact_jobs.CUT
    shards = [batches[:7][0::2], batches[:7][1::2]] if name == "trainer" else [batches[:cut], batches[cut:]]
    found = []
    for start in range(0, max(map(len, shards)), k):
        window = [batch for shard in shards for batch in shard[start : start + k]]
        (sum(SUM(model, b) for b in window) / sum(COUNT(b) for b in window)).backward()
        found.append(gradient_of(model))
        optimizer.step()
        optimizer.zero_grad()
    return found


def worst(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    assert len(found) == len(wanted)
    return max(float((f - w).norm() / w.norm()) for f, w in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", [pytest.param("trainer", marks=KNOWN), "accelerate", "lightning"])
def test_two_processes_with_uneven_shards_are_exact(two, name) -> None:
    for k in exact_jobs.STEPS:
        for rank in two:
            assert worst(rank[name, k], big_batches(name, k)) < 1e-10


@KNOWN
def test_a_trainer_that_repeats_examples_is_told_apart(two) -> None:
    """Seven micro-batches for two processes, not evened: the Trainer counts one of them twice."""
    assert all(worst(two[0]["repeats", k], big_batches("trainer", k)) > 1e-3 for k in exact_jobs.STEPS)


def test_labels_of_samples_and_of_several_kinds() -> None:
    """Cross-entropy, squares and binary cross-entropy: the head's own mean, times what it counts."""
    logits = torch.randn(4, 3, dtype=torch.float64)
    kinds = {
        "single_label_classification": torch.tensor([0, 2, 1, 1]),
        "multi_label_classification": torch.rand(4, 3).round(),
        "regression": torch.randn(4, 3),
    }
    for problem, labels in kinds.items():
        model = cases.make_model("RobertaForSequenceClassification").double()
        model.config.problem_type = problem
        mean = {
            "single_label_classification": torch.nn.functional.cross_entropy,
            "multi_label_classification": torch.nn.functional.binary_cross_entropy_with_logits,
            "regression": torch.nn.functional.mse_loss,
        }[problem](logits, labels if labels.dtype == torch.long else labels.double())
        got = trainer_loss(model)({"logits": logits}, labels, torch.tensor(labels.numel()))
        assert torch.allclose(got, mean)


REFUSED = {
    "counted no labels": (None, {"logits": torch.zeros(2, 3)}, 2),
    "several GPUs": (torch.tensor([1, 2]), {"logits": torch.zeros(2, 3)}, torch.tensor([2, 2])),
    "no logits": (torch.tensor([1, 2]), {"loss": torch.zeros(())}, 2),
    r"logits of shape \(2, 3\) for labels of shape \(5,\)": (
        torch.zeros(5).long(),
        {"logits": torch.zeros(2, 3)},
        5,
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_trainer_loss_refuses_in_one_sentence(words) -> None:
    labels, outputs, number = REFUSED[words]
    with pytest.raises(ValueError, match=words):
        trainer_loss(cases.make_model("RobertaForSequenceClassification"))(outputs, labels, number)


def test_a_head_whose_logits_do_not_tell_its_loss_is_refused() -> None:
    class TinyForXVector(torch.nn.Module): ...

    with pytest.raises(ValueError, match="TinyForXVector has another loss"):
        trainer_loss(TinyForXVector())


def test_an_old_transformers_is_refused_for_a_causal_model(monkeypatch) -> None:
    monkeypatch.setattr("transformers.__version__", "5.0.0")
    with pytest.raises(ImportError, match=r"with transformers 5\.0\.0"):
        trainer_loss(cases.make_model("GPT2LMHeadModel"))


def test_the_others_refuse_what_would_not_be_exact() -> None:
    own_k = SimpleNamespace(gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match="gradient_accumulation_steps=4"):
        next(accelerate_updates(own_k, None, None, [], 2, SUM, COUNT))
    repeats = SimpleNamespace(gradient_accumulation_steps=1, num_processes=2, even_batches=True)
    with pytest.raises(ValueError, match="even_batches=False"):
        next(accelerate_updates(repeats, None, None, SimpleNamespace(rng_types=[]), 2, SUM, COUNT))
    module = WindowTraining()
    module.trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=object()))
    with pytest.raises(ValueError, match="16-mixed"):
        module.training_step([], 0)


def test_what_fills_up_counts_nothing() -> None:
    filled = evened([{"labels": 1}, {"labels": 0}, {"labels": 2}], 4)
    assert [int(each["labels"]) for each in filled] == [1, 0, 2, -100]
    assert len(evened(filled, 4)) == 4
    assert [len(m) for m in in_micro_batches(2)([1, 2, 3])] == [2, 1]
