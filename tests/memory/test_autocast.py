"""Autocast's rules on meta tensors: the same operators with the same types as PyTorch's own on the CPU."""

import pytest
import torch
from memory_cases import workload
from torch.utils._python_dispatch import TorchDispatchMode

from accum_lib.losses import in_precision
from accum_lib.memory.cpu import CPU
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import autocast, update
from accum_lib.memory.trace.autocast import known_operators, rule_of
from accum_lib.memory.trace.shapes import tensors_in

Log = list[tuple[str, tuple]]


def types(outputs) -> tuple:
    return tuple((tuple(t.shape), t.dtype) for t in tensors_in(outputs))


def in_reality(family: str, settings: Settings) -> Log:
    """Every operator of one real forward and backward pass, with the shapes and types that it returns."""
    log: Log = []

    class Logging(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types_, args=(), kwargs=None):
            outputs = operator(*args, **(kwargs or {}))
            log.append((str(operator), types(outputs)))
            return outputs

    trained = workload(family)
    model, batch = trained.model(settings.checkpointing), trained.make_batch(3)
    with Logging():
        in_precision(trained.loss_sum, settings.dtype, "cpu")(model, batch).backward()
    return log


def in_a_trace(family: str, settings: Settings, monkeypatch) -> Log:
    """The same of a traced update: its passes, and what the core does with their losses."""
    log: Log = []
    state = update._make_state
    monkeypatch.setattr(update, "_make_state", lambda *given: log.append(("update", ())) or state(*given))

    class Logging(CPU):
        def true_outputs(self, operator, args, outputs):
            log.append((str(operator), types(outputs)))
            return super().true_outputs(operator, args, outputs)

    update.trace_update(workload(family), 3, 1, settings, Logging())
    return log[: log.index(("update", ()))]


def comparable(log: Log) -> Log:
    """What returns floats, without sums of gradients (in place in one alone) and what the core does."""
    left_out = ("aten.add.Tensor", "aten.ones_like", "aten.full_like", "aten.detach", "aten.stack",
                "aten.lift_fresh")  # fmt: skip
    floats = [(n, t) for n, t in log if t and t[0][1].is_floating_point]
    return sorted(((n, t) for n, t in floats if not n.startswith(left_out)), key=str)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("family", ["MLP", "CNN", "encoder", "RoBERTa", "RoBERTa MLM", "GPT-2", "T5"])
def test_operators_and_types_are_those_of_a_real_run(family, precision, monkeypatch) -> None:
    settings = Settings(precision=precision)
    assert comparable(in_a_trace(family, settings, monkeypatch)) == comparable(in_reality(family, settings))


def test_a_rule_that_is_missing_is_noticed(monkeypatch) -> None:
    settings = Settings(precision="bf16")
    monkeypatch.setattr(autocast, "LOWER", tuple(n for n in autocast.LOWER if n != "linear"))
    assert comparable(in_a_trace("MLP", settings, monkeypatch)) != comparable(in_reality("MLP", settings))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_operator_that_autocast_knows_has_a_rule(device) -> None:
    key = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}[device]
    every = torch._C._dispatch_get_all_op_names()
    names = [n.removeprefix("aten::") for n in every if n.startswith("aten::")]
    listed = [n for n in names if torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{n}", key)]
    assert len(listed) > 100
    missing = set(listed) - set(known_operators(device)) - {"scaled_dot_product_attention"}
    assert missing == set()
    rules = {n: rule_of(n, device) for n in listed}
    assert set(rules.values()) <= {"lower", "widest", "by argument", "full"}
    assert rules["linear"] == rules["conv2d"] == rules["matmul"] == "lower"
    assert rules["nll_loss"] == "full"
    assert rule_of("layer_norm", "cuda") == "full"
    assert rule_of("softmax.int", "cuda") == "by argument"


def test_copies_of_weights_are_kept_while_the_context_is_open_and_no_longer() -> None:
    """One for each weight that a product uses, in the forward pass; gone when the update begins."""
    prediction = predict(workload("MLP"), Settings(precision="bf16", optimizer="sgd"), "cpu")
    line = prediction.timeline(2, 1, moments=1000)
    copies = line.bytes_by_category[3]
    model = workload("MLP").make_model()
    expected = sum(2 * p.numel() for p in model.parameters())
    assert copies.max() == expected
    begins = dict(line.phases)["update"]
    assert copies[line.operators >= begins].max() == 0
