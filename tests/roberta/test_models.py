"""Checkpoints of several families load from a folder and fine-tune on one path; unsafe ones do not load."""

import json

import pytest
import torch
from small_training import made_data, made_tokenizer, make_trainer, parameters, same_bits, small_config

from accum_lib.roberta.data import TextData
from accum_lib.roberta.models import export, load_model

SHAPES = {
    "roberta": {},
    "bert": dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    ),
    "distilbert": dict(dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=64),
}  # fmt: skip
CLASSES = {
    "roberta": "RobertaForMaskedLM",
    "bert": "BertForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
}


def save(family: str, folder, **how):
    """A pretrained model (with a language-modelling head, as they are published) and its tokenizer."""
    import transformers

    config = (
        small_config()
        if family == "roberta"
        else transformers.AutoConfig.for_model(family, vocab_size=300, pad_token_id=1, **SHAPES[family])
    )
    torch.manual_seed(7)
    model = getattr(transformers, CLASSES[family])(config)
    model.save_pretrained(folder, **how)
    made_tokenizer().save_pretrained(folder)
    return model


@pytest.mark.parametrize("task", ["classification", "mlm"])
@pytest.mark.parametrize("family", SHAPES)
def test_a_local_checkpoint_loads_and_fine_tunes(tmp_path, family, task) -> None:
    saved = save(family, tmp_path / "pretrained")
    loaded = load_model(tmp_path / "pretrained", task, made_data(), dropout=0.0)
    assert loaded.trained
    assert loaded.max_tokens == 64
    body = dict(getattr(saved, family).named_parameters())
    for name, p in getattr(loaded.model, family).named_parameters():
        if name in body:  # BERT's pooler is new, as the classifier is
            assert torch.equal(p, body[name])
    runs = []
    for m, k in ((32, 1), (8, 4)):
        again = load_model(tmp_path / "pretrained", task, made_data(), dropout=0.0)
        trainer = make_trainer(
            model=again.model.double(), task=task, micro_batch_size=m, accumulation_steps=k, epochs=1
        )
        done = trainer.run()
        runs.append(parameters(trainer))
    assert done.updates == 3
    assert not same_bits(runs[0], [p.double() for p in loaded.model.parameters()])
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_what_was_trained_is_exported_and_loads_again(tmp_path) -> None:
    save("roberta", tmp_path / "pretrained")
    loaded = load_model(tmp_path / "pretrained", "classification", made_data())
    trainer = make_trainer(model=loaded.model, epochs=1)
    trainer.run()
    for _ in range(2):  # the second time over the first
        folder = export(loaded, tmp_path / "model")
    again = load_model(folder, "classification", made_data())
    assert same_bits(list(again.model.parameters()), parameters(trainer))
    assert again.model.config.id2label == {0: "arrays", 1: "models"}
    assert (folder / "model.safetensors").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "pretrained"]


def test_a_pickle_is_not_read(tmp_path) -> None:
    model = save("roberta", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_model(tmp_path, "classification", made_data())


def test_code_that_comes_with_a_checkpoint_is_not_run(tmp_path) -> None:
    save("roberta", tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('code was run')")
    config = json.loads((tmp_path / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": auto}))
    with pytest.raises((ValueError, OSError), match=r"trust_remote_code|no model"):
        load_model(tmp_path, "classification", made_data())


def test_another_number_of_classes_is_refused(tmp_path) -> None:
    save("roberta", tmp_path / "pretrained")
    folder = export(load_model(tmp_path / "pretrained", "classification", made_data()), tmp_path / "two")
    three = TextData("three", made_data().train, made_data().held_out, ("a", "b", "c"))
    with pytest.raises(ValueError, match="does not suit the data's labels"):
        load_model(folder, "classification", three)


@pytest.mark.parametrize(
    ("source", "task", "error", "message"),
    [
        ("no/such-folder", "classification", OSError, "no model at 'no/such-folder'.*offline there are tiny"),
        ("tiny", "translation", ValueError, "task must be one of classification, mlm; got 'translation'"),
    ],
)
def test_what_is_not_there_is_said(source, task, error, message, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(error, match=message):
        load_model(source, task, made_data())


def test_data_without_labels_cannot_be_classified() -> None:
    none = TextData("plain texts", made_data().train, made_data().held_out, ())
    with pytest.raises(ValueError, match=r"plain texts has 0 labels; to classify takes two\. Try --task mlm"):
        load_model("tiny", "classification", none)
    with pytest.raises(ValueError, match=r"dropout is a probability below 1; got 1\.5"):
        load_model("tiny", "classification", made_data(), dropout=1.5)


def test_an_untrained_model_says_so_and_leaves_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    loaded = load_model("tiny", "classification", made_data(), dropout=0.25)
    assert torch.equal(torch.rand(3), expected)
    assert loaded.name == "RoBERTa (tiny, untrained)"
    assert not loaded.trained
    assert loaded.model.config.hidden_dropout_prob == 0.25
    twin = load_model("tiny", "classification", made_data(), dropout=0.25)
    assert same_bits(list(twin.model.parameters()), list(loaded.model.parameters()))


@pytest.mark.parametrize(("size", "parameters"), [("base", 124_647_170), ("large", 355_361_794)])
def test_the_published_sizes_have_the_published_shapes(size, parameters) -> None:
    from accum_lib.roberta.models import build

    with torch.device("meta"):
        model = build(size, "classification", ("a", "b"), 2000, None)
    assert sum(p.numel() for p in model.parameters()) == parameters
