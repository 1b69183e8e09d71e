"""How far a window's gradient is from the exact one in 32 and in 16 bits, whole and accumulated.

Autocast runs the forward and backward pass of each micro-batch in 16 bits where that is safe; weights, and
the ``.grad`` in which micro-batches add up, stay in float32 (Micikevicius et al. 2018, arXiv 1710.03740).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from accum_lib.accumulate import LossSum, accumulate
from accum_lib.lenses.equivalence.case import cast
from accum_lib.lenses.vectors import gradient_of
from accum_lib.losses import in_precision
from accum_lib.problems.base import Problem
from accum_lib.records.mixed_precision import PrecisionError

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def precision_errors(
    problem: Problem, batch_size: int = 32, steps: Sequence[int] = (1, 8)
) -> list[PrecisionError]:
    """The first window's gradient in each precision and for each K, against one big batch in float64.

    Args:
        problem: its first ``batch_size`` samples are the window; its model must draw no random numbers.
        batch_size: B.
        steps: the K's; B / K examples in each micro-batch.
    """
    exact = _gradient(problem.make_model().double(), problem, batch_size, 1, problem.loss_sum)
    model = problem.make_model()
    found = []
    for precision, dtype in PRECISIONS.items():
        loss_sum = in_precision(problem.loss_sum, dtype, "cpu")
        for k in steps:
            gradient = _gradient(model, problem, batch_size, k, loss_sum)
            found.append(PrecisionError(precision, k, float((gradient - exact).norm() / exact.norm())))
    return found


def _gradient(model: nn.Module, problem: Problem, batch_size: int, steps: int, loss_sum: LossSum) -> Tensor:
    model.zero_grad(set_to_none=True)
    dtype = next(model.parameters()).dtype
    parts = torch.arange(batch_size).split(batch_size // steps)
    window = [cast(problem.batch(rows), dtype) for rows in parts]
    accumulate(model, window, loss_sum, problem.count)
    return gradient_of(model)
