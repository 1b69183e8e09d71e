"""What ``accumulate`` and ``apply_update`` refuse, in which words, and how gradients are restored then."""

import math

from torch import Tensor, nn

from accum_lib.ranks import Ranks, WeightedBatch


class NonFiniteElsewhereError(ValueError):
    """The loss of another process's micro-batch is not finite, so the window's is not either."""


class NonFiniteGradientError(ValueError):
    """A gradient is NaN or infinite though the window's loss is not; nothing has moved."""


class GradientsRestoredOnError:
    """Clear the gradients; put the old tensors back if anything is raised inside, an interrupt included.

    A class, since a generator with ``contextmanager`` costs a measurable 1 % of a tiny model's update.
    """

    def __init__(self, model: nn.Module) -> None:
        self._before = [(p, p.grad) for p in model.parameters()]

    def __enter__(self) -> None:
        for p, _ in self._before:
            p.grad = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for p, grad in self._before:
                p.grad = grad


def check_steps(steps: int) -> int:
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise TypeError(f"accumulation_steps must be a whole number, such as 4; got {steps!r}")
    if steps < 1:
        raise ValueError(f"accumulation_steps must be 1 (no accumulation) or more; got {steps}")
    return int(steps)


def check_not_empty(updates: int) -> None:
    if updates == 0:
        raise ValueError("no micro-batches: the data are empty (or a generator was already consumed)")


def check_count(value: float, index: int) -> float:
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"the count of micro-batch {index} must be 0 or more and finite; got {number}")
    return number


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
    total = ranks.add(math.fsum(losses) if finite else math.nan)  # fsum raises on inf and -inf together
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
    if max_grad_norm is not None and not max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be above 0, or None not to clip; got {max_grad_norm}")


def check_norm(norm: float) -> None:
    if not math.isfinite(norm):
        raise NonFiniteGradientError(
            f"the norm of the window's gradient is {norm}, though its loss is finite: look at its data, or "
            "lower the learning rate. The parameters are as they were before this update"
        )
