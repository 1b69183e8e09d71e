"""Watches a loop while it runs: every backward pass, every optimizer update, the weights and the buffer.

Everything is seen through hooks of PyTorch on the parameters and on all optimizers, so it does not matter
how the loop is written, or whether a framework runs it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

Vectors = dict[str, Tensor]  # by parameter name


@dataclass
class Pass:
    """One backward pass: what lay in the buffer before it, and what it added."""

    before: Vectors
    added: Vectors
    learning_rate: float | None = None


@dataclass
class Update:
    """One optimizer update: the gradient it used, the weights it began with, how many passes there were."""

    gradient: Vectors
    weights: Vectors
    buffers: Vectors
    passes: int
    learning_rate: float
    ticks: int
    averages: int
    epoch: int = 0
    moved: bool = False


class Recorder:
    """Records ``passes`` and ``updates`` of one model while ``watch()`` is open."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        self.model = model
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError(
                "the model has no parameter that requires a gradient, so there is nothing to check"
            )
        self.passes: list[Pass] = []
        self.updates: list[Update] = []
        self.epoch_starts: list[int] = []  # how many passes there were when each epoch began
        self.scheduler_ticks = lambda: 0
        self.averages = lambda: 0
        self._optimizer = optimizer
        self._open: Pass | None = None

    @contextmanager
    def watch(self) -> Iterator["Recorder"]:
        """Hooks are in place inside, and gone after, whatever happens."""
        handles = [p.register_hook(self._on_gradient(n)) for n, p in self.parameters.items()]
        values = list(self.parameters.values())
        handles.append(torch.autograd.graph.register_multi_grad_hook(values, self._on_pass_end, mode="all"))
        handles.append(register_optimizer_step_pre_hook(self._before_update))
        handles.append(register_optimizer_step_post_hook(self._after_update))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def tensors(self) -> Vectors:
        """The parameters as plain tensors, by name."""
        return {n: p.detach() for n, p in self.parameters.items()}

    def leftover(self) -> Vectors:
        """The gradient that lies in the buffer now."""
        return {n: p.grad.detach().clone() for n, p in self.parameters.items() if p.grad is not None}

    def _on_gradient(self, name: str) -> Any:
        def hook(gradient: Tensor) -> None:
            if self._open is None or name in self._open.added:  # the first tensor of a new pass
                self._open = Pass({}, {}, self._learning_rate())
                self.passes.append(self._open)
            buffer = self.parameters[name].grad
            if buffer is not None:
                self._open.before[name] = buffer.detach().clone()
            self._open.added[name] = gradient.detach().clone()

        return hook

    def _on_pass_end(self, _: Any) -> None:
        self._open = None

    def _learning_rate(self) -> float | None:
        return float(self._optimizer.param_groups[0]["lr"]) if self._optimizer else None

    def _ours(self, optimizer: torch.optim.Optimizer) -> bool:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return any(id(p) in held for p in self.parameters.values())

    def _before_update(self, optimizer: torch.optim.Optimizer, arguments: Any, named: Any) -> Any:
        """``step()`` uses the gradient that is there; ``step(closure)`` the one that the closure leaves."""
        if not self._ours(optimizer):
            return None
        self._open, self._optimizer = None, optimizer
        self.updates.append(self._now(optimizer))
        values = list(arguments)
        if len(values) > 1 and callable(values[1]):  # values[0] is the optimizer itself
            values[1] = self._watched(values[1], optimizer)
        elif callable(named.get("closure")):
            named = {**named, "closure": self._watched(named["closure"], optimizer)}
        return tuple(values), named

    def _watched(self, closure: Callable[[], Any], optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
        def watched() -> Any:
            answer = closure()
            self.updates[-1] = self._now(optimizer)
            return answer

        return watched

    def _now(self, optimizer: torch.optim.Optimizer) -> Update:
        return Update(
            gradient=self.leftover(),
            weights={n: p.detach().clone() for n, p in self.parameters.items()},
            buffers={n: b.detach().clone() for n, b in self.model.named_buffers()},
            passes=len(self.passes),
            learning_rate=float(optimizer.param_groups[0]["lr"]),
            ticks=self.scheduler_ticks(),
            averages=self.averages(),
        )

    def _after_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._ours(optimizer) and self.updates:
            update = self.updates[-1]
            update.moved = any(not torch.equal(p, update.weights[n]) for n, p in self.parameters.items())
