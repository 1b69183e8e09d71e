"""``python -m accum_lib train``: trains, resumes, plans; and says what is wrong in one line."""

import json
import math
import os
import re
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from processes import python
from small_training import made_data, made_tokenizer, same_bits
from transformers import RobertaConfig, RobertaForSequenceClassification

from accum_lib.__main__ import main
from accum_lib.cli.train import _noise
from accum_lib.machine import GIB, this_machine
from accum_lib.memory.guard import RESERVE_BYTES, WouldNotFitError
from accum_lib.training import models
from accum_lib.training.data.tasks import Classification
from accum_lib.training.forecast import (
    estimated_window,
    explain_run,
    extrapolated_window,
    forecast,
    interpreter_bytes,
    largest_window,
    places,
    predict_memory,
    predicted_peak,
    refuse_what_does_not_fit,
    resident_bytes,
    typical_window,
    until_stable,
)
from accum_lib.training.logs import read_log
from accum_lib.training.models import load_model
from accum_lib.training.saving import checkpoints
from accum_lib.training.saving.lock import FolderInUseError, only_run_in
from accum_lib.training.settings import TrainingSettings
from accum_lib.training.trainer import Trainer
from accum_lib.words import speaking


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A CSV file of the reader's own, with texts and labels."""
    path = tmp_path_factory.mktemp("data") / "mine.csv"
    rows = [f"{e.text},{('arrays', 'models')[e.label]}" for e in made_data().train]
    path.write_text("\n".join(["text,label", *rows]))
    return path


def words(file, output, *more: str) -> list[str]:
    return ["train", "--data", str(file), "--output", str(output), "--quiet", "--device", "cpu", *more]


def test_it_trains_and_what_it_leaves_can_be_used(file, tmp_path, capsys) -> None:
    assert main(words(file, tmp_path / "a", "--epochs", "1", "-M", "4", "-B", "16")) == 0
    said = capsys.readouterr().out
    assert "RoBERTa (tiny, untrained) on" in said
    assert re.search(r"Held out: loss \d\.\d+, accuracy \d+\.\d% of \d+", said)
    events = read_log(tmp_path / "a" / "log.jsonl")
    updates = [e for e in events if e["event"] == "update"]
    assert {e["micro_batch_size"] for e in updates} == {4}
    more = ["--model", str(tmp_path / "a" / "model"), "--max-updates", "1"]
    assert main(words(file, tmp_path / "b", *more)) == 0
    assert main(words(file, tmp_path / "c", *more, "--task", "mlm")) == 0


@pytest.mark.parametrize("task", ["classification", "mlm"])
def test_the_model_comes_with_a_card_and_its_length(file, tmp_path, capsys, task) -> None:
    more = ["--max-updates", "2", "--by-tokens", "--max-tokens", "20", "--task", task]
    assert main(words(file, tmp_path, *more)) == 0
    said, card = capsys.readouterr().out, (tmp_path / "model" / "README.md").read_text()
    assert f"accum train --data {file}" in card
    assert "--by-tokens --max-tokens 20" in card
    assert "- by_tokens: True" in card
    last = read_log(tmp_path / "log.jsonl")[-2]
    assert f"loss {last['loss']:.4f}, accuracy {last['accuracy']:.2%} of {last['count']} held out" in card
    of_classes = [line.strip() for line in said.splitlines() if "precision" in line]
    assert len(of_classes) == (2 if task == "classification" else 0)
    assert all(f"- {line}" in card for line in of_classes)
    assert ("macro-F1" in card) == ("Macro-F1" in said) == (task == "classification")
    written = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    assert written["model_max_length"] == 20


@pytest.mark.parametrize(("task", "unit"), [("classification", "examples"), ("mlm", "hidden tokens")])
def test_the_noise_scale_that_was_asked_for_is_told_at_the_end(file, tmp_path, capsys, task, unit) -> None:
    more = ["--noise-scale", "--epochs", "1", "-M", "4", "-K", "4", "--task", task]
    assert main(words(file, tmp_path / "a", *more)) == 0
    told = (
        rf"Noise scale of the gradient over the last windows: .*95 % interval \d+ ({unit} )?to (\d+|infinity)"
    )
    out = capsys.readouterr().out
    assert re.search(told, out)
    assert f" {unit}" in out


