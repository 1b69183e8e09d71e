"""Evaluation leaves no trace; logs can be read back, also after a kill and a resumption."""

import json
import math
import sys

import pytest
import torch
from small_training import made_data, made_tokenizer, make_trainer, parameters, same_bits, small_model
from torch.nn import functional as F

from accum_lib.records.training import Update
from accum_lib.roberta import evaluation
from accum_lib.roberta.evaluation import evaluate
from accum_lib.roberta.logs import Reporter, read_log
from accum_lib.roberta.tasks import TASKS


def held_out(task: str = "classification"):
    return TASKS[task](made_data().held_out, made_tokenizer(), 64)


@pytest.mark.parametrize("task", ["classification", "mlm"])
def test_it_is_the_mean_over_single_examples(task) -> None:
    model, data = small_model(task), held_out(task)
    found = evaluate(model, data, batch_size=5, update=3)
    losses, right = [], []
    model.eval()
    for i in range(len(data)):  # one by one, without padding
        batch = data.batch([i], -1)
        logits, labels = model(batch["input_ids"]).logits, batch["labels"].flatten()
        logits = logits.reshape(len(labels), -1)[labels != -100]
        losses += F.cross_entropy(logits, labels[labels != -100], reduction="none").tolist()
        right += (logits.argmax(1) == labels[labels != -100]).tolist()
    assert found.count == len(losses)
    assert found.loss == pytest.approx(math.fsum(losses) / len(losses), rel=1e-12)
    assert found.accuracy == pytest.approx(sum(right) / len(right))
    assert found.update == 3


def test_it_leaves_no_trace() -> None:
    model = small_model().train()
    model.classifier.dropout.eval()  # somebody has frozen this one
    state = torch.get_rng_state()
    evaluate(model, held_out(), 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.classifier.dropout.training
    assert all(m.training for m in model.modules() if m is not model.classifier.dropout)
    assert all(p.grad is None for p in model.parameters())


def test_evaluating_in_the_midst_changes_no_bit() -> None:
    seldom, often = make_trainer(), make_trainer(evaluate_every=1)
    assert len(seldom.run().evaluations) == 2
    assert len(often.run().evaluations) == 6
    assert same_bits(parameters(often), parameters(seldom))


@pytest.mark.parametrize("forgotten", ["random state", "training mode"])
def test_an_evaluation_that_disturbs_is_seen(monkeypatch, forgotten) -> None:
    """The deliberately wrong ones: it draws random numbers, or forgets to switch dropout on again."""
    seldom = make_trainer()
    seldom.run()
    disturbance = {
        "random state": lambda model: torch.rand(1),
        "training mode": lambda model: model.eval(),
    }[forgotten]

    def disturbing(model, *arguments):
        found = evaluate(model, *arguments)
        disturbance(model)
        return found

    monkeypatch.setattr("accum_lib.roberta.trainer.evaluate", disturbing)
    often = make_trainer(evaluate_every=1)
    often.run()
    assert not same_bits(parameters(often), parameters(seldom))
    assert evaluation.evaluate is evaluate


# --- Logs


def update(number: int, loss: float = 0.5, norm: float | None = 1.0) -> Update:
    return Update(number, 0, loss, 32, norm, 1e-3, 8, 4, 100, 0.5, 2**30, None, False)


def test_the_log_of_a_run_can_be_read_back(tmp_path) -> None:
    seen: list = []
    make_trainer(tmp_path, on_update=seen.append).run()
    events = read_log(tmp_path / "log.jsonl")
    assert [e["event"] for e in events].count("update") == 6
    assert (events[0]["event"], events[-1]["event"]) == ("start", "checkpoint")
    last = [e for e in events if e["event"] == "update"][-1]
    assert last["loss"] == seen[-1].loss
    assert last["tokens_per_second"] == seen[-1].tokens / seen[-1].seconds
    assert last["memory_bytes"] > 1e6


def test_updates_that_were_made_anew_are_read_once(tmp_path) -> None:
    first = Reporter(tmp_path, 4)
    for number in (1, 2, 3):
        first.update(update(number, loss=number))
    first.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "update", "upd')  # it was killed while it wrote
    second = Reporter(tmp_path, 4, done=1)
    second.event("resume", update=1)
    second.update(update(2, loss=20))
    second.close()
    events = read_log(tmp_path / "log.jsonl")
    assert [(e["event"], e.get("loss")) for e in events] == [("update", 1), ("resume", None), ("update", 20)]


def test_json_has_no_nan(tmp_path) -> None:
    reporter = Reporter(tmp_path, 1)
    reporter.update(update(1, norm=math.inf))
    reporter.close()
    line = (tmp_path / "log.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail)["grad_norm"] == "inf"


def test_the_bar_says_what_matters(tmp_path, capsys) -> None:
    reporter = Reporter(None, 4, show=True)
    reporter.update(update(1))
    reporter.say("a word")
    reporter.close()
    shown = capsys.readouterr().err
    assert "a word" in shown
    assert "loss 0.500, 200 tokens/s, 1.00 GiB" in shown


def test_tensorboard_gets_the_same_numbers(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reporter = Reporter(tmp_path, 2, tensorboard=True)
    reporter.update(update(1, loss=0.5))
    reporter.update(update(2, loss=0.25))
    reporter.close()
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("training/loss")] == [(1, 0.5), (2, 0.25)]


def test_without_tensorboard_there_is_a_clear_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        Reporter(tmp_path, 2, tensorboard=True)
