"""Real updates of an MLP on the digits in several processes: what they send, and how long it takes.

Count and time what DDP sends, by its own communication hook; ``accumulate`` runs unchanged.

DDP hands each bucket of gradients to a hook when the bucket is ready. This hook passes it on to PyTorch's own
all-reduce and notes its bytes, when it was ready, and when its average was there.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from accum_lib.accumulate import LossSum, accumulate, apply_update
from accum_lib.distributed import DistributedRanks, launch, process_group
from accum_lib.lessons.distributed.record import Sharded, Span, Traffic
from accum_lib.losses import classification_loss_sum, count_samples
from accum_lib.problems.digits import CLASSES, Digits
from accum_lib.vectors import gradient_of


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


WIDTH, HIDDEN_LAYERS = 512, 3
BUCKET_MB = 1.0  # DDP's default of 25 would put this model into one bucket, and nothing could overlap
MICRO_BATCH, STEPS = 32, (1, 4, 16)
WARM_UP, UPDATES = 1, 5
PROBES = (2**12, 2**16, 2**19, 2**21)  # bytes
PROBE_ROUNDS = 7


@dataclass(frozen=True)
class Setting:
    """M, K of each process, and whether every pass averages."""

    micro_batch_size: int
    accumulation_steps: int
    every_micro_batch: bool


@dataclass(frozen=True)
class Lab:
    """What was measured in ``world_size`` processes.

    Attributes:
        traffic: one record for each setting.
        probe_bytes, probe_seconds: (P,) the medians of bare all-reduces of these sizes.
        sharded: the same model under FSDP2; empty if it was not asked for.
        gradient_error: of a window of uneven shards against one big batch, relative, in float64.
    """

    world_size: int
    traffic: tuple[Traffic, ...]
    probe_bytes: np.ndarray
    probe_seconds: np.ndarray
    sharded: tuple[Sharded, ...]
    gradient_error: float

    def at(self, accumulation_steps: int, every_micro_batch: bool) -> Traffic:
        """The record of one setting.

        Raises:
            ValueError: it was not measured.
        """
        for each in self.traffic:
            if (each.accumulation_steps, each.every_micro_batch) == (accumulation_steps, every_micro_batch):
                return each
        raise ValueError(f"K = {accumulation_steps} was not measured")


SETTINGS = tuple(Setting(MICRO_BATCH, k, every) for k in STEPS for every in (False, True))


def measure_here(world_size: int = 2, settings: tuple[Setting, ...] = SETTINGS) -> Lab:
    """Measure everything in new processes of this machine, one thread each."""
    return launch(measure_in_process, world_size, settings, True)[0]


def measure_in_process(settings: tuple[Setting, ...], with_sharded: bool) -> Lab:
    """One process's part; all of them call this."""
    with process_group(device="cpu"):  # several processes on any machine; a GPU takes one
        seconds = np.array([_probe(size) for size in PROBES])
        traffic = tuple(_traffic(setting) for setting in settings)
        shards = _sharded() if with_sharded else ()
        return Lab(
            dist.get_world_size(), traffic, np.array(PROBES, float), seconds, shards, _gradient_error()
        )


def wide_mlp() -> nn.Sequential:
    """564,234 parameters, 2.3 MB of gradients: enough for several buckets."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hidden = [m for _ in range(HIDDEN_LAYERS - 1) for m in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, WIDTH), nn.Tanh(), *hidden, nn.Linear(WIDTH, CLASSES)
        )


def _batches(micro_batch_size: int, number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    problem, generator = Digits(), torch.Generator().manual_seed(dist.get_rank())
    rows = torch.randint(problem.num_samples, (number, micro_batch_size), generator=generator)
    return [problem.batch(each) for each in rows]


def _traffic(setting: Setting) -> Traffic:
    model = DistributedDataParallel(wide_mlp(), bucket_cap_mb=BUCKET_MB)
    meter = TrafficMeter(model, classification_loss_sum)
    ranks = DistributedRanks(model, every_micro_batch=setting.every_micro_batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    window = _batches(setting.micro_batch_size, setting.accumulation_steps)
    seconds, spans = [], []
    for _ in range(WARM_UP + UPDATES):
        dist.barrier()  # so that a late start is not taken for communication
        meter.begin()
        started = time.perf_counter()
        accumulate(model, window, meter.loss_sum, count_samples, ranks=ranks)
        spans.append(meter.end())
        apply_update(model, optimizer)
        seconds.append(time.perf_counter() - started)
    return _summed_up(setting, np.array(seconds[WARM_UP:]), spans[WARM_UP:])


def _summed_up(setting: Setting, seconds: np.ndarray, spans: list[tuple[Span, ...]]) -> Traffic:
    sent = [[s for s in each if s.kind == "all-reduce"] for each in spans]
    typical = int(np.abs(seconds - np.median(seconds)).argmin())
    return Traffic(
        dist.get_world_size(),
        setting.micro_batch_size,
        setting.accumulation_steps,
        setting.every_micro_batch,
        calls=len(sent[typical]),
        bytes=sum(s.bytes for s in sent[typical]),
        seconds=float(np.median(seconds)),
        communicating=float(np.median([busy_seconds(each) for each in sent])),
        exposed=float(np.median([exposed_seconds(each) for each in spans])),
        timeline=spans[typical],
    )


def _sharded() -> tuple[Sharded, ...]:
    from accum_lib.lessons.distributed.sharded import sharded  # FSDP2 takes seconds to import

    return sharded(wide_mlp, _batches(8, 4))


def _gradient_error() -> float:
    """Process 0 has three micro-batches, the next two, ...; their sizes differ, too."""
    problem, rank = Digits("mlp", torch.float64), dist.get_rank()
    rows = torch.arange(problem.num_samples).split([8, 5, 8, 3, 7, 8] + [1] * (problem.num_samples - 39))
    shards = [[problem.batch(r) for r in rows[:3]], [problem.batch(r) for r in rows[3:5]]]
    big = problem.make_model()
    together = torch.cat(rows[:5])
    (problem.loss_sum(big, problem.batch(together)) / len(together)).backward()
    model = DistributedDataParallel(problem.make_model())
    window = shards[rank] if rank < len(shards) else []
    accumulate(model, window, problem.loss_sum, problem.count, ranks=DistributedRanks(model))
    ours, true = gradient_of(model), gradient_of(big)
    return float((ours - true).norm() / true.norm())


def _probe(size: int) -> float:
    """Seconds of a bare all-reduce of ``nbytes``."""
    numbers, seconds = torch.zeros(size // 4), []
    for _ in range(PROBE_ROUNDS):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(numbers)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))
