"""Numbers that the host reads from a GPU, twice in an update: each once, and never earlier than it must.

CUDA runs asynchronously: the host launches kernels and goes on. Reading a number makes it wait until the
GPU has finished everything launched so far, and then the GPU idles until the host has launched more.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from accum_lib._guards import Owned, check_norm

NARROW = {torch.float16, torch.bfloat16}


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
    """The 2-norm of the whole gradient: a tensor on the device, and its value, read once."""

    def __init__(self, owned: Owned) -> None:
        self._gradients = _numbers(owned.everything())
        # In 16 bits a norm overflows at 65,504, or has two digits: the squares are added up in 32.
        wide = self._gradients
        if NARROW & {g.dtype for g in wide}:
            norm = partial(torch.linalg.vector_norm, dtype=torch.float32)
            wide = [norm(g) if g.dtype in NARROW else g for g in wide]
        self.tensor = nn.utils.get_total_norm(wide)
        self.clip_by = self.tensor

    @cached_property
    def value(self) -> float:
        return float(self.tensor)

    def clip_to(self, max_norm: float) -> None:
        clipped = [SimpleNamespace(grad=gradient) for gradient in self._gradients]
        nn.utils.clip_grads_with_norm_(cast(list[Tensor], clipped), max_norm, self.clip_by)


def _numbers(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Their gradients; of a sparse one its values, the rows of an index that occurs twice added up."""
    gradients = []
    for p in parameters:
        if p.grad is not None and p.grad.is_sparse:
            p.grad = p.grad.coalesce()
            gradients.append(p.grad._values())  # the public one is a copy to autograd, not to be written to
        elif p.grad is not None:
            gradients.append(p.grad)
    return gradients


def unscale(scaler: torch.amp.GradScaler | None, owned: Owned) -> torch.amp.GradScaler | None:
    """Divide all gradients by the scale; an infinity in one of them makes every optimizer skip.

    Returns:
        The scaler, or None if it is not enabled: then it neither scales nor skips anything.

    Raises:
        ValueError: it has not scaled these gradients, has unscaled them before, they are in float16, or they
            are scaled and there is none.
    """
    if scaler is None or not scaler.is_enabled():
        first = next(owned.everything(), None)
        if first is not None and hasattr(first.grad, "is_scaled"):
            raise ValueError(
                "the gradients are scaled: give apply_update the GradScaler that accumulate was given, or "
                "the update would be as many times too large as its scale"
            )
        return None
    if len(owned.moved) > 1 or owned.others:
        largest = nn.utils.get_total_norm(_numbers(owned.everything()), norm_type=math.inf)
        for parameters in filter(None, owned.moved.values()):
            first = _numbers(parameters[:1])[0]
            first.add_((largest * 0).to(first.device))  # 0, or NaN; on the device, so nobody waits
    try:
        for optimizer in owned.moved:
            scaler.unscale_(optimizer)
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).split(". ")[0].rstrip(".")
        raise ValueError(
            f"the GradScaler cannot unscale these gradients ({reason}): give it to accumulate as well, "
            "call unscale_ nowhere else, and keep the parameters in float32"
        ) from error
    for gradient in _numbers(owned.others):
        gradient.div_(scaler.scale(torch.ones((), device=gradient.device)))
    return scaler


def step(owned: Owned, scaler: torch.amp.GradScaler | None) -> bool:
    """Step each optimizer; whether the scaler has skipped the update."""
    if scaler is None:
        for optimizer in owned.moved:
            optimizer.step()
        return False
    scale = scaler.get_scale()
    for optimizer in owned.moved:
        scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale() < scale  # it backs off only after an infinite gradient


@contextmanager
def only_if_finite(owned: Owned, norm: GradientNorm) -> Iterator[None]:
    """Around clipping and the steps: if the norm is not finite, nothing moves, and an error says so.

    Most optimizers wait for the norm. A fused Adam leaves the update out on the device, so it is launched
    first, and the norm is read afterwards.

    Raises:
        NonFiniteGradientError: parameters, gradients and the optimizer's state are as they were.
    """
    if not all(_skips_on_device(optimizer, norm.tensor) for optimizer in owned.moved):
        check_norm(norm.value)
        yield
        return
    norm.clip_by = norm.tensor.nan_to_num(
        0.0, posinf=0.0
    )  # clipping a norm of 0 leaves the gradient as it is
    # This is how a GradScaler tells the fused kernel; PyTorch has no public way (tried with 2.13).
    fused: list[Any] = list(owned.moved)
    for optimizer in fused:
        optimizer.grad_scale, optimizer.found_inf = None, (~norm.tensor.isfinite()).float()
    try:
        yield
    finally:
        for optimizer in fused:
            del optimizer.grad_scale, optimizer.found_inf
    check_norm(norm.value)


def _skips_on_device(optimizer: Optimizer, norm: Tensor) -> bool:
    """Whether all of it is a fused Adam, and the gradients are not sharded (their norm is a DTensor)."""
    adam = isinstance(optimizer, (Adam, AdamW))
    return adam and all(group.get("fused") for group in optimizer.param_groups) and type(norm) is Tensor
