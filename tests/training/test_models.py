"""Checkpoints of several families load from a folder and fine-tune on one path; unsafe ones do not load."""

import json
import os

import pytest
import torch
from small_training import made_data, made_tokenizer, make_trainer, parameters, same_bits, small_config

from accum_lib.training.data import TextData
from accum_lib.training.data.tasks import Classification
from accum_lib.training.data.tokenizer import train_tokenizer
from accum_lib.training.models import export, load_model

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


def classifier(tmp_path, task: str = "classification"):
    """A folder with a trained model, whose classes are arrays and models."""
    save("roberta", tmp_path / "pretrained")
    return export(load_model(tmp_path / "pretrained", task, made_data()), tmp_path / "model")


def relabelled(*labels: str) -> TextData:
    return TextData("others", made_data().train, made_data().held_out, labels)


def test_a_checkpoint_for_other_classes_gets_a_new_classifier_and_says_so(tmp_path) -> None:
    folder = classifier(tmp_path)
    with pytest.warns(
        UserWarning, match=r"classifies into arrays, models, and the data into a, b, c: its .* last layer"
    ):
        loaded = load_model(folder, "classification", relabelled("a", "b", "c"))
    assert loaded.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert loaded.model.classifier.out_proj.weight.shape == (3, 16)
    before = load_model(folder, "classification", made_data()).model.roberta
    assert same_bits(list(loaded.model.roberta.parameters()), list(before.parameters()))


def test_classes_in_another_order_keep_their_meaning(tmp_path) -> None:
    folder = classifier(tmp_path)
    batch = made_tokenizer()(["sum of arrays", "fit a model"], return_tensors="pt", padding=True)
    there, turned = (
        load_model(folder, "classification", relabelled(*labels)).model.eval()(**batch).logits
        for labels in (("arrays", "models"), ("Models", "arrays"))
    )
    assert not torch.equal(there[:, 0], there[:, 1])
    assert torch.equal(turned, there.flip(1))


@pytest.mark.parametrize("number", [12, 16])  # a hidden layer has 16 outputs, too
def test_many_unnamed_classes_sorted_as_words_keep_their_meaning(tmp_path, number) -> None:
    names = tuple(f"LABEL_{i}" for i in range(number))
    save("roberta", tmp_path / "pretrained")
    folder = export(
        load_model(tmp_path / "pretrained", "classification", relabelled(*names)), tmp_path / "model"
    )
    batch = made_tokenizer()(["sum of arrays", "fit a model"], return_tensors="pt", padding=True)
    there, sorted_as_words = (
        load_model(folder, "classification", relabelled(*labels)).model.eval()(**batch).logits
        for labels in (names, sorted(names))
    )
    for column, name in enumerate(sorted(names)):
        assert torch.equal(sorted_as_words[:, column], there[:, names.index(name)])


def test_a_classifier_for_as_many_other_classes_is_trained_on_and_says_so(tmp_path, recwarn) -> None:
    folder = classifier(tmp_path)
    batch = made_tokenizer()(["sum of arrays", "fit a model"], return_tensors="pt", padding=True)
    there = load_model(folder, "classification", made_data()).model.eval()(**batch).logits
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"arrays, models, and the data into cats, dogs: .* is trained on, "):
        others = load_model(folder, "classification", relabelled("cats", "dogs")).model.eval()(**batch).logits
    assert torch.equal(others, there)
    config = json.loads((folder / "config.json").read_text())
    nameless = {**config, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
    (folder / "config.json").write_text(json.dumps(nameless))
    recwarn.clear()
    load_model(folder, "classification", made_data())
    assert not recwarn.list


def test_weights_that_are_not_of_the_configuration_are_refused(tmp_path) -> None:
    folder = classifier(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for change in ({"num_hidden_layers": 3}, {"num_hidden_layers": 1}, {"intermediate_size": 48}):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=r"weights of RobertaFor.* such as roberta\.encoder.* together"):
            load_model(folder, "classification", made_data())


def test_a_body_with_more_layers_than_its_configuration_is_refused(tmp_path) -> None:
    save("roberta", tmp_path / "pretrained").roberta.save_pretrained(tmp_path)
    made_tokenizer().save_pretrained(tmp_path)
    load_model(tmp_path, "classification", made_data())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(ValueError, match=r"such as encoder\.layer\.1\..* do not belong together"):
        load_model(tmp_path, "classification", made_data())


def test_a_tokenizer_that_pads_with_another_token_is_refused(tmp_path) -> None:
    folder = classifier(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 0}))
    with pytest.raises(ValueError, match="pads with token 1, and the model with 0: they do not belong"):
        load_model(folder, "classification", made_data())


