"""Watches a loop while it runs: every backward pass, every optimizer update, the weights and the buffer.

Everything is seen through hooks of PyTorch on the parameters and on all optimizers, so it does not matter
how the loop is written, or whether a framework runs it.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from accum_lib.check.places import Calls

Vectors = dict[str, Tensor]  # by parameter name


@dataclass
class BackwardPass:
    """One backward pass into ``.grad``: what lay before and after it in the buffers that it has touched."""

    learning_rate: float | None
    how: "ModelModes"
    before: Vectors = field(default_factory=dict)
    after: Vectors = field(default_factory=dict)

    def added(self) -> Vectors:
        """What it has added, whatever was there before and came after."""
        return {n: v - self.before[n] if n in self.before else v for n, v in self.after.items()}


@dataclass(frozen=True)
class ModelModes:
    """How a model is set: each module's numbers and flags, by its name, and what is trained."""

    settings: dict[str, dict[str, float]]  # such as "training" and a dropout's "p"
    trained: frozenset[str]

    def still(self) -> set[str]:
        """The modules in evaluation mode."""
        return {name for name, of_module in self.settings.items() if not of_module.get("training")}


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
    how: ModelModes  # in its last backward pass; trained is what had a gradient in any of its passes
    epoch: int | None = None
    moved: bool = False


