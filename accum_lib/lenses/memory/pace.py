"""Time beside memory: real updates with several (M, K), interleaved, on one thread of this machine."""

import random
import time
from collections.abc import Sequence

import numpy as np
import torch

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.lenses.memory.guard import guard
from accum_lib.lenses.memory.settings import Settings
from accum_lib.lenses.memory.workloads import Workload
from accum_lib.records.memory import Pace
from accum_lib.threads import one_thread


def pace(
    workload: Workload, pairs: Sequence[tuple[int, int]], rounds: int = 9, settings: Settings | None = None
) -> Pace:
    """Time one update of each (M, K) in every round, in an order drawn anew, so that drift hits all alike.

    Args:
        workload: what is trained; all pairs share one model.
        pairs: (M, K) of each.
        rounds: how often; one more to warm up is not counted.
        settings: how; AdamW, one parameter after the other, if nothing is said.

    Raises:
        WouldNotFitError: one of them would not fit into this machine's memory.
    """
    settings = settings or Settings(implementation="for-loop")
    peaks = [guard(workload, m, k, settings).peak_bytes(m, k) for m, k in pairs]
    order = random.Random(0)
    seconds = np.zeros((len(pairs), rounds + 1))
    with one_thread(), torch.random.fork_rng(devices=[]):
        model = workload.model(settings.checkpointing)
        optimizer = settings.make_optimizer(model.parameters())
        data = [[workload.make_batch(m) for _ in range(k)] for m, k in pairs]
        for turn in range(rounds + 1):
            for i in order.sample(range(len(pairs)), len(pairs)):
                started = time.perf_counter()
                accumulate(model, data[i], workload.loss_sum, lambda batch: 1.0)
                apply_update(model, optimizer)
                seconds[i, turn] = time.perf_counter() - started
    sizes, steps = np.array(pairs).T
    return Pace(sizes, steps, seconds[:, 1:], np.array(peaks))
