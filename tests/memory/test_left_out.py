"""Leave one thing out of the prediction, and it no longer agrees with the profiler."""

from contextlib import nullcontext

import pytest
from memory_cases import error, measured, peak_of_a_trace, predicted, workload

from accum_lib.memory.cpu import CPU
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import storages, update

TOLERANCE = 0.01  # as in test_against_the_profiler
SGD = Settings(optimizer="sgd")
TINY = (
    ("hidden_size", 16), ("intermediate_size", 16), ("num_attention_heads", 2), ("num_hidden_layers", 8),
    ("vocab_size", 20), ("tokens", 8),
)  # fmt: skip
BIG_VOCABULARY = (("vocab_size", 20000), ("tokens", 8))  # the embedding is most of the model


def check(bytes_: int, case: tuple) -> None:
    real = measured(*case)
    assert abs(error(bytes_, real)) < TOLERANCE, f"predicted {bytes_:,}, measured {real:,}"


def fails(bytes_: int, case: tuple) -> None:
    with pytest.raises(AssertionError, match="predicted"):
        check(bytes_, case)


def test_the_gradients_that_a_second_micro_batch_finds() -> None:
    case = ("RoBERTa", (), SGD, 8, 2)
    prediction = predicted(*case[:3])
    check(prediction.peak_bytes(8, 2), case)
    fails(prediction.peak_bytes(8, 1), case)


def test_dropouts_masks(monkeypatch) -> None:
    case = ("RoBERTa", (), SGD, 8, 1)
    check(predicted(*case[:3]).peak_bytes(8, 1), case)

    class Maskless(CPU):
        def kernels(self):
            return {**super().kernels(), "dropout": lambda x, p, train: x * (1 - p)}

    fails(predict(workload("RoBERTa"), SGD, Maskless()).peak_bytes(8, 1), case)


def test_that_a_tensor_used_twice_adds_up_its_gradients_in_place(monkeypatch) -> None:
    case = ("T5", BIG_VOCABULARY, SGD, 1, 1)
    check(predicted(*case[:3]).peak_bytes(1, 1), case)
    monkeypatch.setattr(storages, "_adds_up_gradients", lambda args: False)
    fails(predict(workload("T5", **dict(BIG_VOCABULARY)), SGD, "cpu").peak_bytes(1, 1), case)


def test_that_a_tensor_with_two_owners_does_not() -> None:
    """The other way round: here the engine may not add in place, and the prediction knows."""
    case = ("RoBERTa MLM", BIG_VOCABULARY, SGD, 1, 1)
    check(predicted(*case[:3]).peak_bytes(1, 1), case)


def test_tied_weights() -> None:
    case = ("RoBERTa MLM", BIG_VOCABULARY, Settings(), 1, 1)
    check(predicted(*case[:3]).peak_bytes(1, 1), case)
    untied = workload("RoBERTa MLM", **dict(BIG_VOCABULARY), tie_word_embeddings=False)
    fails(predict(untied, Settings(), "cpu").peak_bytes(1, 1), case)


def test_the_optimizers_temporary() -> None:
    case = ("MLP", (), Settings(), 8, 1)
    check(predicted(*case[:3]).peak_bytes(8, 1), case)
    fails(predict(workload("MLP"), Settings(implementation="fused"), "cpu").peak_bytes(8, 1), case)


def test_the_inputs_of_all_micro_batches() -> None:
    """The window holds K batches: at a large K that counts."""
    case = ("CNN", (), SGD, 32, 4)
    prediction = predicted(*case[:3])
    check(prediction.peak_bytes(32, 4), case)
    fails(prediction.peak_bytes(32, 2), case)


def test_the_random_states_that_checkpointing_keeps(monkeypatch) -> None:
    """Five kilobytes for each block: of blocks as small as these, a good part."""
    case = ("RoBERTa", TINY, Settings(optimizer="sgd", checkpointing=True), 16, 1)
    check(predicted(*case[:3]).peak_bytes(16, 1), case)
    monkeypatch.setattr(update, "_random_states", nullcontext)
    fails(peak_of_a_trace(workload("RoBERTa", **dict(TINY)), 16, 1, case[2], CPU()), case)
