"""FSDP2 under accumulation: the collectives it calls, and the gradients it keeps from pass to pass."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from accum_lib.accumulate import accumulate
from accum_lib.distributed import DistributedRanks
from accum_lib.lessons.distributed.record import Sharded
from accum_lib.losses import classification_loss_sum, count_samples

GATHER, SCATTER = "c10d::_allgather_base_", "c10d::_reduce_scatter_base_"


def sharded(make_model: Callable[[], nn.Sequential], window: list[Any]) -> tuple[Sharded, ...]:
    """The same window, averaging in its last pass and in every pass."""
    return tuple(_window(make_model(), window, every) for every in (False, True))


def shard(model: nn.Module, layers: Iterable[nn.Module]) -> None:
    """Apply ``fully_shard`` to each layer with parameters, and to the rest, over all processes.

    The mesh is of the model's own device: left to itself, FSDP2 takes a GPU where there is one.
    """
    mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    for layer in layers:
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _window(model: nn.Sequential, window: list[Any], every: bool) -> Sharded:
    whole = sum(p.nbytes for p in model.parameters())
    shard(model, model)
    kept: list[int] = []

    def loss_sum(model: nn.Module, batch: Any) -> torch.Tensor:
        kept.append(_gradient_bytes(model))
        return classification_loss_sum(model, batch)

    ranks = DistributedRanks(model, every_micro_batch=every)
    with _Operators() as seen:
        accumulate(model, window, loss_sum, count_samples, ranks=ranks)
    return Sharded(every, seen.calls[GATHER], seen.calls[SCATTER], kept[-1], whole)


class _Operators(TorchDispatchMode):
    """Counts every operator that is called, collectives among them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


def _gradient_bytes(model: nn.Module) -> int:
    """Shards in ``.grad``, and what FSDP2 keeps unsharded where it does not average (a private name)."""
    shards = [p.grad for p in model.parameters() if isinstance(p.grad, DTensor)]
    total = sum(shard.to_local().nbytes for shard in shards)
    for module in model.modules():
        group = module._get_fsdp_state()._fsdp_param_group if isinstance(module, FSDPModule) else None
        for parameter in group.fsdp_params if group else []:
            kept = getattr(parameter, "_unsharded_param", None)
            total += 0 if kept is None or kept.grad is None else kept.grad.nbytes
    return total
