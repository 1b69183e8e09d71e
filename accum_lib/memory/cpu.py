"""What the CPU does: its attention, its LSTM, and the copies that oneDNN makes for itself.

oneDNN, which runs LSTMs in float32 and convolutions in the types that the processor has instructions for,
keeps tensors in layouts of its own. The copies go through PyTorch's allocator, so a profiler sees them, but
no operator returns them. Not modelled: the scratchpad of a weight's gradient in 16 bits, which is as large as
oneDNN likes. It shows where a few images make little else: a tenth of a small CNN's peak at M = 1, nothing
from M = 8 on. Nor that convolutions of bfloat16 need a copy less where AVX-512 has no instructions for that
type: up to 5 % too much is predicted there.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from accum_lib.memory.trace import autocast, untraceable
from accum_lib.memory.trace.device import Device, refusal
from accum_lib.memory.trace.shapes import Operator

aten = torch.ops.aten
CHANNELS_IN_A_BLOCK = 8  # oneDNN copies an image into blocks of channels unless it has fewer than this
OTHER_RNNS = ("lstm.data", "gru.input", "gru.data", "rnn_tanh.input", "rnn_relu.input")
LSTM_MODE = 2  # oneDNN's number for it


class CPU(Device):
    """This machine's own processor, single-threaded, with PyTorch's default settings."""

    name = "cpu"
    granularity = 1

    def follows(self, tensor: Tensor) -> bool:
        return True  # what is small enough to be computed for real is in the same memory

    def kernels(self) -> dict[str, Callable]:
        return {
            "scaled_dot_product_attention": self.attention,
            "lstm.input": lstm,
            **{name: refusal(name, "other than that of plain LSTMs") for name in OTHER_RNNS},
        }

    def true_outputs(self, operator: Operator, args: tuple, outputs: Any) -> Any:
        if operator is not aten.mkldnn_rnn_layer.default:
            return outputs
        tokens, micro_batch, features = args[0].shape
        nbytes = lstm_workspace_bytes(tokens, micro_batch, features, hidden=args[10])
        return *outputs[:3], torch.empty(nbytes, dtype=torch.uint8, device="meta")

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        dropout: float = 0.0,
        causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """The fused kernel if there is no dropout and no gradient of the mask, else step by step."""
        value, key, query = self.lower(value), self.lower(key), self.lower(query)
        mask = None if mask is None else self.lower(mask)
        fused = dropout == 0 and query.ndim == 4 and not enable_gqa
        if fused and not (mask is not None and mask.requires_grad):
            mask = additive(mask, query.dtype)
            return aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, dropout, causal, attn_mask=mask, scale=scale
            )[0]
        return step_by_step(self, query, key, value, mask, dropout, causal, scale, enable_gqa)


def additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask of truth values as numbers to add: 0 where one may look, minus infinity elsewhere."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.where(mask, torch.scalar_tensor(0.0, dtype=dtype, device=mask.device), -torch.inf)


def step_by_step(
    device: Device,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """Attention as two matrix products and a softmax. It adds the mask in place, unless it is watched."""
    device.adds_in_place = True
    try:
        with autocast.off():
            return aten._scaled_dot_product_attention_math(
                query, key, value, mask, dropout, causal, scale=scale, enable_gqa=enable_gqa
            )[0]
    finally:
        device.adds_in_place = False


# --- LSTM


def lstm(
    inputs: Tensor,
    states: list[Tensor],
    weights: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM as oneDNN runs it, layer by layer (aten/src/ATen/native/mkldnn/RNN.cpp)."""
    if not has_biases or len(states[0]) != num_layers * (1 + bidirectional) or len(weights[0]) == 0:
        raise untraceable("aten.lstm", "has no biases, or is projected", "Only plain LSTMs are known here")
    x = (inputs.transpose(0, 1) if batch_first else inputs).contiguous()
    hidden, cell, hidden_size = states[0].contiguous(), states[1].contiguous(), states[0].shape[-1]
    last_hidden, last_cell, directions = [], [], 1 + bidirectional
    for layer in range(num_layers):
        outputs = []
        for i in range(layer * directions, (layer + 1) * directions):
            output, h, c, _ = aten.mkldnn_rnn_layer(
                x, *weights[4 * i : 4 * i + 4], hidden[i], cell[i], i % directions == 1, [], LSTM_MODE,
                hidden_size, num_layers, True, bidirectional, batch_first, train,
            )  # fmt: skip
            outputs.append(output)
            last_hidden.append(h)
            last_cell.append(c)
        x = torch.cat(outputs, -1) if bidirectional else outputs[0]
        if dropout and train and layer < num_layers - 1:
            x = torch.dropout(x, dropout, True)
    x = x.transpose(0, 1) if batch_first else x
    return x, torch.stack(last_hidden), torch.stack(last_cell)


def lstm_workspace_bytes(tokens: int, micro_batch: int, features: int, hidden: int) -> int:
    """What oneDNN keeps of one LSTM layer for its backward pass, up to its rounding to pages of 4 KiB."""
    size = 8 if tokens * hidden < 2**16 else 2  # a large layer shows the rounding less
    one, two = (_workspace_of_a_run(tokens, m, features, hidden) for m in (size, 2 * size))
    return one + (two - one) // size * (micro_batch - size)


