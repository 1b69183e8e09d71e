"""Measure the memory of a real update on this machine, with PyTorch's own profiler.

The profiler counts from when it starts, and a second one in the same process counts the first one's
frees; so one process measures one update (``measure_apart`` starts it).

Time beside memory: real updates with several (M, K), interleaved, on one thread of this machine.
"""

import gc
import multiprocessing
import os
import pickle
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from accum_lib.accumulate import LossSum, accumulate, apply_update
from accum_lib.losses import in_precision
from accum_lib.machine import copies, one_thread
from accum_lib.memory.guard import guard
from accum_lib.memory.records import Pace
from accum_lib.memory.settings import Settings
from accum_lib.memory.tuning import prepared
from accum_lib.memory.workloads import Workload

MARK = "the update that is measured"


def measure_on_cpu(
    workload: Workload, micro_batch_size: int, accumulation_steps: int, settings: Settings
) -> int:
    """The most bytes that PyTorch's CPU allocator holds at once during an update, everything included.

    Real weights, a real update to warm up, then the one that counts. Call it once in a process.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        _two_updates(workload, micro_batch_size, accumulation_steps, settings)
    return most_held(profiler)


def most_held(profiler: Any) -> int:
    """The most bytes that were allocated at once between the beginning of ``MARK`` and its end."""
    start, end, changes = 0, 0, []
    for event in _events(profiler.profiler.kineto_results.experimental_event_tree()):
        if event.name == MARK:
            start, end = event.start_time_ns, event.end_time_ns
        elif event.tag == torch._C._profiler._EventType.Allocation:
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    when, bytes_ = np.array(sorted(changes)).T  # added up here: the profiler's own total may begin above zero
    held = np.cumsum(bytes_)
    return int(held[(start <= when) & (when <= end)].max())


def measure_apart(*arguments: Any) -> int:
    """``measure_on_cpu`` in a process of its own, which is a copy of one that has loaded PyTorch.

    What cannot be sent to such a process (a class or a loss within a function, a parametrized model) is
    measured in a copy of this one.
    """
    sent = _can_be_sent(arguments)
    context: Any = copies("torch._dynamo", __name__) if sent else multiprocessing.get_context("fork")
    with context.Pool(1, initializer=_take, initargs=(arguments,), maxtasksperchild=1) as pool:
        return pool.apply(_one_thread_measure)


def _can_be_sent(arguments: tuple) -> bool:
    try:
        pickle.dumps(arguments)
    except Exception:  # each kind of object raises its own
        return False
    return True


_taken: list[tuple] = []  # in the process that measures: what


def _take(arguments: tuple) -> None:
    _taken[:] = [arguments]


def _one_thread_measure() -> int:
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the profiler writes there; exceptions come back anyway
    return measure_on_cpu(*_taken[0])


def _two_updates(workload: Workload, micro_batch_size: int, steps: int, settings: Settings) -> None:
    torch.manual_seed(0)
    model, loss_sum = prepared(workload, settings)
    optimizer = settings.make_optimizer(model.parameters())
    window = [workload.make_batch(micro_batch_size) for _ in range(steps)]
    _update(model, window, loss_sum, optimizer, settings)
    if not settings.set_to_none:
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
    gc.collect()
    gc.disable()
    with record_function(MARK):
        _update(model, window, loss_sum, optimizer, settings)
    gc.enable()


def _update(
    model: nn.Module, window: list[Any], loss_sum: LossSum, optimizer: torch.optim.Optimizer,
    settings: Settings,
) -> None:  # fmt: skip
    accumulate(model, window, in_precision(loss_sum, settings.dtype, "cpu"), lambda batch: 1.0)
    apply_update(model, optimizer)


def _events(roots: list[Any]) -> Iterator[Any]:
    waiting = list(roots)
    while waiting:
        event = waiting.pop()
        yield event
        waiting.extend(event.children)


def pace(
    workload: Workload, pairs: Sequence[tuple[int, int]], rounds: int = 9, settings: Settings | None = None
) -> Pace:
    """Time one update of each (M, K) in every round, in a random order, so that drift hits all alike.

    Args:
        workload: what is trained; all pairs share one model.
        pairs: (M, K) of each.
        rounds: how often; one more to warm up is not counted.
        settings: how; AdamW, one parameter after the other, by default.

    Raises:
        WouldNotFitError: one of them would not fit into this machine's memory.
    """
    settings = settings or Settings(implementation="for-loop")
    peaks = [guard(workload, m, k, settings).peak_bytes(m, k) for m, k in pairs]
    order = random.Random(0)
    seconds = np.zeros((len(pairs), rounds + 1))
    with one_thread(), torch.random.fork_rng(devices=[]):
        model, loss_sum = prepared(workload, settings)
        optimizer = settings.make_optimizer(model.parameters())
        data = [[workload.make_batch(m) for _ in range(k)] for m, k in pairs]
        for turn in range(rounds + 1):
            for i in order.sample(range(len(pairs)), len(pairs)):
                started = time.perf_counter()
                accumulate(model, data[i], loss_sum, lambda batch: 1.0)
                apply_update(model, optimizer)
                seconds[i, turn] = time.perf_counter() - started
    sizes, steps = np.array(pairs).T
    return Pace(sizes, steps, seconds[:, 1:], np.array(peaks))