def test_a_classifier_that_shall_guess_tokens_gets_a_new_head_and_says_so(tmp_path, recwarn) -> None:
    load_model(classifier(tmp_path).parent / "pretrained", "mlm", made_data())
    assert not recwarn.list
    with pytest.warns(UserWarning, match="model has no head that guesses tokens: a new one is trained"):
        load_model(tmp_path / "model", "mlm", made_data())


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "{"),
        ("tokenizer_config.json", "[]"),
        ("config.json", "{"),
        ("config.json", '{"model_type": "roberta", "hidden_size": "128"}'),
    ],
)
def test_damaged_files_beside_the_weights_are_named(tmp_path, file, content) -> None:
    folder = classifier(tmp_path)
    (folder / file).write_text(content)
    kind = "config.json" if file == "config.json" else "tokenizer"
    with pytest.raises(OSError, match=rf"(?s)no (model|tokenizer) at '{folder}'.*{kind}"):
        load_model(folder, "classification", made_data())


def test_a_family_without_a_model_for_the_task_is_refused_in_one_sentence(tmp_path) -> None:
    import transformers

    transformers.GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"is of the family gpt2, of which .* for the task mlm: take"
    ) as said:
        load_model(tmp_path, "mlm", made_data())
    assert len(str(said.value).replace(str(tmp_path), "")) < 200


def test_dropout_is_set_under_every_familys_name_for_it() -> None:
    import transformers

    from accum_lib.training.models import _set_dropout

    for config in (transformers.GPT2Config(), transformers.RobertaConfig(), transformers.DistilBertConfig()):
        _set_dropout(config, 0.0)
        found = [value for name, value in config.to_dict().items() if "drop" in name]
        assert found
        assert set(found) == {0.0}


