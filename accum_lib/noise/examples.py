"""The exact gradient of every single example, vectorised where the model allows it, else one at a time.

The loop is the obvious way and the reference: a batch of one, forward and backward, for each example.
``torch.func`` gives the same numbers many times faster, but not every model can be vectorised (code that
branches on the values of a tensor cannot be), so the loop is also what is fallen back to.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from accum_lib.problems.base import Problem
from accum_lib.vectors import flat, map_tensors

CHUNK_BYTES = 64 * 2**20  # gradients held at once while they are made
METHODS = ("auto", "func", "loop")


def example_gradients(
    problem: Problem, model: nn.Module, indices: Tensor | None = None, method: str = "auto"
) -> Tensor:
    """The gradient of each example's loss sum.

    Args:
        problem: the data and the loss.
        model: at whose weights; nothing in it is changed.
        indices: (n,) which examples; None takes all N.
        method: "loop", "func" (torch.func; the first axis of every tensor of a batch is its examples), or
            "auto": func where it gives the loop's gradients for the first two examples.

    Returns:
        (n, parameters) one row for each example, in the order of ``model.parameters()``; frozen
        parameters are left out.

    Raises:
        ValueError: the method is not known, nothing can be trained, or the model mixes the examples of a
            batch or draws random masks, so that an example has no gradient of its own.
    """
    return torch.cat(list(gradient_chunks(problem, model, indices, method)))


def gradient_chunks(
    problem: Problem, model: nn.Module, indices: Tensor | None = None, method: str = "auto"
) -> Iterator[Tensor]:
    """The rows of ``example_gradients`` a few at a time, for models whose gradients don't fit all at once.

    Args:
        problem, model, indices, method: as for ``example_gradients``.

    Raises:
        ValueError: as ``example_gradients``.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}; got {method!r}")
    check_examples_are_separate(model)
    rows = torch.arange(problem.num_samples) if indices is None else indices
    size = sum(p.numel() * p.element_size() for p in trainable(model))
    chunk = max(1, min(256, CHUNK_BYTES // size))
    if method == "auto":
        method = "func" if chunk > 1 and _can_be_vectorised(problem, model, rows[:2]) else "loop"
    gradients = _vectorised if method == "func" else _one_at_a_time
    return (gradients(problem, model, part) for part in rows.split(chunk))


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that have a gradient.

    Raises:
        ValueError: there are none.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the model requires a gradient: all are frozen")
    return parameters


def check_examples_are_separate(model: nn.Module) -> None:
    """Refuse layers under which one example's gradient depends on the others, or on random numbers.

    Raises:
        ValueError: naming the layer and what to do.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and (layer.training or not layer.track_running_stats):
            raise ValueError(
                f"{name} is a BatchNorm in training mode, which mixes the examples of a batch, so that an "
                "example has no gradient of its own: call model.eval(), or use NoiseScaleMonitor"
            )
        if isinstance(layer, _DropoutNd) and layer.training and layer.p > 0:
            raise ValueError(
                f"{name} drops out with p = {layer.p}, so that a gradient depends on the mask that was "
                "drawn: call model.eval(), or set p to 0"
            )


def to_device(batch: Any, device: torch.device) -> Any:
    """The same batch with its tensors on the device."""
    return map_tensors(lambda tensor: tensor.to(device), batch)


def _one_at_a_time(problem: Problem, model: nn.Module, indices: Tensor) -> Tensor:
    """The reference: batches of one."""
    parameters, rows = trainable(model), []
    for index in indices:
        batch = to_device(problem.batch(index[None]), parameters[0].device)
        loss = problem.loss_sum(model, batch)
        rows.append(flat(torch.autograd.grad(loss, parameters, materialize_grads=True), dtype=None))
    return torch.stack(rows)


class _LossOf(nn.Module):
    """A model together with its loss, so that ``functional_call`` can put other weights into both."""

    def __init__(self, model: nn.Module, problem: Problem) -> None:
        super().__init__()
        self.model, self._problem = model, problem

    def forward(self, batch: Any) -> Tensor:
        return self._problem.loss_sum(self.model, batch)


def _vectorised(problem: Problem, model: nn.Module, indices: Tensor) -> Tensor:
    """All at once: ``vmap`` over the examples of the function that ``grad`` makes."""
    loss_of = _LossOf(model, problem)
    weights = {name: p.detach() for name, p in loss_of.named_parameters() if p.requires_grad}

    def loss_of_one(weights: dict[str, Tensor], example: Any) -> Tensor:
        batch_of_one = map_tensors(lambda tensor: tensor.unsqueeze(0), example)
        return functional_call(loss_of, weights, (batch_of_one,))

    examples = to_device(problem.batch(indices), trainable(model)[0].device)
    # "different": dropout with p = 0 counts as random, too; what is really random has been refused.
    parts = vmap(grad(loss_of_one), in_dims=(None, 0), randomness="different")(weights, examples)
    return torch.cat([part.flatten(start_dim=1) for part in parts.values()], dim=1)


def _can_be_vectorised(problem: Problem, model: nn.Module, indices: Tensor) -> bool:
    """Whether it works, and gives what the loop gives (a batch's first axis need not be its examples)."""
    try:
        found = _vectorised(problem, model, indices)
    except Exception:  # whatever it is, the loop either manages or says what is wrong
        return False
    expected = _one_at_a_time(problem, model, indices)
    return found.shape == expected.shape and bool((found - expected).norm() <= 1e-3 * expected.norm())
