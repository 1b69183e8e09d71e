"""A run in several processes, under ``torchrun -m accum_lib train ...``: what each of them does.

A window is the same B examples whatever the number of processes, and every process takes each W-th of them.
So an update is the same, and a checkpoint can be resumed with another number. Process 0 alone writes.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch.distributed as dist
from torch import nn

from accum_lib.ranks import ALONE, Ranks
from accum_lib.training.saving import random_state
from accum_lib.training.settings import TrainingSettings


def joined(device: str | None = None) -> AbstractContextManager[None]:
    """In the group that torchrun has announced, for ``process_group``'s device; without torchrun, in none."""
    if "WORLD_SIZE" not in os.environ:
        return nullcontext()
    from accum_lib.distributed import process_group

    return process_group(timeout_seconds=600, device=device)


def rank_and_size() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def distribute(model: nn.Module) -> tuple[nn.Module, Ranks]:
    """The model to run passes with, and its ranks; both are as they were if there is one process."""
    if not dist.is_initialized():
        return model, ALONE
    from torch.nn.parallel import DistributedDataParallel

    from accum_lib.distributed import DistributedRanks

    wrapped = DistributedDataParallel(model)  # gives all processes the parameters of process 0
    return wrapped, DistributedRanks(wrapped)


def on_this_machine() -> int:
    """How many processes share this machine's memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if dist.is_initialized() else 1


def bucket_bytes(model: nn.Module) -> int:
    """What ``DistributedDataParallel`` holds besides: every gradient once more, in its buckets."""
    return sum(p.nbytes for p in model.parameters() if p.requires_grad) if dist.is_initialized() else 0


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
