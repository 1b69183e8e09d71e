"""Numbers that the host reads from a GPU, twice in an update: each once, and never earlier than it must.

CUDA runs asynchronously: the host launches kernels and goes on. Reading a number makes it wait until the
GPU has finished everything launched so far, and then the GPU idles until the host has launched more.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from accum_lib._guards import check_norm


def start_copy(losses: list[Tensor]) -> Callable[[], list[float]]:
    """Start copying the losses to the host; the function that is returned waits for the copy.

    Called after the window's last forward pass and before its backward pass. Reading the losses at the end
    would stall the host until that pass is done, and the GPU then until the optimizer's first kernels come.
    """
    if not losses:  # this process ran a stand-in only
        return list
    together = torch.stack(losses)
    if not together.is_cuda:
        values = together.tolist()
        return lambda: values
    copy = together.to("cpu", non_blocking=True)  # into pinned memory, which PyTorch allocates for this
    done = torch.cuda.Event()
    done.record()

    def read() -> list[float]:
        done.synchronize()
        return copy.tolist()

    return read


class GradientNorm:
    """The 2-norm of a model's whole gradient: a tensor on the device, and its value, read once."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = list(model.parameters())  # of a large model, this alone takes a millisecond
        self.tensor = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        self.clip_by = self.tensor

    @cached_property
    def value(self) -> float:
        return float(self.tensor)

    def clip_to(self, max_norm: float) -> None:
        nn.utils.clip_grads_with_norm_(self._parameters, max_norm, self.clip_by)


@contextmanager
def only_if_finite(optimizer: Optimizer, norm: GradientNorm) -> Iterator[None]:
    """Around clipping and ``optimizer.step``: if the norm is not finite, nothing moves, and an error says so.

    Most optimizers wait for the norm. A fused Adam leaves the update out on the device, so it is launched
    first, and the norm is read afterwards.

    Raises:
        NonFiniteGradientError: parameters, gradients and the optimizer's state are as they were.
    """
    if not _skips_on_device(optimizer, norm.tensor):
        check_norm(norm.value)
        yield
        return
    norm.clip_by = norm.tensor.nan_to_num(
        0.0, posinf=0.0
    )  # clipping a norm of 0 leaves the gradient as it is
    # This is how a GradScaler tells the fused kernel; PyTorch has no public way (tried with 2.13).
    fused: Any = optimizer
    fused.grad_scale, fused.found_inf = None, (~norm.tensor.isfinite()).float()
    try:
        yield
    finally:
        del fused.grad_scale, fused.found_inf
    check_norm(norm.value)


def _skips_on_device(optimizer: Optimizer, norm: Tensor) -> bool:
    """Whether all of it is a fused Adam, and the gradients are not sharded (their norm is a DTensor)."""
    adam = isinstance(optimizer, (Adam, AdamW))
    return adam and all(group.get("fused") for group in optimizer.param_groups) and type(norm) is Tensor