def test_a_noise_scale_without_an_upper_end_is_told_in_words() -> None:
    whole = _noise(69.2, (40.1, 168.0), "examples")
    assert whole.endswith(": 69 examples (95 % interval 40 to 168).")
    for scale, low in ((math.inf, 12.3), (812.0, 0.0)):
        told = _noise(scale, (low, math.inf), "examples")
        assert f"95 % interval {low:.0f} examples to infinity: the noise hides the mean gradient" in told
        assert "inf examples" not in told


def test_the_columns_and_the_held_out_file_can_be_named(file, tmp_path, capsys) -> None:
    other = tmp_path / "other.csv"
    other.write_text(file.read_text().replace("text,label", "body,kind", 1))
    assert main(words(other, tmp_path / "a")) == 2
    assert "say which to use: --text-column, --label-column" in capsys.readouterr().err
    named = ["--text-column", "body", "--label-column", "kind", "--max-updates", "1"]
    assert main(words(other, tmp_path / "b", *named)) == 0
    apart = tmp_path / "apart.csv"
    apart.write_text("\n".join(other.read_text().splitlines()[:9]))
    assert main(words(other, tmp_path / "c", *named, "--held-out", str(apart))) == 0
    assert re.search(r"accuracy \d+\.\d% of 8\.", capsys.readouterr().out)
    assert main(["train", "--output", str(tmp_path / "d"), "--text-column", "body"]) == 2
    assert "--data is docstrings" in capsys.readouterr().err


def test_a_file_without_the_label_column_says_which_it_has(file, tmp_path, capsys) -> None:
    other = tmp_path / "category.csv"
    other.write_text(file.read_text().replace("text,label", "text,category", 1))
    assert main(words(other, tmp_path / "a")) == 2
    said = capsys.readouterr().err
    assert "no column 'label'; it has 'text', 'category'" in said
    assert "--label-column" in said


def test_labels_that_are_missing_do_not_matter_where_tokens_are_guessed(file, tmp_path) -> None:
    holes = tmp_path / "holes.csv"
    holes.write_text(file.read_text().replace(",arrays", ",", 1))
    assert main(words(holes, tmp_path / "a", "--max-updates", "1")) == 2
    assert main(words(holes, tmp_path / "b", "--max-updates", "1", "--task", "mlm")) == 0


def test_an_output_folder_that_cannot_be_made_is_named(file, tmp_path, capsys) -> None:
    (tmp_path / "a_file").write_text("")
    assert main(words(file, tmp_path / "a_file" / "run", "--max-updates", "1")) == 2
    assert "a_file/run cannot be made (Not a directory): choose another one" in capsys.readouterr().err


def test_a_folder_that_another_run_writes_to_is_left_alone(file, tmp_path, capsys) -> None:
    with only_run_in(tmp_path):
        assert main(words(file, tmp_path, "--max-updates", "1")) == 2
    assert "another run is writing to" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_the_folder_is_held_while_the_model_is_written(file, tmp_path, monkeypatch) -> None:
    written = []

    def export(loaded, folder, card):
        with pytest.raises(FolderInUseError), only_run_in(folder.parent):
            pass
        written.append(folder)
        return folder

    monkeypatch.setattr(models, "export", export)
    assert main(words(file, tmp_path, "--max-updates", "1")) == 0
    assert written == [tmp_path / "model"]


def test_a_folder_called_model_is_not_replaced(file, tmp_path, capsys) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "net.py").write_text("mine")
    assert main(words(file, tmp_path, "--max-updates", "1")) == 2
    assert f"{tmp_path / 'model'} is there already, and the trained" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "net.py"]


def test_a_run_is_resumed_in_another_language(file, tmp_path) -> None:
    run = words(file, tmp_path, "--max-updates", "2", "--save-every", "1")
    with speaking("zh"):
        assert main(run) == 0
    assert main([*run, "--resume"]) == 0


def test_some_held_out_examples_are_of_all_classes_though_the_file_is_sorted(file, tmp_path, capsys) -> None:
    rows = sorted(file.read_text().splitlines()[1:], key=lambda row: row.rpartition(",")[2])
    by_class = tmp_path / "sorted.csv"
    by_class.write_text("\n".join(["text,label", *rows]))
    assert main(words(by_class, tmp_path / "a", "--max-updates", "1", "--max-held-out", "6")) == 0
    assert "would be right in 100.0%" not in capsys.readouterr().out


def save_small_classifier(folder, **how) -> None:
    """One layer, and a tokenizer."""
    config = RobertaConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=66, **how,
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(folder)
    made_tokenizer().save_pretrained(folder)


