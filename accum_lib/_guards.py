"""What ``accumulate`` and ``apply_update`` refuse, in which words, and how gradients are restored then."""

import bisect
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from numbers import Real
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Optimizer, SparseAdam
from torch.optim.lr_scheduler import LRScheduler

from accum_lib.ranks import Ranks, WeightedBatch


class Owned(NamedTuple):
    """What has a gradient in an update: of each optimizer, and what of the model no optimizer moves."""

    moved: dict[Optimizer, list[Tensor]]
    others: list[Tensor]

    def everything(self) -> Iterator[Tensor]:
        return chain(self.others, *self.moved.values())

    def clear(self) -> None:
        for p in self.everything():
            p.grad = None


class NonFiniteElsewhereError(ValueError):
    """The loss of another process's micro-batch is not finite, so the window's is not either."""


class NonFiniteGradientError(ValueError):
    """A gradient is NaN or infinite though the window's loss is not; nothing has moved."""


class OwnGradients:
    """Clear the gradients; put the old tensors back if anything is raised inside, an interrupt included.

    A class, since a generator with ``contextmanager`` costs a measurable 1 % of a tiny model's update.
    """

    def __init__(self, model: Any, scaler: Any = None) -> None:
        self._scaler = scaler
        self._before = {id(p): (p, p.grad) for p in parameters_of(model)}
        self._inside, self._all_inside = len(self._before), False

    def __enter__(self) -> "OwnGradients":
        for p, grad in self._before.values():
            if grad is not None:
                p.grad = None
        return self

    def reach(self, loss: Tensor) -> None:
        """Take in what a loss reaches outside the model, before its backward pass.

        The first loss is searched, and later ones if it has anything there: a search costs 1 % of an update.
        """
        if self._all_inside:
            return
        for p in leaves(loss):
            if id(p) not in self._before:
                self._before[id(p)] = p, p.grad
                p.grad = None
        self._all_inside = len(self._before) == self._inside

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for p, grad in self._before.values():
                p.grad = grad
        elif self._scaler and self._scaler.is_enabled():
            for p, _old in self._before.values():
                if p.grad is not None:
                    p.grad.is_scaled = True  # type: ignore[attr-defined]


def parameters_of(model: Any) -> list[Tensor]:
    """Of a module, or of each of several; shared ones come twice. ``parameters()`` takes 1 % of an update."""
    modules = [model] if isinstance(model, nn.Module) else _several(model, _is_module, "model: a module")
    found: list[Tensor | None] = []
    for module in modules:  # which grows
        if module is not None:
            modules.extend(module._modules.values())
            found.extend(module._parameters.values())
    return [p for p in found if p is not None]


def _is_module(thing: Any) -> bool:
    return isinstance(thing, nn.Module)


def _is_optimizer(thing: Any) -> bool:
    return hasattr(thing, "param_groups")


def _several(given: Any, is_one: Callable[[Any], bool], wanted: str) -> list[Any]:
    """One or more, as a list."""
    listed = list(given) if isinstance(given, Sequence) else [given]
    for each in listed:
        if not is_one(each):
            raise TypeError(f"{wanted}, or several as a list; got {type(each).__name__}")
    return listed


class OpaqueGraphError(Exception):
    """A part of the graph is not known before the backward pass: reentrant checkpointing hides it."""


def leaves(loss: Tensor, *, all_of_them: bool = False) -> list[Tensor]:
    """The tensors into whose ``.grad`` its backward pass adds, each once.

    Args:
        loss: with a graph.
        all_of_them: raise if there may be more.

    Raises:
        OpaqueGraphError: a checkpoint with ``use_reentrant=True`` builds its graph in the backward pass.
    """
    found = []
    nodes: list[Any] = [loss.grad_fn]
    seen = {None, loss.grad_fn}
    for node in nodes:  # which grows
        inputs = node.next_functions
        if not inputs and hasattr(node, "variable"):
            found.append(node.variable)
        elif all_of_them and node.name().startswith("CheckpointFunction"):
            raise OpaqueGraphError
        for each, _ in inputs:
            if each not in seen:
                seen.add(each)
                nodes.append(each)
    return found


def check_steps(steps: int) -> int:
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise TypeError(f"accumulation_steps must be a whole number, such as 4; got {steps!r}")
    if steps < 1:
        raise ValueError(f"accumulation_steps must be 1 (no accumulation) or more; got {steps}")
    return int(steps)


def check_not_empty(updates: int) -> None:
    if updates == 0:
        raise ValueError("no micro-batches: the data are empty (or a generator was already consumed)")


def counted(window: list[Any], count: Callable[[Any], float]) -> tuple[list[WeightedBatch], float, int]:
    """The micro-batches that count anything, what all count together, and how many there are."""
    batches, total = [], 0.0
    for i, batch in enumerate(window):
        number = float(count(batch))
        if not 0 <= number < math.inf:
            raise ValueError(f"the count of micro-batch {i} must be 0 or more and finite; got {number}")
        if number:
            batches.append(WeightedBatch(i, batch))
            total += number
    return batches, total, len(window)


