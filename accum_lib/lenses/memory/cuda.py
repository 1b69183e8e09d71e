"""What an NVIDIA GPU does: its attention kernels, its dropout, what its libraries hold.

Written from PyTorch's sources (named beside each fact). ``tests/gpu/memory_grid.py`` compares it with a
GPU; until that has run, and its JSON lies beside it, this is a prediction that no GPU has confirmed.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from accum_lib.lenses.memory.cpu import OTHER_RNNS, additive, step_by_step
from accum_lib.lenses.memory.devices import Device, refusal

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)
CUBLAS_WORKSPACE = 4096 * 2 * 1024 + 16 * 8 * 1024  # bytes (aten/src/ATen/cuda/CublasHandlePool.cpp)
CUBLAS_WORKSPACE_HOPPER = 4096 * 8 * 1024  # from compute capability 9.0 on
RNNS = ("lstm.input", *OTHER_RNNS)
FLASH_BLOCK = 128  # rows that the flash kernel's backward pass rounds up to


class CUDA(Device):
    """One GPU.

    Args:
        attention: "flash", "efficient" or "math", pinned as ``torch.nn.attention.sdpa_kernel`` pins it;
            "auto" takes flash where types and masks allow it, else the memory-efficient kernel.
        hopper: compute capability 9.0 or higher, where cuBLAS holds a larger workspace.
    """

    name = "cuda"
    granularity = 512  # c10/cuda/CUDACachingAllocator.cpp: kMinBlockSize

    def __init__(self, attention: str = "auto", hopper: bool = True) -> None:
        super().__init__()
        self.backend = attention
        self.workspace_bytes = CUBLAS_WORKSPACE_HOPPER if hopper else CUBLAS_WORKSPACE

    def follows(self, tensor: Tensor) -> bool:
        return tensor.is_meta  # what is computed for real stays in the CPU's memory

    def kernels(self) -> dict[str, Callable]:
        return {
            "dropout": dropout,
            "scaled_dot_product_attention": self.attention,
            **{name: refusal(name, "cuDNN keeps a reserve of its own") for name in RNNS},
        }

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
        """The kernel that is pinned, or the leanest that takes these types and this mask."""
        value, key, query = self.lower(value), self.lower(key), self.lower(query)
        mask = None if mask is None else self.lower(mask)
        backend = self.chosen(query, mask)
        mask = additive(mask, query.dtype)
        if backend == "flash":
            return aten._scaled_dot_product_flash_attention(query, key, value, dropout, causal, scale=scale)[
                0
            ]
        if backend == "efficient":
            mask = None if mask is None else _ready(mask, query, key)
            return aten._scaled_dot_product_efficient_attention(
                query, key, value, mask, True, dropout, causal, scale=scale
            )[0]
        return step_by_step(self, query, key, value, mask, dropout, causal, scale, enable_gqa)

    def chosen(self, query: Tensor, mask: Tensor | None) -> str:
        """The attention kernel (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp).

        Raises:
            ValueError: flash is pinned and cannot take these types or a mask.
        """
        flash_can = query.dtype in HALF and mask is None
        if self.backend == "flash" and not flash_can:
            raise ValueError(
                f"flash attention takes 16-bit types and no mask; here it gets {query.dtype}"
                f"{'' if mask is None else ' and a mask'}. Choose attention='efficient' or 'auto'"
            )
        if self.backend == "auto":
            return "flash" if flash_can else "efficient"
        return self.backend


def dropout(inputs: Tensor, probability: float, train: bool) -> Tensor:
    """One kernel that keeps a mask of one byte for each element (aten/src/ATen/native/Dropout.cpp)."""
    if not train or probability == 0:
        return inputs
    return aten.native_dropout(inputs, probability, True)[0]


def _ready(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """A mask as the memory-efficient kernel wants it (``preprocess_mask`` in transformers/attention.cpp)."""
    mask = mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    keys = mask.shape[-1]
    if keys % 16:
        return F.pad(mask, (0, 16 - keys % 16))[..., :keys]
    aligned = all(stride % 16 == 0 for stride in mask.stride()[:3])
    return mask if aligned else mask.contiguous()


# --- What kernels hold for themselves: (before their outputs are there, beside their outputs)


def _flash_backward(args: tuple, outputs: tuple) -> tuple[int, int]:
    """The query's gradient in float32, and a number for each row (cuda/flash_attn/flash_api.cpp)."""
    batch, heads, tokens, width = args[1].shape
    rows = batch * heads * _rounded(tokens, FLASH_BLOCK)
    return 0, 4 * rows * _rounded(width, 32) + 4 * rows


def _efficient_backward(args: tuple, outputs: tuple) -> tuple[int, int]:
    """In float32, the gradient times the output; in 16 bits, the query's gradient in float32.

    (transformers/cuda/attention_backward.cu, mem_eff_attention/kernel_backward.h)
    """
    query = args[1]
    rows = query.numel() // query.shape[-1]
    return 0, 4 * query.numel() + 4 * rows


def _rounded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


CUDA.hidden = {
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
}
