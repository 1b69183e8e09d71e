"""Real updates under FSDP2, and what PyTorch's profiler sees of them; a module, as processes import it."""

import gc
from typing import Any

import torch
import torch.distributed as dist
from memory_cases import workload as small
from torch.distributed.tensor import DTensor
from torch.profiler import ProfilerActivity, profile, record_function
from torch.testing._internal.distributed.fake_pg import FakeStore

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.distributed import DistributedRanks, process_group
from accum_lib.lessons.distributed.sharded import shard
from accum_lib.lessons.memory.measure import MARK, most_held
from accum_lib.losses import in_precision
from accum_lib.memory.settings import Settings
from accum_lib.memory.tuning import prepared
from accum_lib.memory.workloads import longest_list
from accum_lib.ranks import ALONE


def peak_over_gloo(family: str, micro_batch_size: int, steps: int, settings: Settings) -> int:
    """The most bytes that this process's allocator held at once in the second update."""
    with process_group(300, "cpu"):
        return _peak(family, micro_batch_size, steps, settings)


def peak_alone(family: str, micro_batch_size: int, steps: int, settings: Settings) -> int:
    """The same of the first of so many processes as the settings say, whose messages nobody sends."""
    dist.init_process_group("fake", rank=0, world_size=settings.cards, store=FakeStore())
    return _peak(family, micro_batch_size, steps, settings)


def _peak(*arguments: Any) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        _two_updates(*arguments)
    return most_held(profiler)


def _two_updates(family: str, micro_batch_size: int, steps: int, settings: Settings) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    workload = small(family)
    model, loss_sum = prepared(workload, settings)
    shard(model, longest_list(model))
    optimizer = settings.make_optimizer(model.parameters())
    real = dist.get_backend() == "gloo"
    ranks = DistributedRanks(model, every_micro_batch=True) if real else ALONE
    window = [workload.make_batch(micro_batch_size) for _ in range(steps)]
    loss_sum = in_precision(loss_sum, settings.dtype, "cpu")
    for number in range(2):
        gc.collect()
        gc.disable()
        with record_function(MARK if number else "warm up"):
            accumulate(model, window, loss_sum, lambda batch: 1.0, ranks=ranks)
            apply_update(model, optimizer)
        gc.enable()


def kept(family: str, settings: Settings) -> int:
    """Bytes of what this process keeps after a window: shards of parameters, gradients and AdamW's state."""
    with process_group(300, "cpu"):
        workload = small(family)
        model, loss_sum = prepared(workload, settings)
        shard(model, longest_list(model))
        optimizer = settings.make_optimizer(model.parameters())
        ranks = DistributedRanks(model, every_micro_batch=True)
        accumulate(model, [workload.make_batch(2)], loss_sum, lambda batch: 1.0, ranks=ranks)
        optimizer.step()
        states = [t for entry in optimizer.state.values() for t in entry.values()]
        found = [*model.parameters(), *(p.grad for p in model.parameters()), *states, *model.buffers()]
        return sum(local(t).nbytes for t in found if t is not None)


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
