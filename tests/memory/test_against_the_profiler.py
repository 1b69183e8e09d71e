"""The prediction against PyTorch's CPU profiler on real updates: 59 settings, eight families and more.

In every run, fewer settings that combine more: each family meets each option that it meets in the 59.

Every prediction comes from traces at M = 2, 7 and 16 with K = 2, so lines and splices are tested as well.
Each real update runs in a process of its own, one after the other, on one thread.
"""

import pytest
from memory_cases import FAMILIES, error, measured, predicted, workload

from accum_lib.memory import cpu
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings

TOLERANCE = 0.01

# family, M, K, what else is special: of the model, of the settings
COMBINED = [
    ("MLP", 32, 2, {}, {"optimizer": "momentum", "implementation": "for-loop", "set_to_none": False}),
    ("MLP", 1, 4, {}, {"implementation": "fused"}),
    ("MLP", 64, 1, {"dropout": 0.0}, {"optimizer": "sgd", "precision": "bf16"}),
    ("MLP", 8, 2, {}, {"optimizer": "adafactor"}),
    ("CNN", 3, 1, {}, {}),
    ("CNN", 16, 4, {"channels": 32}, {"optimizer": "sgd"}),
    ("CNN", 16, 2, {"pixels": 16}, {"optimizer": "momentum", "precision": "bf16"}),
    ("encoder", 8, 2, {}, {"implementation": "for-loop", "precision": "bf16", "checkpointing": True}),
    ("encoder", 1, 4, {"tokens": 200, "dropout": 0.0}, {"optimizer": "sgd"}),
    ("encoder", 8, 1, {}, {}),
    ("LSTM", 8, 1, {}, {}),
    ("LSTM", 4, 4, {"hidden": 256, "tokens": 32, "layers": 3}, {"optimizer": "sgd"}),
    ("LSTM", 16, 2, {"bidirectional": True}, {"optimizer": "momentum"}),
    ("RoBERTa", 8, 4, {"padded": True}, {"optimizer": "sgd", "implementation": "for-loop"}),
    ("RoBERTa", 32, 2, {"dropout": 0.0}, {"implementation": "fused", "precision": "bf16"}),
    ("RoBERTa", 8, 1, {}, {"precision": "fp16", "set_to_none": False}),
    ("RoBERTa", 16, 2, {"padded": True}, {"checkpointing": True}),
    ("RoBERTa MLM", 4, 4, {}, {"optimizer": "momentum"}),
    ("RoBERTa MLM", 8, 2, {}, {"precision": "bf16"}),
    ("RoBERTa MLM", 8, 1, {}, {}),
    ("RoBERTa causal", 8, 2, {}, {}),
    ("DistilBERT", 8, 4, {"padded": True}, {"optimizer": "sgd"}),
    ("DistilBERT", 16, 2, {"dropout": 0.0}, {"precision": "bf16", "checkpointing": True}),
    ("DistilBERT", 8, 1, {}, {}),
    ("GPT-2", 4, 4, {"dropout": 0.0}, {"optimizer": "sgd"}),
    ("GPT-2", 8, 2, {}, {"precision": "bf16"}),
    ("GPT-2", 8, 1, {"padded": True}, {"checkpointing": True}),
    ("T5", 4, 4, {"padded": True}, {"optimizer": "adafactor"}),
    ("T5", 8, 2, {"dropout": 0.0}, {"implementation": "fused", "precision": "bf16"}),
    ("T5", 2, 1, {"tokens": 150}, {"optimizer": "sgd", "checkpointing": True}),
]
CASES = [
    ("MLP", 32, 1, {}, {}),
    ("MLP", 32, 2, {}, {"implementation": "for-loop"}),
    ("MLP", 1, 4, {}, {"implementation": "fused"}),
    ("MLP", 64, 1, {"dropout": 0.0}, {"optimizer": "sgd"}),
    ("MLP", 64, 2, {}, {"optimizer": "momentum"}),
    ("MLP", 8, 2, {}, {"optimizer": "adafactor"}),
    ("MLP", 64, 4, {}, {"precision": "bf16"}),
    ("MLP", 64, 1, {}, {"set_to_none": False}),
    ("MLP", 500, 2, {}, {"set_to_none": False, "optimizer": "sgd"}),
    ("CNN", 3, 1, {}, {}),
    ("CNN", 32, 2, {}, {}),
    ("CNN", 16, 4, {"channels": 32}, {"optimizer": "sgd"}),
    ("CNN", 16, 2, {}, {"precision": "bf16"}),
    ("CNN", 64, 1, {"pixels": 16}, {"optimizer": "momentum"}),
    ("encoder", 8, 1, {}, {}),
    ("encoder", 8, 2, {}, {"implementation": "for-loop"}),
    ("encoder", 16, 4, {"dropout": 0.0}, {}),
    ("encoder", 16, 2, {}, {"precision": "bf16"}),
    ("encoder", 8, 2, {}, {"checkpointing": True}),
    ("encoder", 1, 1, {"tokens": 200}, {"optimizer": "sgd"}),
    ("LSTM", 8, 1, {}, {}),
    ("LSTM", 16, 2, {}, {"optimizer": "sgd"}),
    ("LSTM", 4, 4, {"hidden": 256, "tokens": 32, "layers": 3}, {}),
    ("LSTM", 16, 2, {"bidirectional": True}, {}),
    ("LSTM", 5, 1, {"hidden": 200, "layers": 1}, {"optimizer": "momentum"}),
    ("RoBERTa", 8, 1, {}, {}),
    ("RoBERTa", 8, 2, {}, {}),
    ("RoBERTa", 8, 4, {}, {"optimizer": "sgd", "implementation": "for-loop"}),
    ("RoBERTa", 1, 2, {}, {}),
    ("RoBERTa", 32, 2, {"dropout": 0.0}, {"implementation": "fused"}),
    ("RoBERTa", 8, 1, {"padded": True}, {}),
    ("RoBERTa", 8, 2, {"padded": True, "dropout": 0.0}, {}),
    ("RoBERTa", 8, 2, {}, {"precision": "bf16"}),
    ("RoBERTa", 8, 1, {}, {"precision": "fp16"}),
    ("RoBERTa", 8, 2, {}, {"checkpointing": True}),
    ("RoBERTa", 16, 1, {}, {"checkpointing": True, "precision": "bf16"}),
    ("RoBERTa", 8, 2, {}, {"set_to_none": False}),
    ("RoBERTa MLM", 8, 1, {}, {}),
    ("RoBERTa MLM", 8, 2, {}, {"precision": "bf16"}),
    ("RoBERTa MLM", 4, 4, {}, {"optimizer": "momentum"}),
    ("RoBERTa causal", 8, 2, {}, {}),
    ("DistilBERT", 8, 1, {}, {}),
    ("DistilBERT", 8, 4, {}, {"optimizer": "sgd"}),
    ("DistilBERT", 8, 2, {"padded": True}, {}),
    ("DistilBERT", 16, 2, {"dropout": 0.0}, {"precision": "bf16"}),
    ("DistilBERT", 8, 2, {}, {"checkpointing": True}),
    ("GPT-2", 8, 1, {}, {}),
    ("GPT-2", 8, 2, {"dropout": 0.0}, {}),
    ("GPT-2", 4, 4, {}, {"optimizer": "sgd"}),
    ("GPT-2", 8, 2, {}, {"precision": "bf16"}),
    ("GPT-2", 8, 1, {"padded": True}, {}),
    ("GPT-2", 8, 1, {}, {"checkpointing": True}),
    ("T5", 8, 1, {}, {}),
    ("T5", 8, 2, {"dropout": 0.0}, {}),
    ("T5", 4, 4, {"padded": True}, {"optimizer": "adafactor"}),
    ("T5", 8, 2, {}, {"precision": "bf16"}),
    ("T5", 8, 2, {}, {"checkpointing": True}),
    ("T5", 2, 1, {"tokens": 150}, {"optimizer": "sgd"}),
    ("T5", 8, 2, {}, {"implementation": "fused"}),
]