def test_what_is_exported_classifies_whatever_the_checkpoint_was_for(file, tmp_path) -> None:
    save_small_classifier(tmp_path / "regression", num_labels=1, problem_type="regression")
    run = words(file, tmp_path / "run", "--max-updates", "1", "--model", str(tmp_path / "regression"))
    assert main(run) == 0, "and texts are cut to the 64 tokens that it reads"
    saved = RobertaConfig.from_pretrained(tmp_path / "run" / "model")
    assert saved.problem_type == "single_label_classification"
    assert saved.num_labels == 2


def test_a_run_that_ends_in_nan_exports_nothing(file, tmp_path) -> None:
    assert main(words(file, tmp_path, "--learning-rate", "1e30", "--warmup", "0", "--max-updates", "1")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "run.lock"]


def test_an_output_folder_without_a_name_is_refused(file, capsys) -> None:
    with pytest.raises(SystemExit):
        main(words(file, "", "--max-updates", "1"))
    assert "argument --output: is empty: name a folder" in capsys.readouterr().err


def test_a_warning_is_one_line(file, tmp_path, capsys) -> None:
    assert main(words(file, tmp_path / "a", "--max-updates", "1", "--held-out", str(file))) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "held-out texts are" in line]
    assert len(warned) == 1
    assert warned[0].startswith(f"warning: {file}: ")


def test_nothing_to_resume_from_leaves_no_folder(file, tmp_path, capsys) -> None:
    assert main(words(file, tmp_path / "none", "--resume")) == 2
    assert "no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_it_resumes_to_the_same_bits(file, tmp_path, capsys) -> None:
    run = ["--epochs", "2", "--save-every", "1"]
    assert main(words(file, tmp_path / "a", *run)) == 0
    root = tmp_path / "a" / "checkpoints"
    newest, older = checkpoints.folders(root)
    whole = checkpoints.load(newest)["model.pt"]
    (newest / "model.pt").write_bytes(b"")
    assert main(words(file, tmp_path / "a", *run, "--resume")) == 0
    assert same_bits(list(checkpoints.load(newest)["model.pt"].values()), list(whole.values()))
    assert main(words(file, tmp_path / "a", "--epochs", "3", "--resume")) == 2
    assert "epochs: 2 in the checkpoint, 3 now" in capsys.readouterr().err
    assert older.exists()


def test_a_dry_run_prints_the_plan_and_leaves_nothing(file, tmp_path, capsys) -> None:
    assert main(words(file, tmp_path / "a", "--dry-run", "-M", "4", "-K", "4", "--epochs", "3")) == 0
    said = capsys.readouterr().out
    n = int(re.search(r"(\d+) examples to train on", said)[1])
    per_epoch = -(-n // 16)
    assert "M = 4, K = 4: B = 16 examples" in said
    assert f"the last window of an epoch has {n % 16}" in said
    assert f"{3 * per_epoch} optimizer updates in 3 epochs" in said
    assert re.search(
        r"predicted peak 0\.0\d\d GiB of tensors \(the model holds 0\.0\d\d already\), and", said
    )
    assert re.search(r", and \d\.\d+ GiB for the interpreter; \d", said)
    assert "measured now: windows" in said
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-M", "5", "-B", "12"], "B = 12 is no multiple of M = 5"),
        (["--model", "no/such/folder"], "no model at 'no/such/folder'"),
        (["--data", "nonsense"], "no data source 'nonsense'"),
        (["--max-tokens", "1000"], "--max-tokens must be from 5 to 256"),
        (["--max-held-out", "0"], "--max-held-out must be 1 or more"),
        (["--resume"], "there is no checkpoint. Start from scratch without --resume"),
        (["--warmup", "7"], "from 0 to 1; got 7"),
        (["--epochs", "0"], "epochs must be 1 or more; got 0"),
        (["--max-grad-norm", "-1"], "--max-grad-norm must be 0 (no clipping) or more; got -1.0"),
        (["--pair-column", "label"], "column 'label' is given two of the roles text, pair and label"),
        (
            ["--learning-rate", "1e30", "--warmup", "0", "--max-updates", "1"],
            "the held-out loss is nan after update 1",
        ),
        (["--seed", "-1"], "seed must be 0 or more; got -1"),
        (["--seed", str(2**64)], "seed must be below 2**63"),
        (["--learning-rate", "0"], "learning_rate must be above 0 and finite; got 0.0"),
        (["--task", "mlm", "--label-column", "label2"], "--label-column label2 is for classification"),
    ],
)
def test_what_cannot_be_run_exits_with_2_and_says_why(
    file, tmp_path, more, message, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(words(file, tmp_path, *more)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said(file, tmp_path, capsys) -> None:
    assert main([*words(file, tmp_path), "--device", "cuda"]) == 2
    assert "PyTorch finds no GPU here" in capsys.readouterr().err


def test_what_does_not_fit_is_not_begun(file, tmp_path, capsys, monkeypatch) -> None:
    from accum_lib.machine import Machine

    small = Machine(2, 2**20, 2**20, None, None, "", "")
    monkeypatch.setattr("accum_lib.training.forecast.this_machine", lambda: small)
    monkeypatch.setattr("accum_lib.training.forecast.SMALL", 0)
    assert main(words(file, tmp_path / "a", "--dry-run", "-M", "4", "-K", "8")) == 0
    assert "0.00 GiB are free for tensors: it DOES NOT FIT" in capsys.readouterr().out
    assert main(words(file, tmp_path / "a", "-M", "4", "-K", "8")) == 2
    assert "with M = 4, K = 8 is predicted to need" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (1, "nothing was saved yet, so the same command starts from scratch"),
        (2, "the same command with --resume"),
    ],
)
def test_an_interrupt_says_how_to_go_on(file, tmp_path, capsys, monkeypatch, at, message) -> None:
    move, moves = Trainer._move, []

    def interrupted(self):
        moves.append(1)
        if len(moves) == at:
            raise KeyboardInterrupt
        return move(self)

    monkeypatch.setattr(Trainer, "_move", interrupted)
    assert main(words(file, tmp_path / "a", "--save-every", "1")) == 130
    assert f"interrupted: {message}" in capsys.readouterr().err


