"""One B, cut into K micro-batches for several K: do the loss curves lie on top of each other?

They do, up to rounding, unless the model draws random numbers (dropout), for each forward pass
draws its own, or normalises by the examples of a pass (BatchNorm). Whether other random numbers matter is
seen beside one big batch that is trained once more with others.
"""

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from accum_lib.descent import Run, descend
from accum_lib.lenses.vectors import flat
from accum_lib.problems.base import Problem
from accum_lib.records.fixed_batch import FixedBatch


def fixed_batch(
    problem: Problem,
    batch_size: int = 32,
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
    updates: int = 20,
    learning_rate: float | None = None,
) -> FixedBatch:
    """Train with each K from the same weights, on the same examples in each update.

    Args:
        problem: what is trained, with SGD.
        batch_size: B, which each K must divide.
        steps: the K's; the first must be 1.
        updates: U, how many are compared.
        learning_rate: None takes the problem's own.

    Raises:
        ValueError: the first K is not 1, or one of them does not divide B.
    """
    if steps[0] != 1:
        raise ValueError(f"the first K must be 1, one big batch, with which others are compared; got {steps}")
    if odd := [k for k in steps if batch_size % k]:
        raise ValueError(f"each K must divide B = {batch_size}; {odd} do not")

    def train(k: int, masks: int = 0) -> Run:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(masks)
            return descend(
                problem,
                micro_batch_size=batch_size // k,
                accumulation_steps=k,
                learning_rate=learning_rate,
                epochs=-(-updates * batch_size // problem.num_samples) + 1,
                max_updates=updates,
            )

    runs, again = [train(k) for k in steps], train(1, masks=1)
    start, end = flat(problem.make_model().parameters()), flat(runs[0].model.parameters())
    way = float((end - start).norm())
    return FixedBatch(
        name=problem.name,
        parameters=len(start),
        batch_size=batch_size,
        steps=steps,
        losses=np.array([run.losses for run in runs]),
        again=again.losses,
        distances=np.array([float((flat(run.model.parameters()) - end).norm()) / way for run in runs]),
        distance_again=float((flat(again.model.parameters()) - end).norm()) / way,
        batch_norm=any(isinstance(layer, _BatchNorm) for layer in again.model.modules()),
    )
