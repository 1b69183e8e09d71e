"""Other ways to save the memory that accumulation saves, or the gradient buffer that it needs.

Each is an optimizer whose hooks take every parameter's gradient as soon as the engine has finished it, so
that gradients need not all be alive at once. The core's ``accumulate`` and ``apply_update`` run as ever.
None of them can clip by the whole gradient's norm: it never exists.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

DEFAULTS = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}  # as torch.optim.AdamW has them


class HookedAdamW(Optimizer):
    """What the three below share: AdamW's state, and a hook on every parameter.

    Args:
        parameters: to be optimized.
        lr: the learning rate.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, **_: Any) -> None:
        super().__init__(parameters, {"lr": lr, **DEFAULTS})
        for p in self.parameters():
            self.state[p] = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p), "step": 0}
            p.register_post_accumulate_grad_hook(self.on_gradient)

    def parameters(self) -> list[Tensor]:
        """Those that are trained."""
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def on_gradient(self, p: Tensor) -> None:
        """Called when ``p.grad`` has this micro-batch's gradient added to it."""
        raise NotImplementedError

    def fold(self, p: Tensor, gradient: Tensor) -> None:
        """Add a gradient to both moments."""
        state, (beta1, beta2) = self.state[p], self.defaults["betas"]
        state["exp_avg"].add_(gradient, alpha=1 - beta1)
        state["exp_avg_sq"].addcmul_(gradient, gradient, value=1 - beta2)

    def decay(self, p: Tensor) -> None:
        """Let both moments fade; once for each update."""
        state, (beta1, beta2) = self.state[p], self.defaults["betas"]
        state["exp_avg"].mul_(beta1)
        state["exp_avg_sq"].mul_(beta2)
        state["step"] += 1

    @torch.no_grad()
    def move(self, p: Tensor) -> None:
        """AdamW's step from the moments (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2)."""
        state, (beta1, beta2), lr = self.state[p], self.defaults["betas"], self.defaults["lr"]
        p.mul_(1 - lr * self.defaults["weight_decay"])
        root = state["exp_avg_sq"].sqrt().div_((1 - beta2 ** state["step"]) ** 0.5)
        root.add_(self.defaults["eps"])
        p.addcdiv_(state["exp_avg"], root, value=-lr / (1 - beta1 ** state["step"]))


class AdamWInBackward(HookedAdamW):
    """Each parameter moves, and its gradient goes, in the midst of the backward pass.

    Exact for K = 1. With K > 1 it moves K times, by micro-batches, while a window is still under way: that is
    not accumulation, so the two exclude each other.
    """

    def on_gradient(self, p: Tensor) -> None:
        assert p.grad is not None
        with torch.no_grad():
            self.decay(p)
            self.fold(p, p.grad)
        p.grad = None
        self.move(p)

    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        """Nothing is left to do."""


class AdamA(HookedAdamW):
    """Fold every micro-batch's gradient into the moments at once (Zhang et al. 2023, arXiv 2305.19982).

    The first moment comes out exact. The second gets the sum of the micro-batches' squares in place of the
    square of their sum, so the steps are others than those of a big batch.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, **_: Any) -> None:
        super().__init__(parameters, lr)
        self._begun: set[Tensor] = set()  # parameters whose moments have faded in this window

    def on_gradient(self, p: Tensor) -> None:
        assert p.grad is not None
        with torch.no_grad():
            if p not in self._begun:
                self.decay(p)
                self._begun.add(p)
            self.fold(p, p.grad)
        p.grad = None

    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has had a gradient since the last update."""
        for p in self.parameters():
            if p in self._begun:
                self.move(p)
        self._begun.clear()


class AdamWWithBf16Gradients(HookedAdamW):
    """Keep the sum of the micro-batches' gradients in bfloat16: half the bytes, 8 bits of mantissa.

    Attributes:
        buffers: the sums so far.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, **_: Any) -> None:
        super().__init__(parameters, lr)
        self.buffers: dict[Tensor, Tensor] = {}

    def on_gradient(self, p: Tensor) -> None:
        assert p.grad is not None
        gradient = p.grad.to(torch.bfloat16)
        p.grad = None
        if p in self.buffers:
            self.buffers[p].add_(gradient)
        else:
            self.buffers[p] = gradient

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        """One parameter after the other, each gradient in full precision while its parameter moves."""
        for p in self.parameters():
            if p in self.buffers:
                self.decay(p)
                self.fold(p, self.buffers.pop(p).to(p.dtype))
                self.move(p)
