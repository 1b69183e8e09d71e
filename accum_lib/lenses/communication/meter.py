"""Count and time what DDP sends, by its own communication hook; ``accumulate`` runs unchanged.

DDP hands each bucket of gradients to a hook when the bucket is ready. This hook passes it on to PyTorch's own
all-reduce and notes its bytes, when it was ready, and when its average was there.
"""

import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from accum_lib.accumulate import LossSum
from accum_lib.records.communication import Span


class TrafficMeter:
    """Give its ``loss_sum`` to ``accumulate``, and put each update between ``begin`` and ``end``.

    Times are right on CPUs only: on a GPU the hook runs when an all-reduce is queued, not when it is done, so
    there look at calls and bytes alone.

    Args:
        model: it can have one communication hook; this is it.
        loss_sum: as for ``accumulate``.
    """

    def __init__(self, model: DistributedDataParallel, loss_sum: LossSum) -> None:
        self._loss_sum = loss_sum
        self.spans: list[Span] = []
        self._zero = 0.0
        self._backward_began: float | None = None
        self._last_ready: float | None = None
        model.register_comm_hook(None, self._hook)

    def begin(self) -> None:
        """An update begins: forget the one before."""
        self.spans = []
        self._zero, self._backward_began = time.perf_counter(), None

    def end(self) -> tuple[Span, ...]:
        """The update's spans, in the order in which they ended."""
        self._backward_ends(self._now())
        return tuple(self.spans)

    def loss_sum(self, model: nn.Module, batch: Any) -> Tensor:
        """The same loss, with its forward pass noted."""
        start = self._now()
        self._backward_ends(start)
        loss = self._loss_sum(model, batch)
        self._backward_began, self._last_ready = self._now(), None
        self.spans.append(Span("forward", start, self._backward_began))
        return loss

    def _backward_ends(self, latest: float) -> None:
        """It ended when its last bucket was ready; without averaging, when the next thing began."""
        if self._backward_began is not None:
            self.spans.append(Span("backward", self._backward_began, self._last_ready or latest))
        self._backward_began = None

    def _hook(self, _: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        ready, size = self._now(), bucket.buffer().nbytes
        self._last_ready = ready

        def averaged(future: torch.futures.Future[Tensor]) -> Tensor:
            self.spans.append(Span("all-reduce", ready, self._now(), size))
            return future.value()

        return allreduce_hook(None, bucket).then(averaged)  # type: ignore[arg-type]

    def _now(self) -> float:
        return time.perf_counter() - self._zero


def busy_seconds(spans: list[Span]) -> float:
    """How long at least one of them was under way."""
    total, until = 0.0, float("-inf")
    for span in sorted(spans, key=lambda each: each.start):
        total += max(0.0, span.stop - max(span.start, until))
        until = max(until, span.stop)
    return total


def exposed_seconds(spans: tuple[Span, ...]) -> float:
    """How long an all-reduce was under way and nothing was computed: union minus overlap, exactly."""
    sending = [s for s in spans if s.kind == "all-reduce"]
    computing = [s for s in spans if s.kind != "all-reduce"]
    return busy_seconds([*sending, *computing]) - busy_seconds(computing)