class Recorder:
    """Records ``passes`` and ``updates`` of one model while ``watch()`` is open."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, calls: Calls | None = None
    ) -> None:
        self.model = model
        self.calls = calls or Calls()
        self.parameters = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
        if not any(p.requires_grad for p in self.parameters.values()):
            raise ValueError("the model has no parameter that requires a gradient: there is nothing to check")
        self.start = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.passes: list[BackwardPass] = []
        self.updates: list[RecordedUpdate] = []
        self.empty_steps = 0  # optimizer steps that found no gradient and moved nothing
        self.epoch_starts: list[int] = []  # how many passes there were when each epoch began
        self.scheduler_ticks = lambda: 0
        self.averages = lambda: 0
        self._optimizer = optimizer
        self._open: BackwardPass | None = None
        self._steps: list[tuple[int, Any]] = []  # optimizers that are stepping, one within the other
        self._backward: Any = None  # the call that the last arriving gradient belongs to
        self._found: Vectors = {}  # what the buffer held when a gradient was about to arrive

    @contextmanager
    def watch(self) -> Iterator["Recorder"]:
        """Hooks are in place inside, and gone after, whatever happens."""
        handles: list[Any] = []
        for name, p in self.parameters.items():
            trained = p.requires_grad
            p.requires_grad_(True)  # a loop may thaw what is frozen now
            handles.append(p.register_hook(self._arriving(name)))
            handles.append(p.register_post_accumulate_grad_hook(self._arrived(name)))
            p.requires_grad_(trained)
        handles.append(register_optimizer_step_pre_hook(self._step_begins))
        handles.append(register_optimizer_step_post_hook(self._step_ends))
        try:
            with self.calls.noted(lambda: len(self.passes)):
                yield self
        finally:
            for handle in [*handles, *(handle for _, handle in self._steps)]:
                handle.remove()

    def tensors(self) -> Vectors:
        """The parameters as plain tensors, by name."""
        return {n: p.detach() for n, p in self.parameters.items()}

    def leftover(self) -> Vectors:
        """The gradient in the buffer now."""
        return {n: _dense(p.grad) for n, p in self.parameters.items() if p.grad is not None}

    def moved(self) -> bool:
        """Whether any parameter is not what it was at the start."""
        return any(not torch.equal(p, self.start[n]) for n, p in self.parameters.items())

    def _moved_since(self, update: RecordedUpdate) -> bool:
        return any(not torch.equal(p, update.weights[n]) for n, p in self.parameters.items())

    def _arriving(self, name: str) -> Callable[[Tensor], None]:
        def hook(_: Tensor) -> None:
            buffer = self.parameters[name].grad
            self._found.pop(name, None)
            if buffer is not None:
                self._found[name] = _dense(buffer)

        return hook

    def _arrived(self, name: str) -> Callable[[Tensor], None]:
        """Called after a gradient was added to ``.grad``; ``torch.autograd.grad`` adds none."""

        def hook(parameter: Tensor) -> None:
            backward = _outermost_backward()
            again = self._open is not None and name in self._open.after
            if self._open is None or (again and (backward is None or backward is not self._backward)):
                self._open = BackwardPass(_rate(self._optimizer) if self._optimizer else None, self.modes())
                self.passes.append(self._open)
                again = False  # it is the first tensor of a new pass
            self._backward = backward
            if name in self._found and not again:
                self._open.before[name] = self._found.pop(name)
            if parameter.grad is not None:
                self._open.after[name] = _dense(parameter.grad)

        return hook

    def modes(self) -> ModelModes:
        """How the model is set now."""
        trained = frozenset(n for n, p in self.parameters.items() if p.requires_grad)
        return ModelModes({name: settings_of(m) for name, m in self.model.named_modules()}, trained)

    def _how_it_ran(self, gradient: Vectors) -> ModelModes:
        """In the passes since the last update; now, if there were none."""
        done = self.updates[-1].passes if self.updates else 0
        passes = [p.how for p in self.passes[done:]] or [self.modes()]
        return ModelModes(passes[-1].settings, frozenset(gradient).union(*(p.trained for p in passes)))

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
        if not self.updates and optimizer is not self._optimizer:
            for one in self.passes:  # it is the loop's own, whose rate was not known
                one.learning_rate = None
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
        gradient = {n: g for n, g in self.leftover().items() if n in held}
        return RecordedUpdate(
            gradient=gradient,
            held=set(held),
            weights={n: p.detach().clone() for n, p in self.parameters.items()},
            buffers={n: b.detach().clone() for n, b in self.model.named_buffers()},
            passes=len(self.passes),
            learning_rate=_rate(optimizer),
            ticks=self.scheduler_ticks(),
            averages=self.averages(),
            how=self._how_it_ran(gradient),
        )

    def _watched(
        self, closure: Callable[[], Any], optimizer: torch.optim.Optimizer, held: set[str]
    ) -> Callable[[], Any]:
        def watched() -> Any:
            answer = closure()
            earlier, now = self.updates[-1], self._now(optimizer, held)
            now.moved = earlier.moved or self._moved_since(earlier)
            self.updates[-1] = now
            return answer

        return watched

    def _step_ends(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        held = self._held(optimizer)
        if not held or not self._steps:
            return
        first, handle = self._steps.pop()
        handle.remove()
        if held.issuperset(n for n, p in self.parameters.items() if p.requires_grad):
            self._open = None
        update = self.updates[-1]
        update.moved = update.moved or self._moved_since(update)
        if not type(optimizer).__module__.startswith("torch.optim"):
            self._unwrap(first, update)
        elif self._is_empty(update):
            self.empty_steps += 1
            self.updates.pop()

    def _is_empty(self, update: RecordedUpdate) -> bool:
        """Nothing was in the buffer, no backward pass came since the update before, and nothing moved."""
        earlier = self.updates[-2].passes if len(self.updates) > 1 else 0
        nothing = not any(bool(g.any()) for g in update.gradient.values())
        return nothing and update.passes == earlier and not update.moved

    def _unwrap(self, first: int, update: RecordedUpdate) -> None:
        """An optimizer around another one: what counts is the inner one's update, if it was called."""
        if len(self.updates) > first + 1:
            del self.updates[first]
        elif not update.moved:
            self.updates.pop()


def _dense(gradient: Tensor) -> Tensor:
    """A copy, dense where the gradient is sparse."""
    return gradient.detach().to_dense() if gradient.is_sparse else gradient.detach().clone()


def _outermost_backward() -> Any:
    """The call of ``backward`` in whose course this is; None if it cannot be seen from this thread.

    Reentrant recomputation calls ``backward`` within ``backward``, and gradients arrive in pieces.
    """
    found, frame = None, sys._getframe()
    while frame is not None:
        if frame.f_code is _engine_run_backward.__code__:
            found = frame
        frame = frame.f_back  # type: ignore[assignment]
    return found


def settings_of(module: nn.Module) -> dict[str, float]:
    """A module's numbers and flags."""
    return {k: v for k, v in vars(module).items() if isinstance(v, int | float) and not k.startswith("_")}


def _rate(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the first group; NaN for an optimizer that has none."""
    return float(optimizer.param_groups[0].get("lr", math.nan))