def test_a_compiler_that_is_missing_is_said(file, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/no/compiler"))
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no processes that compile nothing
    save_small_classifier(tmp_path / "small")
    more = ["--model", str(tmp_path / "small"), "--max-updates", "1", "--compile"]
    assert main(words(file, tmp_path / "a", *more)) == 2
    assert "--compile does not work here, so leave it out: InvalidCxxCompiler" in capsys.readouterr().err


def test_help_names_every_argument(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = capsys.readouterr().out
    for name in ("--model", "--data", "-M", "-K", "-B", "--resume", "--dry-run", "--noise-scale", "--output"):
        assert name in said
    assert "python -m accum_lib train --output runs/first" in said


# --- The forecast itself


ON_DISK = 10 * GIB
SORTED = TrainingSettings(micro_batch_size=8, accumulation_steps=4, epochs=1)


def made(task_settings: TrainingSettings):
    loaded = load_model("tiny", "classification", made_data())
    parts = [Classification(part, loaded.tokenizer, 64) for part in (made_data().train, made_data().held_out)]
    return loaded, forecast(loaded, *parts, task_settings, "made up"), parts


def test_the_plan_counts_as_a_person_would() -> None:
    _, plan, parts = made(TrainingSettings(micro_batch_size=4, accumulation_steps=5, epochs=2, max_updates=7))
    assert (plan.num_samples, plan.effective_batch_size, plan.trailing_window) == (90, 20, 10)
    assert (plan.updates, plan.epochs) == (7, 2)  # five windows in an epoch
    assert plan.longest == max(parts[0].lengths)
    assert 0 < plan.seconds[0] <= plan.seconds[1]
    assert "it fits" in explain_run(plan, GIB, ON_DISK)
    assert "it DOES NOT FIT" in explain_run(plan, 1, ON_DISK)


def test_the_plan_counts_the_weights_once() -> None:
    """They are in memory when it is made: the free memory that is measured then need not hold them again."""
    loaded, plan, _ = made(TrainingSettings(max_updates=1))
    assert 4 * loaded.parameters <= plan.resident_bytes < 4.1 * loaded.parameters
    more = plan.peak_bytes - plan.resident_bytes
    assert "it fits" in explain_run(plan, more, ON_DISK)
    assert "it DOES NOT FIT" in explain_run(plan, more - 1, ON_DISK)
    assert resident_bytes(replace(loaded, mapped=True)) == 0


@pytest.fixture(scope="module")
def memory_of_checkpoints(tmp_path_factory) -> dict[torch.dtype, list[int]]:
    """What loading 40 million numbers of each type takes, in a copy of one process that has done so once."""
    folders = {dtype: tmp_path_factory.mktemp("checkpoint") for dtype in (torch.float32, torch.bfloat16)}
    config = RobertaConfig(
        vocab_size=300, hidden_size=1024, num_hidden_layers=3, num_attention_heads=2, intermediate_size=4096
    )
    for dtype, folder in folders.items():
        RobertaForSequenceClassification(config).to(dtype).save_pretrained(folder)
        made_tokenizer().save_pretrained(folder)
    done = python("-c", LOADING, *folders.values())
    rows = [list(map(int, line.split())) for line in done.stdout.splitlines()]
    return dict(zip(folders, rows, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process can be copied here")
@pytest.mark.parametrize(("dtype", "mapped"), [(torch.float32, True), (torch.bfloat16, False)])
def test_a_checkpoint_in_16_bits_is_in_memory_and_one_in_32_is_mapped(
    memory_of_checkpoints, dtype, mapped
) -> None:
    """By the resident memory of a process of its own."""
    held, said, weights = memory_of_checkpoints[dtype]
    assert said == pytest.approx(0 if mapped else weights, rel=1e-3)  # and some buffers
    assert abs(held - said) < weights / 4


LOADING = """
import os, sys, psutil, torch
from accum_lib.training.data import Example, TextData
from accum_lib.training.forecast import resident_bytes
from accum_lib.training.models import load_model
data = TextData("made", (Example("a", None, 0),), (Example("b", None, 1),), ("x", "y"))
load_model("tiny", "classification", TextData("made", data.train * 2, data.held_out, data.labels))
for folder in sys.argv[1:]:
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    before = psutil.Process().memory_info().rss
    loaded = load_model(folder, "classification", data)
    held = psutil.Process().memory_info().rss - before
    print(held, resident_bytes(loaded), 4 * loaded.parameters, flush=True)
    os._exit(0)
"""


def test_several_processes_share_what_is_free(monkeypatch) -> None:
    loaded, alone, (train, _) = made(TrainingSettings(max_updates=1))
    monkeypatch.setattr("accum_lib.training.parallel.on_this_machine", lambda: 2)
    _, plan, _ = made(TrainingSettings(max_updates=1))
    assert (plan.processes, plan.peak_bytes) == (2, alone.peak_bytes)
    more = plan.peak_bytes - plan.resident_bytes
    assert "in each of 2 processes" in explain_run(plan, 2 * more, ON_DISK)
    assert "it fits" in explain_run(plan, 2 * more, ON_DISK)
    assert "it DOES NOT FIT" in explain_run(plan, 2 * more - 2, ON_DISK)
    for missing, fits in ((0, True), (2, False)):
        here = replace(this_machine(), free_bytes=2 * more + RESERVE_BYTES - missing)
        monkeypatch.setattr("accum_lib.training.forecast.this_machine", lambda here=here: here)
        with nullcontext() if fits else pytest.raises(WouldNotFitError):
            refuse_what_does_not_fit(loaded, train, TrainingSettings(max_updates=1))


def test_a_window_is_timed_as_it_will_be_run(monkeypatch) -> None:
    recomputed = []
    monkeypatch.setattr(
        "accum_lib.training.forecast.checkpoint", lambda model, blocks: recomputed.append(blocks)
    )
    made(TrainingSettings(max_updates=1))
    assert recomputed == []
    made(TrainingSettings(max_updates=1, checkpointing=True))
    assert [len(blocks) for blocks in recomputed] == [2]
    _, plan, _ = made(TrainingSettings(max_updates=1, compile=True))
    assert plan.seconds_source.endswith("(without --compile)")


@pytest.mark.parametrize(("missing", "fits"), [(0, True), (1, False)])
def test_the_guard_counts_the_weights_once(missing, fits, monkeypatch) -> None:
    settings = TrainingSettings(micro_batch_size=90, accumulation_steps=1)
    loaded, plan, (train, _) = made(settings)
    free = plan.peak_bytes - plan.resident_bytes + RESERVE_BYTES - missing
    here = replace(this_machine(), free_bytes=free)
    monkeypatch.setattr("accum_lib.training.forecast.this_machine", lambda: here)
    with nullcontext() if fits else pytest.raises(WouldNotFitError, match="M = 90"):
        refuse_what_does_not_fit(loaded, train, settings)


def test_more_examples_than_there_are_need_no_memory(monkeypatch) -> None:
    """M and K beyond the data make the windows of a run no larger than all of the data."""
    monkeypatch.setattr("accum_lib.training.forecast.operations_per_second", lambda *_: 1.0)
    for many, all_of_it in (((2000, 1), (90, 1)), ((30, 1000), (30, 3)), ((2000, 1000), (90, 1))):
        a, b = (TrainingSettings(micro_batch_size=m, accumulation_steps=k) for m, k in (many, all_of_it))
        assert largest_window(a, 90) == largest_window(b, 90) == all_of_it
        (loaded, plan, (train, _)), (_, other, _) = made(a), made(b)
        assert plan.peak_bytes == other.peak_bytes
        prediction = predict_memory(loaded.model, train, a, "cpu")
        times = [next(estimated_window(prediction, train, settings, "cpu")) for settings in (a, b)]
        assert times[0] == times[1]


def test_the_memory_is_that_of_the_lens_and_falls_with_m() -> None:
    """The floor by hand: parameters, gradients and two moments, 4 bytes each."""
    loaded, _, (train, _) = made(TrainingSettings())
    prediction = predict_memory(loaded.model, train, TrainingSettings(), "cpu")
    floor = 16 * loaded.parameters
    assert floor < prediction.peak_bytes(1, 2) < prediction.peak_bytes(8, 2) < prediction.peak_bytes(64, 2)
    assert prediction.floor_bytes(2) < 1.5 * floor
    checkpointed = predict_memory(loaded.model, train, TrainingSettings(checkpointing=True), "cpu")
    assert checkpointed.peak_bytes(64, 2) < prediction.peak_bytes(64, 2)
    assert 5e7 < interpreter_bytes(loaded) < 5e9


def test_a_short_run_is_predicted_for_the_texts_that_it_reads() -> None:
    from accum_lib.training.data.batches import epoch_windows
    from accum_lib.training.forecast import examples_read

    _, _, (train, _) = made(TrainingSettings())
    short = TrainingSettings(micro_batch_size=2, accumulation_steps=1, max_updates=2)
    windows = epoch_windows(train.lengths, 2, 1, 0, 0)
    assert examples_read(train, short) == windows[0] + windows[1]
    assert sorted(examples_read(train, TrainingSettings())) == list(range(90))


def test_windows_that_the_noise_scale_leaves_unsorted_are_predicted_so() -> None:
    from accum_lib.training.data.batches import epoch_windows
    from accum_lib.training.forecast import windows_read

    _, _, (train, _) = made(TrainingSettings())
    found = windows_read(train, TrainingSettings(noise_scale=True))
    assert found == epoch_windows(train.lengths, 32, 0, 0, 0)
    assert found != windows_read(train, TrainingSettings())


def test_the_peak_is_that_of_each_micro_batch_at_its_place() -> None:
    """Sorted windows: the longest micro-batch comes first, where no gradients are beside it yet."""
    loaded, plan, (train, _) = made(SORTED)
    firsts, others = ([train.lengths[i] for i in examples] for examples, _ in places(train, SORTED))
    assert (len(firsts), len(others)) == (3 * 8, 90 - 3 * 8)
    assert max(firsts) == max(train.lengths) > max(others)
    everywhere = predict_memory(loaded.model, train, SORTED, "cpu").peak_bytes(8, 4)
    nowhere = predict_memory(loaded.model, train, SORTED, "cpu").peak_bytes(8, 1)
    assert nowhere <= plan.peak_bytes < everywhere
    alone = TrainingSettings(micro_batch_size=32, accumulation_steps=1)
    assert [steps for _, steps in places(train, alone)] == [1]


def test_by_tokens_any_pass_may_be_as_large_as_m_of_the_longest_text() -> None:
    loaded, _, (train, _) = made(SORTED)
    by_tokens = replace(SORTED, by_tokens=True)
    everywhere = predict_memory(loaded.model, train, SORTED, "cpu").peak_bytes(8, 4)
    assert predicted_peak(loaded.model, train, by_tokens, "cpu") == everywhere
    assert predicted_peak(loaded.model, train, SORTED, "cpu") < everywhere


def test_unsorted_windows_may_have_the_longest_text_anywhere() -> None:
    loaded, _, (train, _) = made(TrainingSettings())
    unsorted = TrainingSettings(micro_batch_size=1, accumulation_steps=32, length_pool=0)
    assert max(train.lengths[i] for i in places(train, unsorted)[1][0]) == max(train.lengths)
    everywhere = predict_memory(loaded.model, train, unsorted, "cpu").peak_bytes(1, 32)
    assert predicted_peak(loaded.model, train, unsorted, "cpu") == everywhere


def test_a_later_epoch_may_put_a_long_text_elsewhere(monkeypatch) -> None:
    _, _, (train, _) = made(TrainingSettings())
    once = TrainingSettings(micro_batch_size=45, accumulation_steps=2, length_pool=0, epochs=1)
    (first, _), (other, _) = places(train, once)
    assert sorted(first + other) == list(range(90))
    often = replace(once, epochs=20)
    assert [examples for examples, _ in places(train, often)] == [list(range(90))] * 2
    # Only as many windows as the run has, and of a long run only its first epochs.
    assert places(train, replace(often, max_updates=1)) == places(train, once)
    monkeypatch.setattr("accum_lib.training.forecast.LOOKED_AT", 179)
    assert places(train, often) == places(train, once)


def test_a_time_that_was_not_measured_says_so(monkeypatch) -> None:
    monkeypatch.setattr("accum_lib.training.forecast.SMALL", 0)
    _, plan, _ = made(TrainingSettings(max_updates=1))
    assert "an estimate: forward passes measured now" in explain_run(plan, GIB, ON_DISK)
    assert 0 < plan.seconds[0] <= plan.seconds[1]
    full = replace(this_machine(), free_bytes=0)  # then nothing is run to find out
    monkeypatch.setattr("accum_lib.training.forecast.this_machine", lambda: full)
    _, plan, _ = made(TrainingSettings(max_updates=1))
    assert "an estimate, not measured" in explain_run(plan, GIB, ON_DISK)


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ([9, 5, 2, 2.1, 2.2, 1], (2, 2.2)),  # the first ones are slow
        ([9, 1, 4, 1, 4, 4, 4], (1, 4)),  # they do not agree, and time is up with the fifth
    ],
)
def test_a_time_is_measured_until_it_is_stable(monkeypatch, times, told) -> None:
    """On a clock that shows eleven seconds once five times are measured; half of them had a processor."""
    seen: list[float] = []
    for clock, shown in (("perf_counter", 11.0), ("process_time", 5.5)):
        monkeypatch.setattr(
            f"accum_lib.training.forecast.time.{clock}", lambda shown=shown: shown * (len(seen) >= 5)
        )
    for threads, share in ((None, 1.0), (1, 0.5), (2, 0.25)):
        seen.clear()
        least, most = until_stable((seen.append(each) or each for each in times), threads)
        assert (least, most) == (told[0] * share, told[1])
        assert len(seen) == 5


def test_the_time_is_told_as_a_range_of_the_typical_window() -> None:
    _, plan, (train, _) = made(TrainingSettings(micro_batch_size=4, accumulation_steps=5, max_updates=5))
    for seconds, told in (
        ((60, 80), "60 s to 80 s"), ((130, 130.2), "about 2 min"), ((70, 7000), "70 s to 1.9 h")
    ):  # fmt: skip
        assert f"time     {told} (measured now" in explain_run(replace(plan, seconds=seconds), GIB, ON_DISK)
    windows = [range(5), range(5, 7), range(7, 20)]
    train.lengths = [2] * 5 + [9] * 2 + [1] * 13  # 10, 18 and 13 tokens
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accum_lib.training.forecast.windows_read", lambda *_: windows)
        assert typical_window(train, TrainingSettings()) == range(7, 20)


@pytest.mark.parametrize(("checkpointing", "passes"), [(False, 3), (True, 4)])
def test_the_estimate_counts_passes_examples_and_parameters(monkeypatch, checkpointing, passes) -> None:
    """With a clock that ticks once for each reading."""
    loaded, _, (train, _) = made(TrainingSettings(max_updates=1))
    ticks = iter(range(10**6))
    monkeypatch.setattr("accum_lib.training.forecast.time.perf_counter", lambda: next(ticks))
    settings = TrainingSettings(micro_batch_size=2, accumulation_steps=16, checkpointing=checkpointing)
    monkeypatch.setattr("accum_lib.training.forecast.UPDATED", 1000)
    update = loaded.parameters / 1000
    before = [p.clone() for p in loaded.model.parameters()]
    examples = typical_window(train, settings)
    assert next(extrapolated_window(loaded.model, train, settings, examples)) == pytest.approx(
        passes * 16 + update
    )
    monkeypatch.setattr("accum_lib.training.forecast.TOKENS", 1)  # one example of each two
    assert next(extrapolated_window(loaded.model, train, settings, examples)) == pytest.approx(
        passes * 32 + update
    )
    assert same_bits(before, list(loaded.model.parameters()))
    assert all(p.grad is None for p in loaded.model.parameters())


def test_what_a_terminal_would_obey_is_shown_escaped(file, tmp_path, capsys) -> None:
    """Colours, cursor moves, marks that turn the direction, a bell, and a line that pretends to be ours."""
    evil = "\x1b[2J\x1b]0;title\x07 \u202egnp.exe\u2066 \x9b31m \ufeff"
    labels = tmp_path / f"data {evil}.csv"
    labels.write_text(file.read_text().replace(",arrays", f',"{evil}\nerror: all is well"'))
    assert main(words(labels, tmp_path / "a", "--max-updates", "1", "--dry-run")) == 0
    assert main(words(labels, tmp_path / "b", "--max-updates", "1", "--held-out", str(labels))) == 0
    assert main(words(labels, tmp_path / "b", "--text-column", evil)) == 2
    said = "".join(capsys.readouterr())
    assert "\\x1b[2J" in said
    assert "\\u202egnp.exe" in said
    assert {letter for letter in said if not letter.isprintable()} == {"\n"}


def test_an_error_from_below_is_one_sentence(file, tmp_path, capsys, monkeypatch) -> None:
    for number, error in enumerate(
        (RuntimeError("a\nb"), KeyError("key"), AssertionError(), RecursionError("deep"))
    ):
        monkeypatch.setattr(Trainer, "_move", lambda self, error=error: (_ for _ in ()).throw(error))
        assert main(words(file, tmp_path / str(number))) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {type(error).__name__}: ")
        assert "ACCUM_TRACEBACK=1" in said
        assert said.count("\n") == 1
    monkeypatch.setenv("ACCUM_TRACEBACK", "1")
    with pytest.raises(RecursionError):
        main(words(file, tmp_path / "whole"))


def test_memory_that_ran_out_without_a_word_is_said_in_words(file, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("accum_lib.training.data.sources.load_data", lambda *_, **__: bytes(2**62))
    assert main(words(file, tmp_path)) == 2
    assert (
        capsys.readouterr().err == "error: out of memory: take fewer or shorter texts, or a smaller model\n"
    )


@pytest.mark.parametrize("standard_error", ["gone", "closed", "broken"])
def test_a_standard_error_that_nobody_reads_does_not_end_a_run(
    file, tmp_path, monkeypatch, standard_error
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    broken = os.fdopen(writing, "w", buffering=1)
    closed = open(os.devnull, "w")  # noqa: SIM115
    closed.close()
    monkeypatch.setattr(sys, "stderr", {"gone": None, "closed": closed, "broken": broken}[standard_error])
    run = [word for word in words(file, tmp_path, "--max-updates", "2") if word != "--quiet"]
    assert main([*run, "--held-out", str(file)]) == 0
    assert (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "more", [["--learning-rate", "1e300"], ["--weight-decay", "1e300"], ["--learning-rate", "1e38"]]
)
def test_a_rate_beyond_all_numbers_is_an_error_in_words(file, tmp_path, capsys, more) -> None:
    assert main(words(file, tmp_path, *more, "--max-updates", "1")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "not foreseen" not in said


def test_the_summary_looks_at_each_held_out_example_once() -> None:
    """By a count: to look for each label among all is quadratic."""
    from types import SimpleNamespace

    from accum_lib.cli.train import _summary

    looked = []

    class Watched:
        @property
        def label(self) -> int:
            looked.append(1)
            return len(looked) % 2

    class HeldOut:
        name, examples = "classification", [Watched() for _ in range(500)]

        def __len__(self) -> int:
            return len(self.examples)

    held_out = HeldOut()
    run = SimpleNamespace(held_out=held_out, loaded=SimpleNamespace(name="m"), data=SimpleNamespace(name="d"))
    done = SimpleNamespace(updates=1, seconds=1.0, evaluations=(), noise_scale=None, skipped_windows=0)
    assert "would be right in 50.0%" in _summary(run, done)
    assert len(looked) == 500