def test_an_export_from_before_goes_only_when_the_new_one_is_whole(tmp_path, monkeypatch) -> None:
    save("roberta", tmp_path / "pretrained")
    loaded = load_model(tmp_path / "pretrained", "classification", made_data())
    (tmp_path / "model-unfinished").mkdir()
    (tmp_path / "model-unfinished" / "left_by_a_kill.json").write_text("{}")
    folder = export(loaded, tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"pretrained", "model"}
    assert not (folder / "left_by_a_kill.json").exists()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(loaded.tokenizer), "save_pretrained", full)
        with pytest.raises(OSError, match="could not be written to"):
            export(loaded, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    export(loaded, folder)
    assert {path.name for path in tmp_path.iterdir()} == {"pretrained", "model"}


def test_a_tokenizer_of_another_model_is_refused(tmp_path) -> None:
    folder = classifier(tmp_path)
    larger = train_tokenizer([e.text for e in made_data().train] + ["zebra quagga okapi"] * 9, 310, 64)
    larger.save_pretrained(folder)
    message = f"has {len(larger)} tokens, and the model embeds 300: they do not belong together"
    with pytest.raises(ValueError, match=message):
        load_model(folder, "classification", made_data())


@pytest.mark.parametrize("kept", [0, 5, 1000])
def test_damaged_weights_are_said_to_be_damaged(tmp_path, kept) -> None:
    weights = classifier(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(OSError, match=r"the weights at '.*' are damaged \(.*\): copy or download them again"):
        load_model(weights.parent, "classification", made_data())


ALBERT = dict(
    embedding_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=64,
)  # fmt: skip
MPNET = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)


@pytest.mark.parametrize(
    ("family", "shape", "longest"),
    [("albert", ALBERT, 64), ("mpnet", {**MPNET, "max_position_embeddings": 66}, 64)],
)
def test_other_families_have_their_length_and_no_dropout(tmp_path, family, shape, longest) -> None:
    import transformers

    config = transformers.AutoConfig.for_model(family, vocab_size=300, pad_token_id=1, **shape)
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    made_tokenizer().save_pretrained(tmp_path)
    loaded = load_model(tmp_path, "classification", made_data(), dropout=0.0)
    assert loaded.max_tokens == longest
    long = torch.full((1, longest), 7)
    first, second = (loaded.model(input_ids=long).logits for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises((IndexError, RuntimeError)):
        loaded.model(input_ids=torch.full((1, longest + 1), 7))


def test_layers_that_share_their_weights_cannot_be_checkpointed(tmp_path) -> None:
    import transformers

    config = transformers.AutoConfig.for_model("albert", vocab_size=300, **ALBERT)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ValueError, match=r"AlbertFor.* has no list of layers .*: leave checkpointing out"):
        make_trainer(model=model, checkpointing=True)


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
    from accum_lib.training.models import build

    with torch.device("meta"):
        model = build(size, "classification", ("a", "b"), 2000, None)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("family", SHAPES)
def test_padding_that_the_model_does_not_know_is_told_to_it(tmp_path, family) -> None:
    """A padded batch gives the logits of each text alone, of which there is nothing to pad."""
    save(family, tmp_path)
    change_config(tmp_path, pad_token_id=None)
    with pytest.warns(UserWarning, match=r"config\.json has no pad_token_id: 1 is taken"):
        loaded = load_model(tmp_path, "classification", made_data(), dropout=0.0)
    assert loaded.model.config.pad_token_id == 1
    task, model = Classification(made_data().train[:8], loaded.tokenizer, 64), loaded.model.double().eval()
    together = task.predict(model, task.batch(range(8)))[0]
    alone = torch.cat([task.predict(model, task.batch([i]))[0] for i in range(8)])
    torch.testing.assert_close(together, alone)


def test_another_padding_is_refused_with_the_file_and_the_fix(tmp_path) -> None:
    save("roberta", tmp_path)
    change_config(tmp_path, pad_token_id=5)
    with pytest.raises(ValueError, match=r"pad_token_id in .*config\.json should be 1"):
        load_model(tmp_path, "classification", made_data())


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000, and no model"),
        ({"hidden_size": 10**12}, "hidden_size = 1000000000000, and no model"),
        ({"vocab_size": 10**6, "hidden_size": 10**6}, "describes [0-9,]+ numbers, and its weights have"),
        ({"max_position_embeddings": 10**6, "hidden_size": 2000}, "describes"),
        ({"vocab_size": -3}, "cannot be made"),
        ({"num_attention_heads": 0}, "cannot be made"),
        ({"hidden_size": "many"}, "cannot be used"),
        ({"hidden_act": "no such"}, "cannot be made"),
        ({"pad_token_id": 10**6}, "cannot be made"),
        ({"id2label": {"a": {}}}, "cannot be"),
    ],
)
def test_a_configuration_with_impossible_numbers_is_refused_in_one_sentence(
    tmp_path, numbers, message
) -> None:
    save("roberta", tmp_path)
    change_config(tmp_path, **numbers)
    with pytest.raises(OSError, match=message) as caught:
        load_model(tmp_path, "classification", made_data())
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["../other.safetensors", "/etc/passwd", "sub/model.safetensors", ".."])
def test_weights_outside_of_the_folder_are_not_read(tmp_path, file) -> None:
    save("roberta", tmp_path, max_shard_size="20KB")
    index = tmp_path / "model.safetensors.index.json"
    assert load_model(tmp_path, "mlm", made_data()).trained
    content = json.loads(index.read_text())
    content["weight_map"][min(content["weight_map"])] = file
    index.write_text(json.dumps(content))
    with pytest.raises(OSError, match=r"index\.json names .*, which is not in its folder"):
        load_model(tmp_path, "mlm", made_data())
    index.write_text("[" * 10**5)
    with pytest.raises(OSError, match=r"index\.json is damaged"):
        load_model(tmp_path, "mlm", made_data())


def test_an_export_names_no_code_of_others_and_no_kernels_are_fetched(tmp_path) -> None:
    save("roberta", tmp_path / "theirs")
    code = {"AutoConfig": "evil--module.Config", "AutoModelForSequenceClassification": "evil.Model"}
    change_config(tmp_path / "theirs", auto_map=code, attn_implementation="kernels-community/evil")
    tokens = tmp_path / "theirs" / "tokenizer_config.json"
    tokens.write_text(
        json.dumps({**json.loads(tokens.read_text()), "auto_map": {"AutoTokenizer": ["evil.T", None]}})
    )
    loaded = load_model(tmp_path / "theirs", "classification", made_data())
    assert "/" not in loaded.model.config._attn_implementation
    export(loaded, tmp_path / "ours")
    assert (tmp_path / "ours" / "model.safetensors").exists()
    for written in (tmp_path / "ours").iterdir():
        assert b"evil" not in written.read_bytes()


def test_all_files_of_an_export_have_the_mode_that_the_user_wants(tmp_path) -> None:
    save("roberta", tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs", "classification", made_data())
    before = os.umask(0o027)
    try:
        export(loaded, tmp_path / "ours")
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in (tmp_path / "ours").iterdir()} == {"0o640"}


def change_config(folder, **numbers) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **numbers}))
