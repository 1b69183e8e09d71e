"""What the CPU does: its attention, its LSTM, and what its kernels hold for themselves.

Copies that a kernel makes go through PyTorch's allocator, so a profiler sees them, but no operator returns
them. Of each operator one of four things is known: it holds nothing (whatever the layout, or if its arguments
are contiguous), it holds what a rule here says, or nothing at all is known: then it is run (``trial``). No
operator passes unknown.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from accum_lib.memory.recurrent import RECURRENT
from accum_lib.memory.trace import autocast
from accum_lib.memory.trace.device import IN_ONE_KERNEL, Device, Kernel
from accum_lib.memory.trace.shapes import Operator, give, tensors_in
from accum_lib.memory.trial import like, tried

aten = torch.ops.aten
FLASH = 1  # PyTorch's number for its fused attention (SDPBackend in ATen/native/transformers/sdp_utils_cpp.h)


class CPU(Device):
    """This machine's own processor, single-threaded, with PyTorch's default settings."""

    name = "cpu"
    granularity = 1

    def __init__(self) -> None:
        super().__init__()
        self._choices: dict[int, int] = {}  # of experts, by how many are made in all: those of one token

    def follows(self, tensor: Tensor) -> bool:
        return True  # what is small enough to be computed for real is in the same memory

    def kernels(self) -> dict[str, Callable]:
        return {"scaled_dot_product_attention": self.attention, **RECURRENT, **IN_ONE_KERNEL}

    def tried(self, operator: Operator, args: tuple, kwargs: dict[str, Any]) -> Kernel | None:
        if operator is aten.histc.default and not args[0].dtype.is_floating_point:
            # Transformers counts tokens by expert in whole numbers, but on a CPU, which can't, in float32.
            args = torch.empty(args[0].shape, dtype=torch.float32, device="meta"), *args[1:]
        if operator is aten.topk.default:
            self._choices[math.prod(args[0].shape[:-1]) * args[1]] = args[1]
        if _is_known(operator, args):
            return None
        found = tried(operator, args, kwargs)
        if operator is aten._grouped_mm.default and len(args) > 2:
            fullest = tried(operator, self._of_the_fullest(*args[:3]), kwargs)
            found = found._replace(before=fullest.before, after=fullest.after)
        return found

    def _of_the_fullest(self, a: Tensor, b: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of a product for each expert, one after the other, the one with as many rows as there can be.

        Which expert a token chooses depends on values, and on a trial's zeros no expert has a row: then
        nothing is held. At most all tokens choose the same experts (alike tokens do); after an unknown choice
        all rows may be one expert's. Source: _grouped_mm_fallback in aten/src/ATen/native/GroupedMMUtils.h.
        """
        rows = a.shape[1] if b.dim() == 2 else a.shape[0]
        most = rows // self._choices.get(rows, 1)
        only = give(torch.empty_like(ends[:1]), torch.tensor([most], dtype=ends.dtype))
        return (a[:, :most], b[:most], only) if b.dim() == 2 else (a[:most], b[:1], only)

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
        """The fused kernel where PyTorch chooses it, else step by step."""
        value, key, query = self.lower(value), self.lower(key), self.lower(query)
        mask = None if mask is None else self.lower(mask)
        with _disable_current_modes():  # the trace need not see how it is chosen
            q, k, v = like(query), like(key), like(value)
            hides = None if mask is None else like(mask)
            chosen = torch._fused_sdp_choice(
                q, k, v, hides, dropout, causal, scale=scale, enable_gqa=enable_gqa
            )
        if chosen == FLASH:
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


# --- What kernels hold for themselves: (before their outputs are there, beside their outputs)


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()


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


def _batch_norm_backward(args: tuple, outputs: tuple) -> tuple[int, int]:
    return 0, _bytes(args[1])


def _layer_norm_backward(args: tuple, outputs: tuple) -> tuple[int, int]:
    """The gradients of scale and shift, summed up by each thread (native/cpu/layer_norm_kernel.cpp)."""
    return 0, 2 * math.prod(args[2]) * args[1].element_size()


def _safe_softmax(args: tuple, output: Tensor) -> tuple[int, int]:
    """Which entries are masked, which rows are masked as a whole, and a zero to put there."""
    rows = output.numel() // output.shape[args[1]] if output.numel() else 0
    return 0, output.numel() + rows + output.element_size()