def check_total(total: float, micro_batches: int) -> None:
    if total == 0:
        raise ValueError(
            f"the window's {micro_batches} micro-batches count 0 in total, so there is no mean: are all "
            "labels ignored? Leave such a window out, or raise accumulation_steps"
        )


def check_loss(loss: Tensor, index: int) -> Tensor:
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss_sum must return a tensor; micro-batch {index} gave {type(loss).__name__}")
    if loss.ndim != 0:
        raise ValueError(
            f"loss_sum must return a scalar; micro-batch {index} gave shape {tuple(loss.shape)}: "
            "use reduction='sum'"
        )
    if not loss.requires_grad:
        raise ValueError(
            f"the loss of micro-batch {index} carries no gradient: was it computed under no_grad, "
            "detached, or from frozen parameters?"
        )
    return loss


def add_up(losses: list[float], counted: list[WeightedBatch], ranks: Ranks) -> float:
    """The whole window's loss sum, over all processes; ``losses`` are those of ``counted``.

    A loss that is not finite is an error in every process: the sum is exchanged before it is checked.
    """
    finite = all(map(math.isfinite, losses))
    total = ranks.finish(math.fsum(losses) if finite else math.nan)  # fsum raises on inf and -inf together
    for value, (index, *_) in zip(losses, counted, strict=True):
        if not math.isfinite(value):
            raise ValueError(
                f"the loss of micro-batch {index} is {value}: look at its data, or lower the learning "
                "rate. The parameters and the gradients are as they were before this window"
            )
    if not math.isfinite(total):
        raise NonFiniteElsewhereError(
            f"the window's loss is {total}, because of another process's micro-batch: its error says "
            "which. The parameters and the gradients are as they were before this window"
        )
    return total


def check_max_grad_norm(max_grad_norm: float | None) -> None:
    if max_grad_norm is not None and not (hasattr(max_grad_norm, "__float__") and max_grad_norm > 0):
        raise ValueError(f"max_grad_norm must be above 0, or None not to clip; got {max_grad_norm!r}")


def check_norm(norm: float) -> None:
    if not math.isfinite(norm):
        raise NonFiniteGradientError(
            f"the norm of the window's gradient is {norm}, though its loss is finite: look at its data, or "
            "lower the learning rate. The parameters are as they were before this update"
        )


def check_optimizers(model: Any, optimizers: Any) -> Owned:
    """What an update is about; an error, before anything moves, for an optimizer that cannot make a step."""
    moved: dict[Optimizer, list[Tensor]] = {}
    known: set[int] = set()
    for optimizer in _optimizers_in(optimizers):
        if needed := _needed(optimizer):
            raise TypeError(
                f"{type(optimizer).__name__}.step needs a {needed[0]}, since it evaluates the window several "
                "times. Call it in place of accumulate and apply_update: "
                "optimizer.step(lambda: accumulate(model, window, loss_sum, count).loss)"
            )
        parameters, sparse = [], 0
        for group in optimizer.param_groups:  # one pass, since this is run in each update
            if not _is_rate(group.get("lr") or 0.0):  # some choose their own: theirs is None
                raise ValueError(
                    f"{type(optimizer).__name__} has a learning rate of {group['lr']!r}: give a finite number"
                )
            for p in group["params"]:
                if p.grad is None:
                    continue
                if id(p) in known:
                    raise ValueError(
                        "a parameter is in two of the optimizers, or twice in one: it would be moved twice, "
                        "and its gradient unscaled, measured and clipped twice. Leave it in one place"
                    )
                known.add(id(p))
                parameters.append(p)
                sparse += p.grad.is_sparse
        # One of another origin may have taken the gradients in hooks, and step from what it keeps.
        if parameters or not _is_torchs(optimizer):
            moved[optimizer] = parameters
            _check_layouts(optimizer, sparse, len(parameters))
    if not moved:
        raise ValueError(
            "no parameter of the optimizer has a gradient: call accumulate first, with the model that the "
            "optimizer was made for; several optimizers of one model are given together, as a list"
        )
    others = {id(p): p for p in parameters_of(model) if id(p) not in known and p.grad is not None}
    return Owned(moved, list(others.values()))


def _optimizers_in(given: Any) -> list[Any]:
    if isinstance(given, Optimizer):
        return [given]
    given = _several(given, _is_optimizer, "optimizer: one of torch.optim, or one that has param_groups")
    return list(dict.fromkeys(given))


def _is_rate(rate: Any) -> bool:
    """A number. One that is a tensor may be on a GPU: to read it would make the host wait."""
    return isinstance(rate, Tensor) or (isinstance(rate, float | Real) and math.isfinite(rate))


