"""Today's models from their configurations: predicted as the profiler measures, or refused in a sentence."""

import random
import warnings

import pytest
import torch
import transformers
from memory_cases import CONFIGS, EXPERTS, config, error
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from accum_lib.lessons.memory.measure import measure_apart
from accum_lib.memory.planner import plan
from accum_lib.memory.prediction import predict
from accum_lib.memory.pretrained import MAPPINGS, described, of_config
from accum_lib.memory.settings import IMPLEMENTATIONS, TRAINED, Settings
from accum_lib.memory.trace import TraceMismatchError, UntraceableError
from accum_lib.memory.tuning import prepared
from accum_lib.memory.workloads import cnn_workload
from accum_lib.training import models

TOLERANCE = 0.01
IN_EVERY_RUN = ("qwen2", "mixtral", "bart")


def drawn(family: str, number: int) -> tuple[int, int, int, Settings]:
    """T, M, K and how, the same each time; nothing is checkpointed where all layers are one (ALBERT)."""
    dice, workload = random.Random(f"{family} {number}"), of_config(config(family))
    layers, precision = workload.can_checkpoint(), dice.choice(("fp32", "bf16"))
    settings = Settings(
        optimizer=dice.choice(("adamw", "sgd")), implementation=dice.choice(IMPLEMENTATIONS),
        precision=precision, weights=dice.choice(("fp32", precision)),
        trained=dice.choice(TRAINED) if layers else "all",
        checkpointing=dice.random() < 0.3 and layers,
        chunked=dice.random() < 0.5 and workload.chunked is not None,
    )  # fmt: skip
    return dice.choice((24, 32, 64)), dice.choice((1, 3, 4, 8)), dice.choice((1, 2, 4)), settings


@pytest.mark.parametrize(
    ("family", "number"),
    [(family, 0) for family in IN_EVERY_RUN]
    + [
        pytest.param(family, number, marks=pytest.mark.slow)
        for family in CONFIGS for number in range(3) if number or family not in IN_EVERY_RUN
    ],
)  # fmt: skip
def test_the_prediction_is_what_the_profiler_measures(family, number) -> None:
    tokens, m, k, settings = drawn(family, number)
    workload = of_config(config(family), None, tokens)
    found = predict(workload, settings, "cpu").peak_bytes(m, k)
    assert abs(error(found, measure_apart(workload, m, k, settings))) < TOLERANCE


WAYS = [
    ("llama", {"trained": "lora", "weights": "bf16", "checkpointing": True}),
    ("bert", {"trained": "head"}),
    ("mistral", {"chunked": True}),
    ("mixtral", {"trained": "lora", "precision": "bf16"}),
    ("bert", {"trained": "lora", "rank": 4}),
    ("bart", {"trained": "lora"}),
    ("mt5", {"trained": "lora"}),
    ("qwen2", {"trained": "head"}),
    ("qwen2", {"chunked": True, "checkpointing": True}),
    ("qwen3", {"weights": "bf16"}),
    ("olmo2", {"chunked": True, "trained": "lora", "weights": "bf16", "precision": "bf16"}),
]


@pytest.mark.parametrize(
    ("family", "how"), WAYS[:3] + [pytest.param(*way, marks=pytest.mark.slow) for way in WAYS[3:]]
)
def test_lora_frozen_parts_16_bit_weights_and_a_loss_in_chunks_are_measured_so_too(family, how) -> None:
    workload, settings = of_config(config(family), None, 48), Settings(**how)
    found = predict(workload, settings, "cpu").peak_bytes(6, 2)
    assert abs(error(found, measure_apart(workload, 6, 2, settings))) < TOLERANCE


def in_float64(family: str, **how):
    torch.manual_seed(0)
    workload = of_config(config(family), None, 48)
    model, loss_sum = prepared(workload, Settings(**how))
    return workload, model.double(), loss_sum


