"""What cannot be done is said in one sentence that names the value and the way out, in each language."""

import io
import os
import sys

import pytest

from accum_lib import words
from accum_lib.__main__ import main

RIGHT = "accum_lib.check.faults.loops:right"
TRAIN = ["train", "--output", "out", "--quiet", "--device", "cpu", "--data", "mine.csv"]
PLAN = ["plan", "--gpu", "T4", "--batch", "8", "--model", "roberta-base"]
BAD_INPUT = [
    ([*TRAIN, "-M", "5", "-B", "12"], "B = 12 is no multiple of M = 5: take B = 10 or 15, or another M"),
    ([*TRAIN, "-M", "0"], "the micro-batch size M must be 1 or more; got 0"),
    ([*TRAIN, "--epochs", "0"], "epochs must be 1 or more; got 0"),
    ([*TRAIN, "--learning-rate", "nan"], "learning_rate must be above 0 and finite; got nan"),
    ([*TRAIN, "--warmup", "7"], "warmup is a part of all updates, from 0 to 1; got 7.0"),
    ([*TRAIN, "--max-grad-norm", "-1"], "--max-grad-norm must be 0 (no clipping) or more; got -1.0"),
    (
        [*TRAIN, "-K", "1", "--noise-scale"],
        "noise_scale compares the micro-batches of a window: take K = 2 or more",
    ),
    (
        [*TRAIN, "--max-tokens", "1000"],
        "--max-tokens must be from 5 to 256, which is what RoBERTa (tiny, untrained) reads; got 1000",
    ),
    (
        [*TRAIN, "--model", "empty"],
        "no model at 'empty': its config.json cannot be used: Unrecognized model in empty. Should have a"
        " `model_type` key in its config.json. Give a folder with config.json and model.safetensors, or "
        "a name on the hub; offline there are tiny, base, large, untrained",
    ),
    (
        [*TRAIN, "--data", "nonsense"],
        "no data source 'nonsense': give 'docstrings', 'reuters-r8', 'glue:<task>' such as 'glue:sst2', "
        "or the path of a .csv, .tsv, .jsonl or .parquet file",
    ),
    ([*TRAIN, "--data", "gone.csv"], "no file gone.csv: is the path right, seen from HERE?"),
    ([*TRAIN, "--data", "empty.csv"], "empty.csv: the file is empty: was it written to the end?"),
    (
        [*TRAIN, "--data", "one.csv"],
        "one.csv: every row has the label 'a': a classifier needs two classes or more. Was the file cut,"
        " or is another column the label?",
    ),
    (
        [*TRAIN, "--label-column", "class"],
        "mine.csv: no column 'class'; it has 'text', 'label'. Rename one, or say which to use: "
        "--text-column, --label-column, --pair-column, or Columns(...) in code",
    ),
    ([*TRAIN, "--labels", "a"], "the list of labels must name two classes or more, each once; got 'a'"),
    (
        [*TRAIN, "--resume"],
        "nothing to resume from in out/checkpoints: there is no checkpoint. Start from scratch without "
        "--resume",
    ),
    (
        [*PLAN, "--model", "gpt5"],
        "no model 'gpt5' is known; there are roberta-base, roberta-large, distilbert, gpt2, gpt2-medium,"
        " t5-small, a folder with a config.json, that file, or OWNER/NAME on the hub",
    ),
    (
        [*PLAN, "--gpu", "T9"],
        "no card 'T9' is known. There are RTX 4060, RTX 3080, RTX 2080 Ti, RTX 3060, T4, V100 16GB, RTX "
        "4080, RTX 3090, RTX 4090, A10G, L4, A30, V100 32GB, RTX 5090, A100 40GB, A40, RTX A6000, L40S, "
        "A100 80GB, H100, H200; or give its size, such as '16GB' (or '15.5GiB' for exactly so much), or "
        "'here' for the one in this machine",
    ),
    ([*PLAN, "--batch", "0"], "the effective batch B must be from 1 to 10,000,000 examples; got 0"),
    ([*PLAN, "--tokens", "1000"], "roberta-base reads 2 to 512 tokens; got 1000"),
    ([*PLAN, "--head", "foo"], "roberta-base has no head 'foo'; it has classification, mlm, causal"),
    ([*PLAN, "--precision", "fp8"], "precision must be one of fp32, bf16, fp16; got 'fp8'"),
    ([*PLAN, "--margin", "2"], "the margin is a part of the memory, from 0 to below 1; got 2.0"),
    (["check"], "name a loop, as train.py:train, or a trainer, as --trainer train.py:make_trainer"),
    (["check", "train"], "'train' must have the form MODULE:FUNCTION, such as my_training:train"),
    (
        ["check", "nowhere:train"],
        "there is no module 'nowhere' in this folder or installed: give a file, such as train.py:train, "
        "or go to the folder that holds it",
    ),
    (["check", "gone.py:train"], "there is no file gone.py: is the path right, seen from HERE?"),
    (["check", "bad_loops.py:trian"], "bad_loops has no 'trian'; it has train"),
    (
        ["check", "bad_loops.py:rate"],
        "bad_loops.py:rate is 3, and no function: name a function, or a method",
    ),
    (
        ["check", "--trainer", "bad_loops.py:train"],
        "bad_loops.py:train is called without arguments, and it is missing a required argument: 'model':"
        " give it defaults",
    ),
    (["check", RIGHT, "--k", "0"], "--k must be 1 or more; got 0"),
    (
        ["check", RIGHT, "--max-grad-norm", "-1"],
        "--max-grad-norm must be above 0, or left out for a loop that does not clip; got -1.0",
    ),
    (
        ["check", RIGHT, "--html", "pages/a.html"],
        "--html pages/a.html cannot be written, for there is no folder HERE/pages: make it, or name another",
    ),
    (
        ["predict", "out"],
        "no model in out: give the folder that accum train wrote, such as runs/first/model",
    ),
    (["predict", "empty", "--max-tokens", "2"], "--max-tokens must be 5 or more; got 2"),
    (
        ["predict", "bare"],
        "the model in bare cannot be loaded: Error no file named model.safetensors found in directory "
        "bare. Give another one, or train it once more",
    ),
]


class Marked(dict):
    """A catalogue that has every text."""

    def get(self, english: str, default: str) -> str:
        return f"中{english}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    files = {
        "mine.csv": [f"text number {i},{'ab'[i % 2]}" for i in range(20)],
        "one.csv": [f"text number {i},a" for i in range(20)],
    }
    for name, rows in files.items():
        (tmp_path / name).write_text("\n".join(["text,label", *rows]))
    (tmp_path / "empty.csv").touch()
    (tmp_path / "bad_loops.py").write_text("rate = 3\ndef train(model): ...\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text('{"model_type": "roberta"}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.parametrize(("given", "sentence"), BAD_INPUT)
def test_it_is_said_in_one_sentence(given, sentence, here, capsys, monkeypatch) -> None:
    sentence = sentence.replace("HERE", os.getcwd())
    assert main(given) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"
    monkeypatch.setattr(words, "catalogue", lambda name: Marked(known="") if name == "zh" else {})
    with words.speaking("zh"):
        assert main(given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: 中"), "it can be translated"
    assert said.replace("中", "") == f"error: {sentence}\n"
    assert not (here / "out").exists()


def test_each_command_has_some() -> None:
    assert {given[0] for given, _ in BAD_INPUT} == {"train", "plan", "check", "predict"}
    assert len(BAD_INPUT) >= 20
