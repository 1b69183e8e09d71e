"""What the processes of the distributed tests do; a module, so that new processes can import it.

The data are those of ``reference.py``: ragged micro-batches of tokens, some with none that counts. Every
process makes all shards and keeps its own; the test makes them too, and computes the answer from all at once.
"""

import math
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

import psutil
import torch
import torch.distributed as dist
from reference import Batch, count, gradient, loss_sum, make_batch, make_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.distributed import DistributedRanks, process_group
from accum_lib.lessons.distributed.measure import TrafficMeter
from accum_lib.lessons.distributed.sharded import shard, sharded

RATE, MAX_NORM = 0.1, 0.05  # the clip bites in every update


@dataclass(frozen=True)
class Case:
    """M, K, and how many micro-batches each process has."""

    micro_batch_size: int
    accumulation_steps: int
    shards: tuple[int, ...]


def grid(world_size: int) -> list[Case]:
    """Even shards, uneven ones, one that is empty, and all but one empty; trailing windows everywhere."""
    uneven = tuple(5 - rank for rank in range(world_size))
    layouts = {(5,) * world_size, uneven, (0, *uneven[1:]), (*[0] * (world_size - 1), 3)}
    layouts = sorted(shards for shards in layouts if sum(shards))
    return [Case(m, k, shards) for shards in layouts for m in (1, 4) for k in (1, 3, 4)]


def shards(case: Case) -> list[list[Batch]]:
    """One list of micro-batches for each process; some have fewer tokens that count, some none."""
    found: list[list[Batch]] = []
    for number in case.shards:
        seeds = [sum(map(len, found)) + i for i in range(number)]
        found.append(
            [make_batch(n := counted(case, seed), case.micro_batch_size - n, seed) for seed in seeds]
        )
    return found