def test_a_loss_in_chunks_is_the_models_own_and_so_is_its_gradient() -> None:
    workload, model, in_chunks = in_float64("qwen2", chunked=True)
    batch, found = workload.make_batch(3), []
    batch["input_ids"], batch["labels"] = (
        torch.arange(144).reshape(3, 48),
        torch.arange(7, 151).reshape(3, 48),
    )
    batch["labels"][1, 20:] = -100
    for loss_sum in (workload.loss_sum, in_chunks):
        loss_sum(model, batch).backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        model.zero_grad()
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 1e-7  # the loss itself is in float32
    assert of_config(config("gemma2")).chunked is None  # it changes its logits once more


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_lora_begins_as_the_model_itself_and_trains_nothing_else(family) -> None:
    workload, adapted, loss_sum = in_float64(family, trained="lora", rank=2)
    _, plain, _ = in_float64(family)
    batch = workload.make_batch(2)
    frozen = {k.replace(".layer.weight", ".weight").replace(".layer.bias", ".bias"): v
              for k, v in adapted.state_dict().items()}  # fmt: skip
    plain.load_state_dict({k: frozen.get(k, v) for k, v in plain.state_dict().items()})
    adapted.eval(), plain.eval()
    if family == "llama":
        found, expected = (
            loss.item() for loss in (loss_sum(adapted, batch), workload.loss_sum(plain, batch))
        )
        assert found == pytest.approx(expected, 1e-6)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained
    assert all(".up." in name or ".down." in name or name.startswith("classifier") for name in trained)
    assert any(name.startswith("classifier") for name in trained) == (family == "bert")


def test_the_logits_are_named_where_they_are_the_peak() -> None:
    large = {"vocab_size": 50_000, "num_hidden_layers": 1}
    found = plan(of_config(config("qwen2", **large), None, 256), "8GB", 8)
    assert "are the logits over the vocabulary" in found.verdict
    assert "logits" not in plan(of_config(config("qwen2"), "classification", 64), "8GB", 8).verdict
    assert (
        "logits" not in plan(of_config(config("llama"), None, 64), "8GB", 8, Settings(chunked=True)).verdict
    )


def test_where_the_logits_are_the_peak_a_loss_in_chunks_is_tried_and_what_makes_most_room_is_named() -> None:
    shape = {"vocab_size": 50_000, "num_hidden_layers": 1, "tie_word_embeddings": True}
    found = plan(of_config(config("qwen2", **shape), None, 256), "4GB", 64)
    without, chunked = (
        max((o for o in found.options if o.chunked == c), key=lambda o: o.largest_micro_batch) for c in (0, 1)
    )
    assert chunked.largest_micro_batch > 2 * without.largest_micro_batch
    most = f"loss in chunks, with up to {chunked.largest_micro_batch} examples at once (as asked "
    assert most in found.verdict
    few_words = plan(of_config(config("qwen2", num_hidden_layers=8), None, 64), "2GB", 2048)
    assert "What makes most room: bf16, AdamW, checkpointing, with up to" in few_words.verdict
    assert not any(option.chunked for option in few_words.options)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"trained": "half"}, "trained must be one of all, lora, head; got 'half'"),
        ({"weights": "int4"}, "weights must be one of fp32, bf16; got 'int4'"),
        ({"rank": 0}, "LoRA's rank must be a whole number from 1 on; got 0"),
        ({"weights": "bf16", "precision": "fp16"}, "weights in bf16 are not run in fp16"),
    ],
)
def test_ways_that_there_are_not_are_refused(how, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**how)


def test_what_has_no_layers_or_no_such_loss_says_so() -> None:
    with pytest.raises(ValueError, match="has no loss in chunks"):
        predict(of_config(config("bert")), Settings(chunked=True))
    with pytest.raises(ValueError, match="has no list of layers to freeze: train all of it"):
        predict(cnn_workload(), Settings(trained="head"))


def test_grouped_queries_take_less_than_a_head_of_keys_for_each_query() -> None:
    """The negative twin of the shapes above."""
    few, many = (of_config(config("llama", num_key_value_heads=heads)) for heads in (1, 4))
    assert predict(few, Settings(precision="bf16")).peak_bytes(16, 2) < (
        predict(many, Settings(precision="bf16")).peak_bytes(16, 2)
    )


def one_of(kind):
    """A small model of the family, if its sizes have the usual names; else two layers of its usual one."""
    usual = {**EXPERTS, "head_dim": 32, "n_layer": 2, "num_layers": 2, "num_hidden_layers": 2}
    try:
        plain = kind()
    except Exception:  # a family whose own defaults contradict each other: nobody can build one
        return None
    for wanted in (usual, {"num_hidden_layers": 2, "n_layer": 2, "num_layers": 2}):
        try:
            made = kind(**{k: v for k, v in wanted.items() if type(getattr(plain, k, None)) is int})
            with torch.device("meta"):
                of_config(made, None, 16).make_model()
        except Exception:  # of many kinds: these sizes do not go together, or a package is missing
            continue
        return made
    return None