def case_id(case) -> str:
    family, m, k, special, settings = case
    return "-".join([family, f"M{m}", f"K{k}", *(f"{a}={b}" for a, b in {**special, **settings}.items())])


def pairs(cases) -> set[tuple]:
    """Which family meets which K and which option."""
    return {
        (family, *option)
        for family, _, k, special, settings in cases
        for option in [("K", k), *special.items(), *settings.items()]
    }


def test_the_grid_is_wide_enough() -> None:
    assert len(CASES) >= 40
    assert {family for family, *_ in CASES} == set(FAMILIES)
    assert {k for _, _, k, _, _ in CASES} == {1, 2, 4}


def test_the_combined_settings_have_every_pair_of_a_family_and_an_option() -> None:
    values = {"hidden": 200, "layers": 1}  # of one LSTM; the combined one has others
    wanted = {pair for pair in pairs(CASES) if values.get(pair[1]) != pair[2]}
    assert wanted - pairs(COMBINED) == set()
    without = [case for case in COMBINED if case[4].get("precision") != "fp16"]
    assert wanted - pairs(without) >= {("RoBERTa", "precision", "fp16")}


EVERY_RUN = [pytest.param(case, id=case_id(case)) for case in COMBINED]
MORE = [pytest.param(c, id=case_id(c), marks=pytest.mark.slow) for c in CASES if c not in COMBINED]


@pytest.mark.parametrize("case", EVERY_RUN + MORE)
def test_the_prediction_is_what_the_profiler_measures(case, record_property) -> None:
    family, m, k, special, settings = case
    key = family, tuple(special.items()), Settings(**settings)
    found, real = predicted(*key).peak_bytes(m, k), measured(*key, m, k)
    record_property("relative_error", error(found, real))
    assert abs(error(found, real)) < TOLERANCE, f"predicted {found:,}, measured {real:,}"


@pytest.mark.parametrize(("apart", "peak"), [(True, 12_241_236), (False, 11_586_772)])
def test_sixteen_bit_products_follow_the_processor(monkeypatch, apart, peak) -> None:
    """The first was measured on a Xeon with AVX-512 but no bfloat16; without sums it would be the second."""
    monkeypatch.setattr(cpu, "_sums_apart", lambda: apart)
    prediction = predict(workload("MLP"), Settings(precision="bf16"), "cpu")
    assert abs(error(prediction.peak_bytes(64, 4), peak)) < TOLERANCE / 10
