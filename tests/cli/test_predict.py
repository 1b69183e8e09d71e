"""``accum predict`` gives what a plain Transformers pipeline gives, in the order of the texts."""

import csv
import io
import json

import pytest
import torch
import transformers
from small_training import made_data, made_tokenizer, small_model

from accum_lib.__main__ import main
from accum_lib.training.models import Loaded, export

TEXTS = [e.text for e in made_data().held_out] + ["sum " * 200, "model", "fit, predict; score!"]
PAIRS = [f"array {i}" for i in range(len(TEXTS))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose classes differ clearly, with what training notes of its length."""
    model, tokenizer = small_model(dtype=torch.float32), made_tokenizer()
    model.config.id2label, model.config.label2id = {0: "arrays", 1: "models"}, {"arrays": 0, "models": 1}
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    tokenizer.model_max_length = 24
    return export(Loaded(model, tokenizer, "made up", False, 64), tmp_path_factory.mktemp("run") / "model")


def by_pipeline(folder, texts: list) -> list[dict[str, float]]:
    pipeline = transformers.pipeline("text-classification", str(folder), device="cpu")
    found = [pipeline(text, top_k=None, truncation=True) for text in texts]
    return [{one["label"]: one["score"] for one in of_text} for of_text in found]


def table(written: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(written)))


def same(found: list[dict[str, str]], expected: list[dict[str, float]]) -> bool:
    return len(found) == len(expected) and all(
        row["label"] == max(scores, key=scores.get)
        and all(abs(float(row[name]) - score) < 1e-5 for name, score in scores.items())
        for row, scores in zip(found, expected, strict=True)
    )


def test_lines_of_standard_input_are_labelled_as_by_a_pipeline(folder, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS) + "\n"))
    assert main(["predict", str(folder)]) == 0
    found, expected = table(capsys.readouterr().out), by_pipeline(folder, TEXTS)
    assert same(found, expected)
    assert len({row["label"] for row in found}) == 2
    assert not same(found, expected[::-1])  # the negative twin: another order, or another length, is seen
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS) + "\n"))
    assert main(["predict", str(folder), "--max-tokens", "5"]) == 0
    assert not same(table(capsys.readouterr().out), expected)


def test_a_file_with_pairs_is_labelled_as_by_a_pipeline(folder, tmp_path, capsys) -> None:
    rows = [json.dumps({"first": a, "second": b}) for a, b in zip(TEXTS, PAIRS, strict=True)]
    (tmp_path / "new.jsonl").write_text("\n".join(rows))
    given = ["--data", str(tmp_path / "new.jsonl"), "--text-column", "first", "--pair-column", "second"]
    assert main(["predict", str(folder), *given]) == 0
    both = [{"text": a, "text_pair": b} for a, b in zip(TEXTS, PAIRS, strict=True)]
    assert same(table(capsys.readouterr().out), by_pipeline(folder, both))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nowhere"], "no model in nowhere: give the folder that accum train wrote"),
        (["FOLDER", "--max-tokens", "2"], "--max-tokens must be 5 or more; got 2"),
        (["FOLDER"], "there is no text in standard input"),
        (["FOLDER", "--data", "none.csv"], "no file none.csv"),
    ],
)
def test_what_cannot_be_labelled_is_said_in_a_sentence(folder, monkeypatch, capsys, given, message) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["predict", *(str(folder) if word == "FOLDER" else word for word in given)]) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_guesses_tokens_is_refused(tmp_path, capsys) -> None:
    model = small_model("mlm", dtype=torch.float32)
    export(Loaded(model, made_tokenizer(), "made up", False, 64), tmp_path / "model")
    assert main(["predict", str(tmp_path / "model")]) == 2
    assert "does not classify texts: train with --task classification" in capsys.readouterr().err
