"""What an NVIDIA GPU does: its attention kernels, its dropout, what its libraries hold.

Written from PyTorch's sources (named beside each fact). ``benchmarks/gpu/memory_grid.py`` compares it with a
GPU, cell by cell; the JSON beside it says on which one it has, and with what result.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from accum_lib.memory.cpu import additive, step_by_step
from accum_lib.memory.trace.device import IN_ONE_KERNEL, Device, Scratch, refusal
from accum_lib.memory.trace.shapes import Operator

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)
# Each thread that multiplies matrices has a cuBLAS handle with a workspace of its own: the one that runs the
# forward pass, and autograd's, which runs the backward pass (aten/src/ATen/cuda/CublasHandlePool.cpp).
THREADS = 2
CUBLAS_WORKSPACE = 4096 * 2 * 1024 + 16 * 8 * 1024  # bytes
CUBLAS_WORKSPACE_HOPPER = 4096 * 8 * 1024  # from compute capability 9.0 on
CUBLASLT_WORKSPACE = 1024 * 1024  # of a matrix product with a bias (aten/src/ATen/cuda/CUDABlas.cpp)
RNNS = ("lstm.input", "lstm.data", "gru.input", "gru.data", "rnn_tanh.input", "rnn_relu.input")
# Of an H100, an H200; with fewer, a sum over very many rows takes a smaller buffer.
MULTIPROCESSORS, THREADS_PER_MULTIPROCESSOR = 132, 2048
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
        each = CUBLAS_WORKSPACE_HOPPER if hopper else CUBLAS_WORKSPACE
        self.workspaces = (*[each] * THREADS, CUBLASLT_WORKSPACE)

    def follows(self, tensor: Tensor) -> bool:
        return tensor.is_meta  # what is computed for real stays in the CPU's memory

    def kernels(self) -> dict[str, Callable]:
        return {
            "dropout": dropout,
            "scaled_dot_product_attention": self.attention,
            **IN_ONE_KERNEL,
            **{name: refusal(name, "cuDNN keeps a reserve of its own") for name in RNNS},
        }

    def true_outputs(self, operator: Operator, args: tuple, outputs: Any) -> Any:
        """The memory-efficient kernel keeps its random seed and offset on the CPU, outside CUDA graphs.

        (``_efficient_attention_forward`` in aten/src/ATen/native/transformers/cuda/attention.cu)
        """
        if operator is not aten._scaled_dot_product_efficient_attention.default:
            return outputs
        output, log_sum_exp, *numbers = outputs
        return output, log_sum_exp, *(torch.empty(n.shape, dtype=n.dtype, device="cpu") for n in numbers)

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
        grouped = enable_gqa and query.shape[-3] != key.shape[-3]
        backend = self.chosen(query, mask, grouped)
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

    def chosen(self, query: Tensor, mask: Tensor | None, grouped: bool = False) -> str:
        """The attention kernel (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp).

        Args:
            query, mask: as attention gets them.
            grouped: fewer heads of keys and values than of queries, which the efficient kernel refuses.

        Raises:
            ValueError: flash is pinned and cannot take these types or a mask, or the efficient one is and
                cannot take groups.
        """
        flash_can = query.dtype in HALF and mask is None
        if self.backend == "flash" and not flash_can:
            raise ValueError(
                f"flash attention takes 16-bit types and no mask; here it gets {query.dtype}"
                f"{'' if mask is None else ' and a mask'}. Choose attention='efficient' or 'auto'"
            )
        if self.backend == "efficient" and grouped:
            raise ValueError(
                "efficient attention takes as many heads of keys as of queries; here it gets fewer. "
                "Choose attention='math' or 'auto'"
            )
        if self.backend == "auto":
            return "flash" if flash_can else "math" if grouped else "efficient"
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
    """The query's gradient in float32, and a number for each row (cuda/flash_attn/flash_api.cpp).

    Where several heads share a key, its gradient and the value's for each of them, before they are added up.
    """
    batch, heads, tokens, width = args[1].shape
    rows, key = batch * heads * _rounded(tokens, FLASH_BLOCK), args[2]
    shared = 0 if key.shape[1] == heads else 2 * (key.numel() // key.shape[1]) * heads * key.element_size()
    return 0, 4 * rows * _rounded(width, 32) + 4 * rows + shared


def _efficient_backward(args: tuple, outputs: tuple) -> tuple[int, int]:
    """In float32, the gradient times the output; in 16 bits, the query's gradient in float32.

    (transformers/cuda/attention_backward.cu, mem_eff_attention/kernel_backward.h)
    """
    query = args[1]
    rows = query.numel() // query.shape[-1]
    return 0, 4 * query.numel() + 4 * rows


def _sum_over_rows(args: tuple, outputs: tuple) -> tuple[int, int | Scratch]:
    """A bias' gradient is a sum over rows. Where they are many, blocks of threads share a column's rows, and
    each leaves its part in a buffer (aten/src/ATen/native/cuda/Reduce.cuh, ``setReduceConfig``).
    """
    tensor, dims = args[0], [d % args[0].dim() for d in args[1] or []]
    rows = math.prod(tensor.shape[: len(dims)])
    if sorted(dims) != list(range(len(dims))) or len(dims) == tensor.dim() or not tensor.is_contiguous():
        return 0, 0  # another way to sum; of a small matrix, as far as has been seen
    columns = tensor.numel() // max(1, rows)
    accumulated = 8 if tensor.dtype == torch.float64 else 4  # bytes: 16-bit types are summed in float32
    return 0, Scratch(rows, partial(sum_buffer_bytes, columns, accumulated))


@cache
def sum_buffer_bytes(columns: int, item_bytes: int, rows: float) -> int:
    """The buffer of a sum over the rows of a matrix, and its semaphores, as PyTorch's rule has it."""
    together = next(n for n in (4, 2, 1) if columns % n == 0)  # columns that a thread adds up
    threads = 512 // together
    outputs = columns // together
    width = min(_power_of_two(outputs, threads), 32)
    height = min(_power_of_two(int(rows), threads), threads // width)
    width = min(_power_of_two(outputs, threads), threads // height)
    if rows < min(16 * height, 256):
        return 0
    values, grid = -(-rows // height), -(-outputs // width)
    blocks = MULTIPROCESSORS * (THREADS_PER_MULTIPROCESSOR // (width * height))
    if values < 256 or grid > blocks:
        return 0
    parts = int(max(min(-(-blocks // grid), -(-values // 16)), -(-values // 256)))
    return columns * item_bytes * parts * width * together + 4 * int(grid) if parts > 1 else 0


def _power_of_two(number: int, most: int) -> int:
    """The largest one that is not above the number, nor above ``most``, which is one."""
    return 1 << (max(1, min(number, most)).bit_length() - 1)


def _rounded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


CUDA.hidden = {
    aten.sum.dim_IntList: _sum_over_rows,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
}
