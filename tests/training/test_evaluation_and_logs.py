"""Evaluation leaves no trace; logs can be read back, also after a kill and a resumption."""

import json
import math
import sys

import pytest
import torch
from small_training import made_data, made_tokenizer, make_trainer, parameters, same_bits, small_model
from torch.nn import functional as F

from accum_lib.packing import packed
from accum_lib.training import evaluation
from accum_lib.training.data.tasks import TASKS
from accum_lib.training.evaluation import evaluate
from accum_lib.training.logs import Reporter, read_log
from accum_lib.training.records import UpdateRecord


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_added_up_in_thirty_two(dtype) -> None:
    """In 16 bits the sum of 64 losses is off by half a percent, and by another amount for other batches."""
    data = held_out()
    logits = torch.randn(len(data), 2, generator=torch.Generator().manual_seed(0)).to(dtype) + 3
    places = iter([range(16), *[range(i, i + 1) for i in range(16)]])

    def predict(model, batch):
        return logits[list(next(places))], torch.zeros(len(batch["labels"]), dtype=torch.long)

    expected = float(F.cross_entropy(logits.double(), torch.zeros(len(data), dtype=torch.long)))
    for batch_size in (16, 1):
        assert evaluate(small_model(), data, batch_size, predict=predict).loss == pytest.approx(
            expected, rel=1e-6
        )
    wrong = float(F.cross_entropy(logits, torch.zeros(len(data), dtype=torch.long), reduction="sum")) / 16
    assert wrong != pytest.approx(expected, rel=1e-6)


def test_held_out_data_in_which_nothing_counts_are_refused() -> None:
    data = held_out()

    def predict(model, batch):
        return torch.zeros(len(batch["labels"]), 2), torch.full((len(batch["labels"]),), -100)

    with pytest.raises(ValueError, match="none of the 16 held-out examples has a label that counts"):
        evaluate(small_model(), data, 5, predict=predict)


def test_results_by_class_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    data, dice = held_out(), torch.Generator().manual_seed(1)
    answers = torch.randn(len(data), 3, generator=dice)
    labels = [example.label for example in data.examples]
    turn = iter(range(100))

    def predict(model, batch):
        return answers[order[next(turn)]], batch["labels"]

    order = packed(data.lengths, 1000, most=5)
    found = evaluate(small_model(), data, 5, predict=predict, max_tokens=1000)
    given = answers.argmax(dim=1).tolist()
    _, recall, f1, have = precision_recall_fscore_support(labels, given, labels=[0, 1, 2], zero_division=0)
    assert found.f1 == pytest.approx(f1)
    assert [row[0] for row in found.classes] == have.tolist()
    assert [row[2] / max(1, row[0]) for row in found.classes] == pytest.approx(recall)
    assert found.macro_f1 == pytest.approx(f1_score(labels, given, average="macro", zero_division=0))
    assert 0 < found.macro_f1 != found.accuracy  # what a mean over examples would be
    assert evaluate(small_model("mlm"), held_out("mlm"), 5).classes == ()


def test_longer_held_out_texts_take_no_more_tokens_at_a_time_than_training_does() -> None:
    lengths = (9, 40, 10, 11, 10, 39, 9)
    found = packed(lengths, 40, most=4)
    assert found == [[1], [5], [3], [2, 4, 0, 6]]  # 40, 39, 11, 40: 33 and 18 would be more
    assert packed(lengths, 12, most=2) == [[1], [5], [3], [2], [4], [0], [6]]
    assert [len(batch) for batch in packed(lengths, 1000, most=4)] == [3, 4]  # least padding
    trainer, seen = make_trainer(max_updates=1, micro_batch_size=4), []
    predict = trainer.held_out.predict

    def watched(model, batch):
        seen.append(batch["input_ids"].shape)
        return predict(model, batch)

    trainer.held_out.predict = watched
    trainer.task.longest = 2  # all that it is told of training's texts
    trainer.run()
    assert seen
    assert all(rows * tokens <= 8 or rows == 1 for rows, tokens in seen)


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

    def disturbing(model, *arguments, **more):
        found = evaluate(model, *arguments, **more)
        disturbance(model)
        return found

    monkeypatch.setattr("accum_lib.training.trainer.evaluate", disturbing)
    often = make_trainer(evaluate_every=1)
    often.run()
    assert not same_bits(parameters(often), parameters(seldom))
    assert evaluation.evaluate is evaluate


# --- Logs


def update(number: int, loss: float = 0.5, norm: float | None = 1.0) -> UpdateRecord:
    return UpdateRecord(number, 0, loss, 32, norm, 1e-3, 8, 4, 100, 0.5, 2**30, None, False)


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