def counted(case: Case, seed: int) -> int:
    """Tokens that count. None in some micro-batches, but not where they would be a whole window."""
    if seed % 5 == 1 and case.accumulation_steps > 1:
        return 0
    return max(1, case.micro_batch_size // 2) if seed % 3 == 1 else case.micro_batch_size


class LocalCount(DistributedRanks):
    """Wrong: each process divides by its own count, and DDP takes the mean of the means."""

    def agree(self, mine, number, micro_batches):
        passes, _, all_batches = super().agree(mine, number, micro_batches)
        return passes, max(number, 1) * self.world_size, all_batches


class Sum(DistributedRanks):
    """Wrong: forgets that DDP averages, so the gradient is world_size times too small."""

    def __init__(self, model, **more):
        super().__init__(model, **more)
        self.world_size, self._real = 1, self.world_size

    def _gather(self, row):
        self.world_size = self._real
        try:
            return super()._gather(row)
        finally:
            self.world_size = 1


class NeverAveraged(DistributedRanks):
    """Wrong: ``no_sync`` in every pass, the last one too."""

    def synchronized(self, last):
        return super().synchronized(last=False)


WRONG = {each.__name__: each for each in (LocalCount, Sum, NeverAveraged)}
RANKS = {"right": DistributedRanks, **WRONG}


Kind = tuple[str, bool, str]  # ddp or fsdp, whether every pass averages, and which ranks


def run_grids(cases: list[Case], kinds: list[Kind]) -> dict:
    """For each kind and case, each update's (gradient, mean loss, count, micro-batches, norm before clip)."""
    with process_group(60, "cpu"):
        return {kind: [one_case(case, *kind) for case in cases] for kind in kinds}


def one_case(case: Case, kind: str, every: bool, ranks_name: str) -> list[tuple]:
    model = wrapped(make_model(), kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    ranks, updates = RANKS[ranks_name](model, every_micro_batch=every), []
    for window in ranks.windows(shards(case)[dist.get_rank()], case.accumulation_steps):
        result = accumulate(model, window, loss_sum, count, ranks=ranks)
        found = whole_gradient(model)
        norm = apply_update(model, optimizer, max_grad_norm=MAX_NORM).grad_norm
        updates.append((found, result.loss, result.count, result.micro_batches, norm))
    return updates


def wrapped(model: nn.Module, kind: str) -> nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(model)
    shard(model, model)
    return model


def whole_gradient(model: nn.Module) -> torch.Tensor:
    """As one float64 vector; FSDP2's shards are put together."""
    for p in model.parameters():
        if hasattr(p.grad, "full_tensor"):
            return torch.cat([each.grad.full_tensor().flatten() for each in model.parameters()])
    return gradient(model)


# --- Failures: each of these must end every process


def failing(how: str, timeout: float, folder: str) -> None:
    """Two windows; in the second one, process 1 fails. Every process writes down how it ended."""
    started = time.monotonic()
    with process_group(timeout, "cpu"):
        model = DistributedDataParallel(make_model())
        ranks, rank = DistributedRanks(model), dist.get_rank()
        window = [make_batch(3, seed=rank), make_batch(2, seed=rank + 2)]
        accumulate(model, window, loss_sum, count, ranks=ranks)
        before = gradient(model)
        try:
            accumulate(model, window, partial(broken_loss, how, rank), count, ranks=ranks)
        except Exception as error:
            kept = torch.equal(gradient(model), before)
            report(folder, rank, error, kept, time.monotonic() - started)
            raise


def broken_loss(how: str, rank: int, model: nn.Module, batch: Batch):
    loss = loss_sum(model, batch)
    if rank == 1 and len(batch[0]) == 2:  # the second micro-batch: mid-window
        if how == "exception":
            raise KeyError("no such column")
        if how == "nan":
            return loss * math.nan
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hangs":
            time.sleep(120)
    return loss


def report(folder: str, rank: int, error: Exception, kept: bool, seconds: float) -> None:
    notes = "\n".join(getattr(error, "__notes__", []))
    with open(f"{folder}/{rank}", "w") as file:
        file.write(f"{type(error).__name__}: {error}\n{notes}\ngradients kept: {kept}\nseconds: {seconds}")


# --- Small cases


def small_cases() -> dict:
    with process_group(60, "cpu"):
        return {
            "stand_in": stand_in(),
            "unused": {setting: with_branches(*setting) for setting in BRANCHED},
            "apart": with_branches("other order", "left out", False, windows=1),
            "no_data": message(no_data),
            "nothing_counts": message(nothing_counts),
            "hidden": [message(partial(hidden_by_checkpointing, used)) for used in (False, True)],
            "static": [message(partial(static_graph, every)) for every in (False, True)],
            "refused": message(lambda: DistributedRanks(make_model())),
            "listening": listening(),
        }


def stand_in() -> tuple:
    """Process 0 has no micro-batch: what it ran, the result, the gradient."""
    model, seen = DistributedDataParallel(make_model()), []
    window = [] if dist.get_rank() == 0 else [make_batch(3, seed=5)]

    def watched(model, batch):
        seen.append((len(batch[0]), float(batch[0].sum())))
        return loss_sum(model, batch)

    result = accumulate(model, window, watched, count, ranks=DistributedRanks(model))
    return seen, result, gradient(model)


def no_data() -> None:
    list(DistributedRanks(DistributedDataParallel(make_model())).windows([], 2))


def nothing_counts() -> None:
    model = DistributedDataParallel(make_model())
    accumulate(model, [make_batch(0, 3)], loss_sum, count, ranks=DistributedRanks(model))


def hidden_by_checkpointing(used: bool) -> None:
    """Reentrant recomputation hides what a pass uses: all of a model, or all but a branch and a layer."""
    model = Recomputed()
    if used:
        del model.b, model.never
    averaged, rank = DistributedDataParallel(model), dist.get_rank()
    batches = branch_batches("one for all" if used else "other order", 0)[rank]
    ranks = DistributedRanks(averaged)
    accumulate(averaged, batches, lambda m, b: m(*b).sum(), lambda b: len(b[0]), ranks=ranks)


def static_graph(every: bool) -> None:
    model = DistributedDataParallel(make_model(), static_graph=True)
    ranks = DistributedRanks(model, every_micro_batch=every)
    for _ in range(2):
        accumulate(model, [make_batch(3, seed=1), make_batch(2, seed=2)], loss_sum, count, ranks=ranks)
    alone = make_model()
    accumulate(alone, [make_batch(3, seed=1), make_batch(2, seed=2)], loss_sum, count)
    torch.testing.assert_close(gradient(model), gradient(alone))


def message(attempt) -> str:
    try:
        attempt()
    except (ValueError, TypeError, RuntimeError) as error:
        return str(error)
    return "nothing was raised"


# Which branch each micro-batch of each process takes.
BRANCHES = {
    "not in the last pass": ("ab", "ab"),
    "other order": ("ab", "ba"),
    "other branch": ("aa", "bb"),
    "one idle": ("", "ab"),
    "one for all": ("aa", "aa"),
}
BRANCHED = [(name, flag, every) for name in BRANCHES for flag in ("searched", "not searched")
            for every in (False, True)]  # fmt: skip


class Incomplete(DistributedRanks):
    """Wrong: leaves to DDP what it waits for."""

    def complete(self, loss):
        return loss


def with_branches(name: str, flag: str, every: bool, windows: int = 3) -> list[list[torch.Tensor | None]]:
    """The gradients of each window; ``flag`` is whether DDP searches for parameters that are unused."""
    branches, rank = Branches(), dist.get_rank()
    model = DistributedDataParallel(branches, find_unused_parameters=flag == "searched")
    ranks = (Incomplete if flag == "left out" else DistributedRanks)(model, every_micro_batch=every)
    found = []
    for window in range(windows):
        mine = branch_batches(name, window)[rank]
        accumulate(model, mine, lambda m, b: m(*b).sum(), lambda b: len(b[0]), ranks=ranks)
        found.append([None if p.grad is None else p.grad.clone() for p in branches.parameters()])
    return found


def branch_batches(name: str, window: int) -> list[list[tuple[torch.Tensor, str]]]:
    """Of each process: inputs of shape (rows, 2), and the branch that they take."""
    generator = torch.Generator().manual_seed(window)
    return [
        [(torch.randn(1 + i + rank, 2, generator=generator).double(), b) for i, b in enumerate(branches)]
        for rank, branches in enumerate(BRANCHES[name])
    ]


class Branches(nn.Module):
    """Two branches, of which a micro-batch takes one; a layer for all; one that is never used."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.all, self.never = (nn.Linear(2, 2, dtype=torch.float64) for _ in range(4))

    def forward(self, x, branch):
        return torch.tanh(self.all(getattr(self, branch)(x)))


class Recomputed(Branches):
    def forward(self, x, branch):  # without requires_grad there is no gradient at all
        return checkpoint(super().forward, x.requires_grad_(), branch, use_reentrant=True)


# --- What is sent


def traffic(steps: tuple[int, ...]) -> dict:
    """Of one update: calls and bytes as the meter counts them, and how many spans of each kind."""
    with process_group(60, "cpu"):
        return {(k, every): one_update(k, every) for k in steps for every in (False, True)}


def one_update(steps: int, every: bool) -> tuple[int, int, dict[str, int]]:
    model = DistributedDataParallel(make_model())
    meter = TrafficMeter(model, loss_sum)
    window = [make_batch(3, seed=seed) for seed in range(steps)]
    ranks = DistributedRanks(model, every_micro_batch=every)
    accumulate(model, window, meter.loss_sum, count, ranks=ranks)  # then DDP makes its buckets anew
    meter.begin()
    accumulate(model, window, meter.loss_sum, count, ranks=ranks)
    spans = meter.end()
    sent = [span.bytes for span in spans if span.kind == "all-reduce"]
    return len(sent), sum(sent), dict(Counter(span.kind for span in spans))


def shards_of_fsdp() -> tuple:
    with process_group(60, "cpu"):
        return sharded(make_model, [make_batch(3, seed=seed) for seed in range(3)])


def listening() -> tuple[str, set[str], set[str]]:
    """The kind of store the group meets at, and where this process and the one that started it listen."""
    store = dist.distributed_c10d._get_default_store()
    while hasattr(store, "underlying_store"):
        store = store.underlying_store
    return type(store).__name__, addresses(os.getpid()), addresses(os.getppid())


def addresses(pid: int) -> set[str]:
    process = psutil.Process(pid)
    found = getattr(process, "net_connections", None) or process.connections  # as psutil 5 has it
    return {c.laddr.ip for c in found("all") if c.status == psutil.CONN_LISTEN and c.family != socket.AF_UNIX}
