"""A trace from five layers is the whole model's, array by array; where it would not be, it is not taken."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from memory_cases import config
from torch import nn
from torch.nn import functional as F

from accum_lib.memory import layers
from accum_lib.memory.cpu import CPU
from accum_lib.memory.cuda import CUDA
from accum_lib.memory.layers import NotAlikeError, from_a_few, trace
from accum_lib.memory.pretrained import of_config
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace.storages import StorageFollower, Tape, _is_dense
from accum_lib.memory.trace.update import trace_update
from accum_lib.memory.workloads import Workload

DEEP = {"num_hidden_layers": 9}
BOTH = {"encoder_layers": 8, "decoder_layers": 8}
WAYS = {
    "plain": Settings(),
    "bf16": Settings(precision="bf16"),
    "checkpointing": Settings(precision="fp16", checkpointing=True),
    "LoRA": Settings(trained="lora", weights="bf16", precision="bf16"),
    "head": Settings(trained="head"),
    "for-loop": Settings(implementation="for-loop", optimizer="sgd"),
    "fused": Settings(implementation="fused", checkpointing=True),
    "adafactor": Settings(optimizer="adafactor", precision="bf16"),
}
FAMILIES = {
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "phi3", "mixtral", "qwen3_moe", "olmoe", "gpt_neox", "granite",
         "olmo2", "bert", "electra", "mpnet"), DEEP,
    ),
    "bloom": {"n_layer": 9}, "bart": BOTH, "pegasus": BOTH, "mt5": {"num_layers": 8},
}  # fmt: skip
QUICK = [("bert", "plain"), ("llama", "LoRA"), ("bart", "bf16")]
SLOW = [
    (f, w) for i, f in enumerate(FAMILIES) for j, w in enumerate(WAYS) if (i + j) % 2 and (f, w) not in QUICK
]
WHOLE = ("mt5", "checkpointing"), ("mt5", "fused")  # each layer, run again, holds the bias that all share
SLOW = [case for case in SLOW if case not in WHOLE]


def assert_same(found: Tape, whole: Tape) -> None:
    for name, expected in vars(whole).items():
        if name == "scratch":
            assert [(s, why.number) for s, why in found.scratch] == [(s, w.number) for s, w in expected]
            assert [why.nbytes(9999) for _, why in found.scratch] == [w.nbytes(9999) for _, w in expected]
        elif isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), expected, name)
        else:
            assert getattr(found, name) == expected, name


@pytest.mark.parametrize(
    ("family", "way"), QUICK + [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW]
)
def test_five_layers_say_what_the_whole_model_says(family, way) -> None:
    workload = of_config(config(family, **FAMILIES[family]), None, 32)
    device = CPU() if way in ("for-loop", "adafactor") else CUDA()
    assert_same(
        from_a_few(workload, 3, 2, WAYS[way], device), trace_update(workload, 3, 2, WAYS[way], device)
    )


@pytest.mark.parametrize("family", ["llama", pytest.param("gpt_neox", marks=pytest.mark.slow)])
def test_so_they_do_with_a_loss_in_chunks(family) -> None:
    workload, settings = of_config(config(family, **DEEP), None, 32), Settings(chunked=True)
    assert_same(from_a_few(workload, 2, 2, settings, CUDA()), trace_update(workload, 2, 2, settings, CUDA()))


class Deep(nn.Module):
    """Nine layers of a kind, and what is made of all that they return."""

    def __init__(self, of_all=lambda hidden: hidden[-1], widths=(8,) * 9, **of_config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 8)) for width in widths
        )
        self.of_all, self.config = of_all, SimpleNamespace(**of_config)

    def forward(self, x):
        hidden = [x]
        for layer in self.layers:
            hidden.append(hidden[-1] + layer(hidden[-1]))
        return self.of_all(hidden)


def workload(**how) -> Workload:
    def loss_sum(model, batch):
        return F.mse_loss(model(batch), batch, reduction="sum")

    return Workload("deep", lambda: Deep(**how), lambda m: torch.zeros(m, 8), loss_sum, repeats=True)


def test_alike_layers_of_any_model_are_repeated() -> None:
    found = from_a_few(workload(), 4, 2, Settings(), CUDA())
    assert_same(found, trace_update(workload(), 4, 2, Settings(), CUDA()))


@pytest.mark.parametrize(
    "how",
    [
        {"of_all": lambda hidden: torch.stack(hidden).sum(0)},  # as large as there are layers
        {"of_all": lambda hidden: hidden[-1] + hidden[2]},  # a layer that is no neighbour comes back
        {"widths": (8, 8, 8, 8, 16, 8, 8, 8, 8)},  # one layer is wider
        {"kinds": ["full", *["short"] * 4, "full", *["short"] * 3]},  # one layer is another, says the config
    ],
)
def test_where_anything_depends_on_the_depth_the_whole_model_is_traced(how) -> None:
    special = workload(**how)
    with pytest.raises(NotAlikeError):
        from_a_few(special, 4, 2, Settings(), CUDA())
    assert_same(trace(special, 4, 2, Settings(), CUDA()), trace_update(special, 4, 2, Settings(), CUDA()))


def test_a_parameter_for_each_layer_beside_the_layers_is_seen() -> None:
    class Scaled(Deep):
        def __init__(self) -> None:
            super().__init__()
            self.scales = nn.ParameterList(nn.Parameter(torch.ones(8)) for _ in self.layers)

        def forward(self, x):
            for scale, layer in zip(self.scales, self.layers, strict=False):
                x = x + scale * layer(x)
            return x

    with pytest.raises(NotAlikeError):
        from_a_few(replace(workload(), make_model=Scaled), 4, 2, Settings(), CUDA())


def test_one_layer_too_few_would_be_noticed(monkeypatch) -> None:
    """The negative twin of all that is the same above."""
    whole = trace_update(workload(), 4, 2, Settings(), CUDA())
    grown = layers._grown
    monkeypatch.setattr(
        layers, "_grown", lambda tape, ends, stacks, depth: grown(tape, ends, stacks, depth - 1)
    )
    with pytest.raises((NotAlikeError, AssertionError, KeyError)):
        assert_same(from_a_few(workload(), 4, 2, Settings(), CUDA()), whole)


def test_the_shortcut_runs_fewer_operators(monkeypatch) -> None:
    ran, dispatch = [], StorageFollower.__torch_dispatch__

    def counted(self, operator, *rest):
        ran.append(operator)
        return dispatch(self, operator, *rest)

    monkeypatch.setattr(StorageFollower, "__torch_dispatch__", counted)
    deep = workload(widths=(8,) * 40)
    trace(deep, 4, 2, Settings(), CUDA())
    ran.clear()  # with them what is done once for all M
    trace(deep, 8, 2, Settings(), CUDA())
    few = len(ran)
    trace_update(deep, 4, 2, Settings(), CUDA())
    assert 0 < few < (len(ran) - few) / 4


def test_a_tensor_is_dense_if_it_fills_its_memory_in_some_order() -> None:
    tensor = torch.empty(2, 3, 1, 5, device="meta")
    assert all(_is_dense(t) for t in (tensor, tensor.permute(3, 0, 2, 1), tensor[:0]))
    assert not any(_is_dense(t) for t in (tensor[:, :2], tensor.expand(2, 3, 4, 5)))