CPU.hidden = {
    aten._safe_softmax.default: _safe_softmax,
    aten.mm.default: _product,
    aten.addmm.default: _product,
    aten.bmm.default: _product,
    aten.baddbmm.default: _product,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
    aten.native_layer_norm_backward.default: _layer_norm_backward,
}

# --- Of which operators something is known: tests/memory/test_kernels.py runs them all

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
# Hold nothing besides their outputs, whatever the layout of their arguments.
FILL = frozenset((
    "arange", "bernoulli_", "clone", "copy_", "empty", "empty_like", "empty_strided", "eye", "fill",
    "fill_", "full", "full_like", "lift_fresh", "linspace", "masked_fill", "masked_fill_", "new_empty",
    "new_empty_strided", "new_full", "new_ones", "new_zeros", "normal_", "ones", "ones_like", "rand",
    "rand_like", "randn", "randn_like", "scalar_tensor", "uniform_", "zero_", "zeros", "zeros_like",
    "_local_scalar_dense", "_to_copy", "item", "is_nonzero", "equal",
))  # fmt: skip
# The same if their arguments are contiguous: else some of them make copies that are.
DENSE = frozenset((
    "_log_softmax", "_log_softmax_backward_data", "_softmax", "_softmax_backward_data", "_unsafe_view",
    "all", "any", "argmax", "argmin", "amax", "amin", "cat", "constant_pad_nd", "embedding",
    "embedding_dense_backward", "linalg_vector_norm", "max_pool2d_with_indices",
    "max_pool2d_with_indices_backward", "native_batch_norm", "native_layer_norm", "nll_loss_backward",
    "nll_loss_forward", "select_backward", "slice_backward", "stack", "sum", "tril", "triu",
))  # fmt: skip
# Element by element, and yet not one pass: these make intermediate tensors.
IN_SEVERAL_PASSES = frozenset((
    "float_power", "isfinite", "isinf", "ldexp", "ldexp_", "mvlgamma", "mvlgamma_",
    "native_dropout_backward", "rrelu", "rrelu_", "rrelu_with_noise", "rrelu_with_noise_",
    "rrelu_with_noise_functional",
))  # fmt: skip


@cache
def _kind(operator: Operator) -> str:
    """What is known about the operator's kernel, and of which arguments."""
    name = operator._schema.name.split("::")[-1]
    if operator.namespace == "profiler":
        return "nothing held"
    if operator.namespace != "aten":
        return "unknown"
    if operator in CPU.hidden:
        return "product" if name in PRODUCTS else "dense"
    if name in FILL or name.startswith("_foreach_"):
        return "nothing held"
    if torch.Tag.pointwise in operator.tags and name not in IN_SEVERAL_PASSES:
        return "element by element"
    if name in DENSE:
        return "dense"
    views = any(r.alias_info and not r.alias_info.is_write for r in operator._schema.returns)
    return "nothing held" if views else "unknown"


def _is_known(operator: Operator, args: tuple) -> bool:
    kind = _kind(operator)
    if kind == "element by element":
        return _one_type(operator, args)
    if kind == "dense":
        return all(t.is_contiguous() for t in tensors_in(args))
    if kind == "product":
        return all(_for_blas(t) and not in_onednn(t.dtype) for t in tensors_in(args))
    return kind != "unknown"


def _one_type(operator: Operator, args: tuple) -> bool:
    """Whether nothing is converted on the way: that is done in whole, in a copy."""
    kinds = {t.dtype for t in tensors_in(args) if t.dim()}
    return len(kinds) < 2 and all(kind.is_floating_point for kind in kinds)


def in_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies matrices of this type with the processor's help, in layouts of its own."""
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported() and not _sums_apart()
    return dtype == torch.bfloat16 and native


def _for_blas(matrix: Tensor) -> bool:
    """Whether BLAS takes the matrix as it is: its rows or its columns are contiguous."""
    *_, rows, columns = (1, *matrix.shape) if matrix.dim() < 2 else matrix.shape
    *_, down, along = (1, *matrix.stride()) if matrix.dim() < 2 else matrix.stride()
    return (
        (along == 1 and down >= max(1, columns))
        or (down == 1 and along >= max(1, rows))
        or 1 in (rows, columns)
    )
