"""A run in several processes, under ``torchrun -m accum_lib train ...``: what each of them does.

A window is the same B examples whatever the number of processes, and every process takes each W-th of them.
So an update is the same, and a checkpoint can be resumed with another number. Process 0 alone writes.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from accum_lib.accumulate import UpdateResult
from accum_lib.distributed import DistributedRanks, process_group
from accum_lib.ranks import ALONE, Ranks, WeightedBatch
from accum_lib.training.machinery import Machinery
from accum_lib.training.saving import random_state
from accum_lib.training.settings import TrainingSettings

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's


class OutOfMemoryElsewhereError(torch.OutOfMemoryError):
    """Memory ran out in another process, which begins the window once more: so must this one."""


class SurvivingRanks(DistributedRanks):
    """All processes hear of it if memory runs out in one of them, and none is left waiting for it.

    ``DistributedDataParallel`` averages gradients within the last backward pass: if that fails in one
    process, the others wait in it for ever. Here they are averaged after it, once each process has said that
    it made all its passes. On GPUs that no longer hides behind the pass; in exchange there are no buckets,
    which hold all gradients once more.

    Args:
        model: gets the parameters of process 0.
    """

    def __init__(self, model: nn.Module) -> None:  # its base class asks for a wrapped model
        self.model, self.world_size, self._in_step = model, dist.get_world_size(), False
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._device = self._trained[0].device
        for p in model.parameters():
            dist.broadcast(p.detach(), 0)

    def meet(self, out_of_memory: bool = False) -> None:
        """Before what all processes do together: hear whether all got here, or say why this one did not.

        Raises:
            OutOfMemoryElsewhereError: another one did not.
        """
        if self.add(float(out_of_memory)) and not out_of_memory:
            raise OutOfMemoryElsewhereError("memory ran out in another process")

    def agree(
        self, mine: list[WeightedBatch], count: float, micro_batches: int
    ) -> tuple[list[WeightedBatch], float, int]:
        self.meet()
        return super().agree(mine, count, micro_batches)

    @contextmanager
    def synchronized(self, last: bool) -> Iterator[None]:
        yield

    def complete(self, loss: Tensor) -> Tensor:
        return loss

    def finish(self, loss_sum: float) -> float:
        self.meet()
        total, *uses = self._add([loss_sum, *(float(p.grad is not None) for p in self._trained)])
        if math.isfinite(total):  # else all refuse the window
            self._average([p for p, used in zip(self._trained, uses, strict=True) if used])
        return total

    def _average(self, parameters: list[nn.Parameter]) -> None:
        """In place; what this process did not use has no gradient yet."""
        sent = []
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.div_(self.world_size)
            sent.append(dist.all_reduce(p.grad, async_op=True))
        for each in sent:
            each.wait()

    def repaired(self, done: UpdateResult | None, machinery: Machinery) -> tuple[UpdateResult | None, bool]:
        """After an update, which failed where ``done`` is None: that process takes over what another has.

        Returns:
            The update's result, None if it failed everywhere; and whether anything was taken over.
        """
        (whole,) = self._gather([float(done is not None)]).T
        if whole.all() or not whole.any():
            return done, False
        return self._take_over(int(whole.nonzero()[0]), done, machinery), True

    def _take_over(self, source: int, done: UpdateResult | None, machinery: Machinery) -> UpdateResult:
        """Parameters and moments one by one, since memory is short, then the rest, into every process."""
        optimizer, scheduler, scaler = machinery.optimizer, machinery.scheduler, machinery.scaler
        state = optimizer.state_dict()
        steps = {number: float(of_one["step"]) for number, of_one in state["state"].items()}
        rest = (done, steps, state["param_groups"], scheduler.state_dict(), scaler and scaler.state_dict())
        parcel: list[Any] = [rest if dist.get_rank() == source else None]
        dist.broadcast_object_list(parcel, source, device=self._device)
        result, steps, groups, schedule, scale = parcel[0]
        parameters, moved = [p for group in optimizer.param_groups for p in group["params"]], {}
        for number, step in steps.items():
            p = parameters[number]
            held = optimizer.state.get(p, {})
            moments = {name: held[name] if name in held else torch.empty_like(p) for name in MOMENTS}
            for tensor in (p, *moments.values()):
                dist.broadcast(tensor.detach(), source)
            moved[number] = {"step": torch.tensor(step), **moments}
        optimizer.load_state_dict({"state": moved, "param_groups": groups})
        scheduler.load_state_dict(schedule)
        if scaler:
            scaler.load_state_dict(scale)
        optimizer.zero_grad(set_to_none=True)
        return result


def joined(device: str | None = None) -> AbstractContextManager[None]:
    """In the group that torchrun has announced, for ``process_group``'s device; without torchrun, in none."""
    if "WORLD_SIZE" not in os.environ:
        return nullcontext()
    return process_group(timeout_seconds=600, device=device)


def rank_and_size() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def distribute(model: nn.Module) -> Ranks:
    """The ranks of the group; those of one process if there is none."""
    return SurvivingRanks(model) if dist.is_initialized() else ALONE


def on_this_machine() -> int:
    """How many processes share this machine's memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if dist.is_initialized() else 1


def part(examples: Sequence[Any]) -> list[Any]:
    """This process's part of a window's examples, which may be none."""
    rank, size = rank_and_size()
    return list(examples[rank::size])


def draw_apart(seed: int, window: int) -> None:
    """Before each window, give every process but the first random numbers of its own.

    Else all would draw the same dropout masks. The first keeps its own, which its checkpoints hold; those of
    the others follow from the window, so that a resumed run draws the same.
    """
    rank, _ = rank_and_size()
    if rank:
        random_state.seed_all(hash((seed, window, rank)) % 2**32)


def wait_for_all() -> None:
    """Until every process is here, such as when the first has written a file."""
    if dist.is_initialized():
        dist.barrier()


def check(settings: TrainingSettings) -> None:
    """Refuse what one process alone can do.

    Raises:
        ValueError: the noise scale is asked for.
    """
    if settings.noise_scale and rank_and_size()[1] > 1:
        raise ValueError("--noise-scale measures in one process: leave it out, or do not use torchrun")
