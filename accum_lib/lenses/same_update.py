"""Does an accumulated update equal that of one big batch? One number, for any problem."""

import copy

import torch
from torch import nn

from accum_lib.accumulate import accumulate, windows
from accum_lib.problems.base import Problem, micro_batches


def relative_difference(problem: Problem, micro_batch_size: int, accumulation_steps: int) -> float:
    """How far the first window's gradient is from that of one big batch of the same samples, in float64.

    Returns:
        ``|accumulated - big| / |big|``, over all parameters.

    Raises:
        ValueError: M·K samples are more than the problem has, or nothing was compared: no parameter has
            a gradient, or all of the big batch's are 0.
    """
    size = micro_batch_size * accumulation_steps
    if size > problem.num_samples:
        raise ValueError(f"a window of M·K = {size} samples is more than the {problem.num_samples} there are")
    model = problem.make_model().double()
    expected = _one_big_batch(problem, copy.deepcopy(model), size)
    window = next(windows(micro_batches(problem, micro_batch_size), accumulation_steps))
    accumulate(model, window, problem.loss_sum, problem.count)
    got = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    if len(got) != len(expected) or not expected.norm() > 0:
        raise ValueError(f"nothing was compared: {len(got)} gradient entries, {len(expected)} expected")
    return float((got - expected).norm() / expected.norm())


def _one_big_batch(problem: Problem, model: nn.Module, size: int) -> torch.Tensor:
    """The gradient of the mean loss over the first ``size`` samples at once, without the core."""
    batch = problem.batch(torch.arange(size))
    loss = problem.loss_sum(model, batch) / problem.count(batch)
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])
