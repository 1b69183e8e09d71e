"""Recurrent layers as the CPU runs them, which is not how PyTorch runs them on meta tensors.

From aten/src/ATen/native/RNN.cpp and mkldnn/RNN.cpp: the product with the inputs is one for all tokens, then
one cell follows the other; an LSTM in float32, without projections, is one call of oneDNN for each layer.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from accum_lib.memory.trace import INSTEAD, untraceable
from accum_lib.memory.trace.device import refusal

aten = torch.ops.aten
LSTM_MODE = 2  # oneDNN's number for it
Weights = list[Tensor]  # of one direction of a layer: of inputs, of hidden states, their biases, a projection
Cell = Callable[[Tensor, Any, Weights], Any]
Layer = Callable[[Tensor, list[Any], list[Weights]], tuple[Tensor, list[Any]]]


def _of_hidden(hidden: Tensor, weights: Weights) -> Tensor:
    return F.linear(hidden, weights[1], weights[3] if len(weights) > 3 else None)


def _simple(
    nonlinearity: Callable[[Tensor], Tensor], inputs: Tensor, hidden: Tensor, weights: Weights
) -> Tensor:
    return nonlinearity(_of_hidden(hidden, weights).add_(inputs))


def _gru(inputs: Tensor, hidden: Tensor, weights: Weights) -> Tensor:
    given = inputs.unsafe_chunk(3, 1)
    kept = list(_of_hidden(hidden, weights).unsafe_chunk(3, 1))
    reset, update = kept[0].add_(given[0]).sigmoid_(), kept[1].add_(given[1]).sigmoid_()
    new = given[2].add(kept[2].mul_(reset)).tanh_()
    return (hidden - new).mul_(update).add_(new)


def _lstm(inputs: Tensor, state: tuple[Tensor, Tensor], weights: Weights) -> tuple[Tensor, Tensor]:
    gates = _of_hidden(state[0], weights).add_(inputs).unsafe_chunk(4, 1)
    let_in, forget, cell, let_out = (
        gates[0].sigmoid_(),
        gates[1].sigmoid_(),
        gates[2].tanh_(),
        gates[3].sigmoid_(),
    )
    new = (forget * state[1]).add_(let_in * cell)
    hidden = let_out * new.tanh()
    projection = weights[-1] if len(weights) in (3, 5) else None
    return (hidden if projection is None else hidden @ projection.t()), new


def _layer(cell: Cell, x: Tensor, states: list[Any], weights: list[Weights]) -> tuple[Tensor, list[Any]]:
    """Every direction of one layer. The product with the inputs is held until the next replaces it."""
    outputs, last = [], []
    for backwards, (state, own) in enumerate(zip(states, weights, strict=True)):
        product = F.linear(x, own[0], own[2] if len(own) > 3 else None)
        steps, done = product.unbind(0), []
        for step in reversed(steps) if backwards else steps:
            state = cell(step, state, own)
            done.append(state[0] if isinstance(state, tuple) else state)
        outputs.append(torch.stack(done[::-1] if backwards else done))
        last.append(state)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1), last


def _one_after_another(
    layer: Layer, inputs: Tensor, states: list[Any], weights: Weights, num_layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, list[Any]]:  # fmt: skip
    """Every layer after the one before; the outputs, and the last state of each layer and direction."""
    x, last, directions = inputs.transpose(0, 1) if batch_first else inputs, [], 1 + bidirectional
    each = len(weights) // (num_layers * directions)
    own = [weights[i : i + each] for i in range(0, len(weights), each)]
    for first in range(0, num_layers * directions, directions):
        x, ends = layer(x, states[first : first + directions], own[first : first + directions])
        last.extend(ends)
        if dropout and train and first < (num_layers - 1) * directions:
            x = torch.dropout(x, dropout, True)
    return (x.transpose(0, 1) if batch_first else x), last


def _recurrent(
    cell: Cell, inputs: Tensor, hidden: Tensor, weights: Weights, has_biases: bool, *how: Any
) -> tuple[Tensor, Tensor]:
    outputs, last = _one_after_another(partial(_layer, cell), inputs, list(hidden.unbind(0)), weights, *how)
    return outputs, torch.stack(last)


def _long_short(
    inputs: Tensor, states: list[Tensor], weights: Weights, has_biases: bool, *how: Any
) -> tuple[Tensor, Tensor, Tensor]:
    layer: Layer = partial(_layer, _lstm)
    if _takes(inputs.dtype) and states[0].shape[-1] == states[1].shape[-1]:
        if not has_biases:
            raise untraceable("aten.lstm.input", "has no biases, which oneDNN makes up", INSTEAD)
        layer = partial(_by_onednn, *how)
    pairs = list(zip(states[0].unbind(0), states[1].unbind(0), strict=True))
    outputs, last = _one_after_another(layer, inputs, pairs, weights, *how)
    return outputs, torch.stack([h for h, _ in last]), torch.stack([c for _, c in last])


def _takes(dtype: torch.dtype) -> bool:
    """Whether oneDNN runs LSTMs of this type here: 16-bit types need instructions (use_mkldnn in RNN.cpp)."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


def _by_onednn(
    num_layers: int, dropout: float, train: bool, bidirectional: bool, batch_first: bool,
    x: Tensor, states: list[Any], weights: list[Weights],
) -> tuple[Tensor, list[Any]]:  # fmt: skip
    outputs, last, x = [], [], x.contiguous()
    for backwards, ((hidden, cell), own) in enumerate(zip(states, weights, strict=True)):
        output, *state, _ = aten.mkldnn_rnn_layer(
            x, *own, hidden, cell, backwards == 1, [], LSTM_MODE, hidden.shape[-1], num_layers, True,
            bidirectional, batch_first, train,
        )  # fmt: skip
        outputs.append(output)
        last.append(tuple(state))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1), last


RECURRENT: dict[str, Callable] = {
    "lstm.input": _long_short,
    "gru.input": partial(_recurrent, _gru),
    "rnn_tanh.input": partial(_recurrent, partial(_simple, torch.tanh)),
    "rnn_relu.input": partial(_recurrent, partial(_simple, torch.relu)),
    **{
        name: refusal(name, "packed sequences")
        for name in ("lstm.data", "gru.data", "rnn_tanh.data", "rnn_relu.data")
    },
}
