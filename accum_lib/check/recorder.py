"""Watches a loop while it runs: every backward pass, every optimizer update, the weights and the buffer.

Everything is seen through hooks of PyTorch on the parameters and on all optimizers, so it does not matter
how the loop is written, or whether a framework runs it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

Vectors = dict[str, Tensor]  # by parameter name


@dataclass
class BackwardPass:
    """One backward pass into ``.grad``: what lay before and after it in the buffers that it has touched."""

    learning_rate: float | None
    before: Vectors = field(default_factory=dict)
    after: Vectors = field(default_factory=dict)


@dataclass
class RecordedUpdate:
    """One optimizer update: the gradient it used, the weights it began with, how many passes there were."""

    gradient: Vectors
    held: set[str]  # the parameters that its optimizer moves
    weights: Vectors
    buffers: Vectors
    passes: int
    learning_rate: float
    ticks: int
    averages: int
    epoch: int | None = None
    moved: bool = False


class Recorder:
    """Records ``passes`` and ``updates`` of one model while ``watch()`` is open."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        self.model = model
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError("the model has no parameter that requires a gradient: there is nothing to check")
        self.start = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.passes: list[BackwardPass] = []
        self.updates: list[RecordedUpdate] = []
        self.epoch_starts: list[int] = []  # how many passes there were when each epoch began
        self.scheduler_ticks = lambda: 0
        self.averages = lambda: 0
        self._optimizer = optimizer
        self._open: BackwardPass | None = None
        self._steps: list[tuple[int, Any]] = []  # optimizers that are stepping, one within the other
        self._found: Vectors = {}  # what the buffer held when a gradient was about to arrive

    @contextmanager
    def watch(self) -> Iterator["Recorder"]:
        """Hooks are in place inside, and gone after, whatever happens."""
        handles: list[Any] = []
        for name, p in self.parameters.items():
            handles.append(p.register_hook(self._arriving(name)))
            handles.append(p.register_post_accumulate_grad_hook(self._arrived(name)))
        handles.append(register_optimizer_step_pre_hook(self._step_begins))
        handles.append(register_optimizer_step_post_hook(self._step_ends))
        try:
            yield self
        finally:
            for handle in [*handles, *(handle for _, handle in self._steps)]:
                handle.remove()

    def tensors(self) -> Vectors:
        """The parameters as plain tensors, by name."""
        return {n: p.detach() for n, p in self.parameters.items()}

    def leftover(self) -> Vectors:
        """The gradient in the buffer now."""
        return {n: p.grad.detach().clone() for n, p in self.parameters.items() if p.grad is not None}

    def moved(self) -> bool:
        """Whether any parameter is not what it was at the start."""
        return any(not torch.equal(p, self.start[n]) for n, p in self.parameters.items())

    def _arriving(self, name: str) -> Callable[[Tensor], None]:
        def hook(_: Tensor) -> None:
            buffer = self.parameters[name].grad
            self._found.pop(name, None)
            if buffer is not None:
                self._found[name] = buffer.detach().clone()

        return hook

    def _arrived(self, name: str) -> Callable[[Tensor], None]:
        """Called after a gradient was added to ``.grad``; ``torch.autograd.grad`` adds none."""

        def hook(parameter: Tensor) -> None:
            if self._open is None or name in self._open.after:  # the first tensor of a new pass
                self._open = BackwardPass(_rate(self._optimizer) if self._optimizer else None)
                self.passes.append(self._open)
            if name in self._found:
                self._open.before[name] = self._found.pop(name)
            if parameter.grad is not None:
                self._open.after[name] = parameter.grad.detach().clone()

        return hook

    def _held(self, optimizer: torch.optim.Optimizer) -> set[str]:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return {n for n, p in self.parameters.items() if id(p) in held}

    def _step_begins(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Look at the gradient only after the optimizer's own hooks have had it: they may still change it."""
        if self._held(optimizer):
            handle = optimizer.register_step_pre_hook(self._before_update)  # so it is the last of them
            self._steps.append((len(self.updates), handle))

    def _before_update(self, optimizer: torch.optim.Optimizer, arguments: Any, named: Any) -> Any:
        """``step()`` uses the gradient that is there; ``step(closure)`` the one that the closure leaves."""
        held = self._held(optimizer)
        self._optimizer = optimizer
        self._note(optimizer, held)
        values = list(arguments)
        if len(values) > 1 and callable(values[1]):  # values[0] is the optimizer itself
            values[1] = self._watched(values[1], optimizer, held)
        elif callable(named.get("closure")):
            named = {**named, "closure": self._watched(named["closure"], optimizer, held)}
        return tuple(values), named

    def _note(self, optimizer: torch.optim.Optimizer, held: set[str]) -> None:
        """A new update; or a part of the last one, if another optimizer moves other parameters then."""
        last = self.updates[-1] if self.updates else None
        if last is not None and last.passes == len(self.passes) and not last.held & held:
            last.gradient |= {n: g for n, g in self.leftover().items() if n in held}
            last.held |= held
            return
        self.updates.append(self._now(optimizer, held))

    def _now(self, optimizer: torch.optim.Optimizer, held: set[str]) -> RecordedUpdate:
        return RecordedUpdate(
            gradient={n: g for n, g in self.leftover().items() if n in held},
            held=set(held),
            weights={n: p.detach().clone() for n, p in self.parameters.items()},
            buffers={n: b.detach().clone() for n, b in self.model.named_buffers()},
            passes=len(self.passes),
            learning_rate=_rate(optimizer),
            ticks=self.scheduler_ticks(),
            averages=self.averages(),
        )

    def _watched(
        self, closure: Callable[[], Any], optimizer: torch.optim.Optimizer, held: set[str]
    ) -> Callable[[], Any]:
        def watched() -> Any:
            answer = closure()
            self.updates[-1] = self._now(optimizer, held)
            return answer

        return watched

    def _step_ends(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        held = self._held(optimizer)
        if not held or not self._steps:
            return
        first, handle = self._steps.pop()
        handle.remove()
        if len(held) == len(self.parameters):
            self._open = None
        update = self.updates[-1]
        update.moved = any(not torch.equal(p, update.weights[n]) for n, p in self.parameters.items())
        if not type(optimizer).__module__.startswith("torch.optim"):
            self._unwrap(first, update)

    def _unwrap(self, first: int, update: RecordedUpdate) -> None:
        """An optimizer around another one: what counts is the inner one's update, if it was called."""
        if len(self.updates) > first + 1:
            del self.updates[first]
        elif not update.moved:
            self.updates.pop()


def _rate(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the first group; NaN for an optimizer that has none."""
    return float(optimizer.param_groups[0].get("lr", math.nan))