@cache
def _workspace_of_a_run(tokens: int, micro_batch: int, features: int, hidden: int) -> int:
    """oneDNN alone knows, so one small layer is run for real."""
    zeros = torch.zeros
    return aten.mkldnn_rnn_layer(
        zeros(tokens, micro_batch, features), zeros(4 * hidden, features), zeros(4 * hidden, hidden),
        zeros(4 * hidden), zeros(4 * hidden), zeros(micro_batch, hidden), zeros(micro_batch, hidden),
        False, [], LSTM_MODE, hidden, 1, True, False, False, True,
    )[3].nbytes  # fmt: skip


# --- What kernels hold for themselves: (before their outputs are there, beside their outputs)


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()


def _image_copy(tensor: Tensor) -> int:
    return _bytes(tensor) if tensor.shape[1] >= CHANNELS_IN_A_BLOCK else 0


def _columns(image: Tensor, weight: Tensor, output: Tensor) -> int:
    """The image's patches side by side, so that a matrix product convolves: what is done without oneDNN."""
    pixels = output[0, 0].numel()
    return len(image) * weight[0].numel() * pixels * image.element_size()


def _by_onednn(image: Tensor) -> bool:
    """Whether this processor leaves such a convolution to oneDNN: 16-bit types need instructions for them.

    Source: use_mkldnn in aten/src/ATen/native/Convolution.cpp.
    """
    if image.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if image.dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return image.dtype == torch.float32


@cache
def _sums_apart() -> bool:
    """Whether oneDNN multiplies matrices of bfloat16 without the processor's help: it then sums in float32.

    So it does with AVX-512 as long as that has no instructions for bfloat16. Source: use_bf16_gemm and
    use_mkldnn_matmul in aten/src/ATen/native; what it holds was measured (PyTorch 2.13).
    """
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and not torch.cpu._is_avx512_bf16_supported()


def _product(args: tuple, output: Tensor) -> tuple[int, int]:
    """The sums of one product in float32; of a batch, one product at a time."""
    if output.dtype != torch.bfloat16 or not _sums_apart():
        return 0, 0
    rows, columns = output.shape[-2:]
    return 0, 4 * rows * columns


def _convolution(args: tuple, output: Tensor) -> tuple[int, int]:
    image, weight = args[:2]
    if not _by_onednn(image):
        return _columns(image, weight, output), 0
    return _image_copy(image) + _bytes(weight) + _bytes(output), _bytes(output)


def _convolution_backward(args: tuple, outputs: tuple) -> tuple[int, int]:
    grad, image, weight = args[:3]
    if not _by_onednn(image):
        return 0, _columns(image, weight, grad)
    for_weight = _bytes(grad) + _image_copy(image)
    if outputs[0] is None:  # the image needs no gradient
        return 0, for_weight
    for_image = _bytes(grad) + _bytes(weight) + _bytes(image)
    if 2 * _bytes(image) < for_weight:
        return for_image, for_weight
    return for_image, 2 * _bytes(image) - _bytes(outputs[1])  # two copies, and no weight's gradient yet


def _batch_norm_backward(args: tuple, outputs: tuple) -> tuple[int, int]:
    return 0, _bytes(args[1])


def _lstm_layer(args: tuple, outputs: tuple) -> tuple[int, int]:
    inputs, *weights = args[:3]
    return 0, _packed(weights) + _all_gates(inputs, weights)


def _lstm_layer_backward(args: tuple, outputs: tuple) -> tuple[int, int]:
    inputs, *weights = args[:3]
    no_gradient = sum(_bytes(t) for t in args[7:10])  # zeros for outputs that were not used
    padded = sum(_padded_rows(w) for w in weights)
    return 0, _packed(weights) + _all_gates(inputs, weights) + padded + no_gradient


def _packed(weights: list[Tensor]) -> int:
    """Both weights, turned round, with rows of all four gates."""
    return sum(4 * _row_length(w.shape[0]) * w.shape[1] for w in weights)


def _all_gates(inputs: Tensor, weights: list[Tensor]) -> int:
    """The four gates of every token."""
    return 4 * _row_length(weights[0].shape[0]) * inputs.shape[0] * inputs.shape[1]


def _padded_rows(weight: Tensor) -> int:
    """A weight's gradient with longer rows, if oneDNN wants them longer."""
    rows, length = weight.shape
    return 4 * rows * _row_length(length) if _row_length(length) != length else 0


def _row_length(size: int) -> int:
    """oneDNN aligns rows to 64 bytes, and not to 256 numbers, where they would share cache lines."""
    aligned = -(-size // 16) * 16
    return aligned + 16 if aligned % 256 == 0 else aligned


CPU.hidden = {
    aten.mm.default: _product,
    aten.addmm.default: _product,
    aten.bmm.default: _product,
    aten.baddbmm.default: _product,
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
    aten.mkldnn_rnn_layer.default: _lstm_layer,
    aten.mkldnn_rnn_layer_backward.default: _lstm_layer_backward,
}