def _check_layouts(optimizer: Optimizer, sparse: int, gradients: int) -> None:
    """PyTorch refuses these, too, but some of the parameters have moved by then."""
    name = type(optimizer).__name__
    if isinstance(optimizer, SparseAdam):
        if sparse < gradients:
            raise ValueError(
                f"{name} moves sparse gradients alone: give the dense ones an optimizer of their own"
            )
    elif sparse and any(group.get("weight_decay") for group in optimizer.param_groups):
        raise ValueError(f"{name} cannot decay weights whose gradient is sparse: give them weight_decay=0")
    elif sparse and _is_torchs(optimizer) and not isinstance(optimizer, (SGD, Adagrad)):
        raise ValueError(
            f"{name} does not take sparse gradients: build the embedding with sparse=False, or give its "
            "weights a SparseAdam, and apply_update both optimizers as a list"
        )
    elif sparse and any(group.get("fused") for group in optimizer.param_groups):
        raise ValueError(f"{name} does not take sparse gradients with fused=True: leave that out")


def _is_torchs(optimizer: Optimizer) -> bool:
    return type(optimizer).__module__.startswith("torch.")


def check_schedulers(schedulers: Any, optimizers: Any, loss: float | None) -> Callable[[], None]:
    """How to advance them once; an error, before anything has moved, if one cannot be."""
    given = schedulers if isinstance(schedulers, (list, tuple)) else [schedulers] if schedulers else []
    steps = [_advance(scheduler, _optimizers_in(optimizers), loss) for scheduler in given]

    def tick() -> None:
        for step in steps:
            step()

    return tick


def _advance(scheduler: Any, moved: list[Optimizer], loss: float | None) -> Callable[[], None]:
    name, needed = type(scheduler).__name__, _needed(scheduler)
    if isinstance(scheduler, type) or not hasattr(scheduler, "step"):
        raise TypeError(f"scheduler: one made for the optimizer, or a list of them; got {scheduler!r}")
    # The groups, since an optimizer that wraps another one shares them.
    groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", None)
    if groups is not None and all(groups is not each.param_groups for each in moved):
        raise ValueError(
            f"{name} belongs to an optimizer that this update does not move, whose rate it would change: "
            "make it for the optimizer that apply_update gets"
        )
    if needed and needed[0] not in ("metrics", "metric"):
        raise TypeError(f"{name}.step needs its {needed[0]}: advance it yourself, after apply_update")
    if needed and not hasattr(loss, "__float__"):
        raise TypeError(
            f"{name}.step needs its {needed[0]}: give apply_update the window's loss, loss=result.loss, or "
            "advance it yourself"
        )
    try:
        _try_next_rate(scheduler)
    except Exception as error:
        raise ValueError(f"{name} has no learning rate for after this update: {error}") from error
    return (lambda: scheduler.step(loss)) if needed else scheduler.step


def _try_next_rate(scheduler: Any) -> None:
    """Compute the next learning rates on a copy; those that are made of others advance some of them."""
    nested = getattr(scheduler, "_schedulers", ())
    if milestones := getattr(scheduler, "_milestones", None):
        nested = [nested[bisect.bisect_right(milestones, scheduler.last_epoch + 1)]]
    for each in nested:
        _try_next_rate(each)
    if getattr(type(scheduler), "step", None) is LRScheduler.step:  # it calls get_lr and nothing else
        groups = [dict(group) for group in scheduler.optimizer.param_groups]  # some set a momentum there, too
        trial = _twin(scheduler, last_epoch=scheduler.last_epoch + 1, _get_lr_called_within_step=True)
        trial.optimizer = _twin(scheduler.optimizer, param_groups=groups)
        _check_rates(trial.get_lr(), groups)
    elif getattr(scheduler, "default_min_lr", 0.0) is None:  # ReduceLROnPlateau has a list
        _check_rates(scheduler.min_lrs, scheduler.optimizer.param_groups)


def _check_rates(rates: list[Any], groups: list[Any]) -> None:
    if len(rates) != len(groups):
        raise ValueError(
            f"it has {len(rates)} for {len(groups)} groups of parameters; make it after add_param_group"
        )
    if not all(map(_is_rate, rates)):
        raise ValueError(f"it would be {rates}")


def _twin(thing: Any, **changed: Any) -> Any:
    """The same attributes but for those; nothing is copied."""
    twin = object.__new__(type(thing))
    twin.__dict__.update(thing.__dict__, **changed)
    return twin


def _needed(steps: Any) -> list[str]:
    """The arguments without which an optimizer's or a scheduler's ``step`` cannot be called."""
    method = getattr(type(steps), "step", None)
    return _required(method) if method else []


@cache
def _required(method: Callable[..., Any]) -> list[str]:
    _, *parameters = inspect.signature(method).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