@pytest.mark.parametrize(
    "families",
    [
        pytest.param(("deberta", "llama", "opt"), id="three"),
        pytest.param(sorted(CONFIG_MAPPING), id="all", marks=pytest.mark.slow),
    ],
)
def test_every_family_of_transformers_is_predicted_or_refused_in_a_sentence(families) -> None:
    kinds = set().union(*(getattr(transformers, mapping) for mapping in MAPPINGS.values()))
    predicted, refused = [], {}
    for family in families:
        if CONFIG_MAPPING[family] not in kinds:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = one_of(CONFIG_MAPPING[family])
            if made is None:
                continue
            try:
                assert predict(of_config(made, None, 16), Settings(precision="bf16")).peak_bytes(4, 2) > 0
                predicted.append(family)
            except (UntraceableError, TraceMismatchError) as error:
                refused[family] = str(error)
    assert len(predicted) > len(refused) > 0
    assert all("aten." in why or "cannot be traced" in why or "line up" in why for why in refused.values())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_hidden_layers", 10**7, "num_hidden_layers must be from 1 to 1,000; got 10,000,000"),
        ("num_hidden_layers", 0, "num_hidden_layers must be from 1 to 1,000; got 0"),
        ("vocab_size", 10**15, "vocab_size must be from 1 to 100,000,000; got"),
        ("num_key_value_heads", 0, "num_key_value_heads must be from 1 to"),
        (
            "quantization_config",
            {"quant_method": "bitsandbytes"},
            "quantized weights, of which nothing is pre",
        ),
    ],
)
def test_a_configuration_of_which_nothing_can_be_predicted_is_refused_at_once(key, value, message) -> None:
    """Ten million layers were built for minutes; four-bit weights were planned as if they had 32."""
    made = config("llama")
    setattr(made, key, value)
    with pytest.raises(ValueError, match=message):
        of_config(made)


@pytest.mark.parametrize("written", ['"num_labels": 1000000000', '"text_config": {"num_labels": 1000000000}'])
def test_a_short_configuration_does_not_fill_the_memory(written, tmp_path) -> None:
    """Three million classes took 22 s and 2 GB: for each, a name is made as soon as it is read."""
    (tmp_path / "config.json").write_text(f'{{"model_type": "bert", {written}}}')
    with pytest.raises(ValueError, match="num_labels must be 100,000 at most; got 1,000,000,000"):
        described(str(tmp_path))
    with pytest.raises(OSError, match="num_labels must be 100,000 at most"):
        models._configuration(str(tmp_path))


def test_a_folder_and_its_config_json_are_the_same_model(tmp_path) -> None:
    config("llama").save_pretrained(tmp_path)
    peaks = {
        predict(described(str(where), None, 32), Settings()).peak_bytes(2, 2)
        for where in (tmp_path, tmp_path / "config.json")
    }
    assert peaks == {predict(of_config(config("llama"), None, 32), Settings()).peak_bytes(2, 2)}
    assert described(str(tmp_path)).name == f"{tmp_path}, causal, T = 128"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{", "no configuration of .* can be read"),
        ('{"model_type": "nobody"}', "no configuration of .* can be read"),
        ('{"model_type": "canine"}', "is of the family canine, of which Transformers has no model"),
        ('{"model_type": "vit"}', "is of the family vit, of which Transformers has no model that classifies"),
        ('{"model_type": "bert", "max_position_embeddings": 64}', "reads 2 to 64 tokens; got 128"),
    ],
)
def test_what_is_no_model_is_said_in_a_sentence(tmp_path, written, message) -> None:
    (tmp_path / "config.json").write_text(written)
    with pytest.raises(ValueError, match=message):
        described(str(tmp_path))
    with pytest.raises(ValueError, match=r"there is no file .*other/config.json"):
        described(str(tmp_path / "other" / "config.json"))
    with pytest.raises(ValueError, match="has no head 'mlm'; it has classification, causal"):
        of_config(config("llama"), "mlm")