def logged(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_updates_that_are_made_anew_are_logged_once(tmp_path) -> None:
    first = Reporter(tmp_path, 4)
    for number in (1, 2, 3):
        first.window = number
        first.update(update(number, loss=number))
    first.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "update", "upd')  # it was killed while it wrote
    second = Reporter(tmp_path, 4, done=1)
    second.event("resume", update=1)
    second.window = 2
    second.update(update(2, loss=20))
    second.close()
    assert [(e["event"], e.get("loss")) for e in logged(tmp_path)] == [
        ("update", 1), ("resume", None), ("update", 20)
    ]  # fmt: skip


@pytest.mark.parametrize("at", [3, 4, 5])
def test_a_run_that_crashes_after_a_checkpoint_logs_each_update_once(tmp_path, at) -> None:
    """The last checkpoint is of update 2 or 4, of six."""

    def crash(done) -> None:
        if done.update == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, save_every=2, on_update=crash).run()
    seen: list = []
    make_trainer(tmp_path, save_every=2, on_update=seen.append).run(resume=True)
    updates = [e for e in logged(tmp_path) if e["event"] == "update"]
    assert [e["update"] for e in updates] == [1, 2, 3, 4, 5, 6]
    assert [e["seconds"] for e in updates[-len(seen) :]] == [u.seconds for u in seen], "the later ones"
    places = [e["window"] for e in logged(tmp_path)]
    assert places == sorted(places)
    assert [e["event"] for e in logged(tmp_path)].count("resume") == 1


def test_a_log_of_an_older_version_goes_on_too(tmp_path) -> None:
    """Its events had no windows; and what is no event is left alone."""
    old = [{"event": "start", "update": 0}, *({"event": "update", "update": n} for n in (1, 2, 3))]
    (tmp_path / "log.jsonl").write_text(
        "".join(json.dumps(event) + "\n" for event in [*old[:2], 7, *old[2:]])
    )
    Reporter(tmp_path, 4, done=2).close()
    assert logged(tmp_path) == [*old[:2], 7, old[2]]


def test_a_run_that_was_begun_anew_is_read_without_the_dead_one(tmp_path) -> None:
    """And what somebody else has written there is let be."""
    (tmp_path / "log.jsonl").write_text('{"event": "of others"}\n')
    for loss in (1.0, 2.0):
        reporter = Reporter(tmp_path, 4)
        reporter.event("start")
        reporter.update(update(1, loss=loss))
        reporter.close()
    assert [(e["event"], e.get("loss")) for e in read_log(tmp_path / "log.jsonl")] == [
        ("of others", None), ("start", None), ("update", 2.0)
    ]  # fmt: skip


class FullDisk:
    """A file on a disk that is full from one moment to another, and takes a part of what it is given."""

    def __init__(self, file, full: set[int]) -> None:
        self.file, self.full, self.writes = file, full, 0

    def write(self, content: bytes) -> int:
        self.writes += 1
        return self.file.write(content[:7] if self.writes in self.full else content)

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_does_not_end_a_run_and_leaves_no_half_line(tmp_path, capsys) -> None:
    reporter = Reporter(tmp_path, 6)
    reporter._lines._file = FullDisk(reporter._lines._file, full={2, 3, 5})
    for number in range(1, 7):
        reporter.update(update(number))
    reporter.close()
    assert [e["update"] for e in read_log(tmp_path / "log.jsonl")] == [1, 4, 6]
    said = capsys.readouterr().err
    assert said.count("log.jsonl cannot be written (no space left on device). Training goes on") == 1


def test_half_a_line_of_a_killed_run_is_no_event(tmp_path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"event": "a \u2028 b"}\n{"event": "c"}\n{"ev')
    assert [e["event"] for e in read_log(log)] == ["a \u2028 b", "c"]


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[" * 100_000, b"[1]", b'{"event": '])
def test_what_is_no_event_is_named_by_its_line_and_ends_no_run(line, tmp_path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"event": "update", "window": 1}\n' + line + b"\n")
    with pytest.raises(ValueError, match=r"log.jsonl, line 2: no event.*: remove the line"):
        read_log(log)
    Reporter(tmp_path, 4, 2).close()
    assert log.read_bytes().count(b"\n") == 2


def test_a_log_that_cannot_be_opened_names_the_fix(tmp_path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(OSError, match=r"log.jsonl cannot be written .*: choose another output folder"):
        Reporter(tmp_path, 6)


def test_without_a_bar_what_went_wrong_is_said_too_and_by_one_process(capsys) -> None:
    Reporter(None, 4).say("an earlier checkpoint is used")
    Reporter(None, 4, speak=False).say("this is another process")
    assert capsys.readouterr().err == "an earlier checkpoint is used\n"


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
