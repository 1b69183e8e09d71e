"""What a run says beforehand of its data and of the disk, against what it reads and what it writes."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from small_training import made_data, made_tokenizer
from transformers import BatchEncoding

from accum_lib.__main__ import main
from accum_lib.machine import GIB
from accum_lib.training import forecast as disk
from accum_lib.training.data import Example
from accum_lib.training.data.tasks import Classification, MaskedLanguageModelling
from accum_lib.training.forecast import explain_run, forecast
from accum_lib.training.models import export, load_model
from accum_lib.training.settings import TrainingSettings
from accum_lib.training.trainer import Trainer

SETTINGS = TrainingSettings(micro_batch_size=5, accumulation_steps=3, epochs=1)  # 90 examples: 6 windows


def made(task=Classification, max_tokens: int = 64):
    data = made_data()
    loaded = load_model("tiny", task.name, data)
    parts = [task(part, loaded.tokenizer, max_tokens) for part in (data.train, data.held_out)]
    return loaded, *parts


# --- The disk


def bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("save_every", "at_once"),
    [
        (None, 1),  # at the end only
        (3, 2),
        (2, 3),  # the third is written while two are there
        (1, 3),
    ],
)
def test_the_bytes_on_the_disk_are_those_that_were_said(save_every, at_once, tmp_path, monkeypatch) -> None:
    loaded, train, held_out = made()
    settings = replace(SETTINGS, save_every=save_every)
    said = disk.run_disk_bytes(loaded.model, settings, len(train))
    weights = 4 * loaded.parameters
    # The last checkpoint's successor is the model, which is smaller than a checkpoint.
    assert said == pytest.approx(max(3 * at_once, 3 * min(at_once, 2) + 1) * weights, rel=0.01)
    seen, rename = [], os.rename

    def watched(*places):
        seen.append(bytes_in(tmp_path))
        rename(*places)

    monkeypatch.setattr(os, "rename", watched)
    trainer = Trainer(loaded.model, train, held_out, settings, tmp_path, device="cpu")
    trainer.run(finish=lambda: export(loaded, tmp_path / "model"))
    seen.append(bytes_in(tmp_path))
    assert max(seen) == pytest.approx(said, rel=0.05)


def test_too_little_room_is_said_before_the_run_and_in_the_plan(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(disk, "free_disk_bytes", lambda folder: 1000)
    command = ["train", "--max-updates", "1", "--output", str(tmp_path / "a"), "--quiet", "--device", "cpu"]
    assert main([*command, "--dry-run"]) == 0
    assert "0.00 GiB are free: TOO LITTLE" in capsys.readouterr().out
    assert main(command) == 0
    assert f"on the disk of {tmp_path / 'a'} 0.00 GiB are free: make room" in capsys.readouterr().err


def test_the_disk_is_that_of_the_nearest_folder_that_is_there(tmp_path, monkeypatch) -> None:
    asked = []
    usage = disk.shutil.disk_usage
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda place: asked.append(place) or usage(place))
    assert disk.free_disk_bytes(tmp_path / "not" / "yet") > 0
    assert asked == [tmp_path]
    monkeypatch.chdir(tmp_path)
    assert disk.free_disk_bytes(Path("runs/first")) > 0
    assert disk.too_little_disk(0, tmp_path) is None


# --- The data


def test_classes_are_counted_by_name() -> None:
    loaded, train, held_out = made()
    labels = [example.label for example in train.examples]
    plan = forecast(loaded, train, held_out, SETTINGS, "made up")
    names = made_data().labels
    assert plan.classes == {name: labels.count(i) for i, name in enumerate(names)}
    assert f"{names[0]} {labels.count(0)}" in explain_run(plan, GIB, GIB)
    many = replace(plan, classes={f"c{i}": 100 - i for i in range(77)})
    line = next(line for line in explain_run(many, GIB, GIB).splitlines() if line.startswith("classes"))
    assert line.endswith("77, with these numbers of examples to train on: c0 100, c1 99, c2 98, c3 97, ..., "
                         "c73 27, c74 26, c75 25, c76 24")  # fmt: skip


def test_masked_language_modelling_has_no_classes() -> None:
    loaded, train, held_out = made(MaskedLanguageModelling)
    plan = forecast(loaded, train, held_out, SETTINGS, "made up")
    assert plan.classes == {}
    assert "classes" not in explain_run(plan, GIB, GIB)


@pytest.mark.parametrize("pair", [None, "one two"])
def test_texts_that_are_cut_are_counted_and_those_that_just_fit_are_not(pair) -> None:
    tokenizer = made_tokenizer()
    texts = ["the array", "the array of the model", "an array of a model of an array", "a"]
    whole = [len(tokenizer(text, pair)["input_ids"]) for text in texts]
    limit = sorted(whole)[2]  # one is longer, one has just so many
    for each, questions in ((Asked(tokenizer), 4), (InPython(tokenizer), 6)):  # two are as long as may be
        task = Classification([Example(text, pair, 0) for text in texts], each, max_tokens=limit)
        assert task.shortened == sum(length > limit for length in whole) == 1
        assert each.questions == questions


class Asked:
    """A tokenizer that counts how often it is asked."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer, self.pad_token_id, self.questions = tokenizer, tokenizer.pad_token_id, 0

    def __call__(self, *given, **how):
        self.questions += 1
        return self.tokenizer(*given, **how)


class InPython(Asked):
    """One that does not keep what it cuts off, as those without Rust."""

    def __call__(self, *given, **how):
        return BatchEncoding(dict(super().__call__(*given, **how)))


def test_a_run_that_cuts_many_texts_says_so_once_and_one_that_cuts_three_does_not(tmp_path, capsys) -> None:
    command = ["train", "--max-updates", "1", "--output", str(tmp_path / "a"), "--quiet", "--device", "cpu"]
    assert main([*command, "--max-tokens", "8"]) == 0
    said = capsys.readouterr().err
    assert said.count("texts have more than 8 tokens, and lose what is beyond") == 1
    assert "--max-tokens may be up to 256" in said
    assert main(["train", "--max-updates", "1", "--output", str(tmp_path / "b"), "--quiet"]) == 0
    assert "lose what is beyond" not in capsys.readouterr().err


def test_a_plan_without_cut_texts_does_not_speak_of_any() -> None:
    loaded, train, held_out = made()
    plan = forecast(loaded, train, held_out, SETTINGS, "made up")
    assert "are cut" not in explain_run(plan, GIB, math.inf)
    assert "; 3 are cut to 64" in explain_run(replace(plan, shortened=3), GIB, math.inf)
