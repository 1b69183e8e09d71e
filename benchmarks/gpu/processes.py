"""What each process of the GPU script's part "processes" does; a module, so that new processes can import it.

Every process makes the whole model and all data in float64, and computes the gradient of one big batch for
itself; then the model is wrapped in DDP, or sharded by FSDP2, and the gradient of uneven shards is compared.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.distributed import DistributedRanks, process_group
from accum_lib.lessons.distributed.sharded import shard
from accum_lib.lessons.roberta.problem import TaskProblem
from accum_lib.losses import count_tokens
from accum_lib.memory.workloads import longest_list
from accum_lib.problems.base import Problem
from accum_lib.vectors import flat, gradient_of

KINDS = tuple((kind, every) for kind in ("ddp", "fsdp2") for every in (False, True))
RATE = 1e-3


def compare(device: str, size: str, micro_batch_size: int, steps: int) -> list[dict[str, Any]]:
    """One row for each way to average. The shards have K, K + 1, ... micro-batches, in float64."""
    with process_group(120, device):
        rank, world = dist.get_rank(), dist.get_world_size()
        problem = TaskProblem("mlm", size, num_samples=None, dtype=torch.float64)
        numbers = [steps + each for each in range(world)]
        rows = torch.arange(sum(numbers) * micro_batch_size)
        parts = torch.stack(rows.split(micro_batch_size)).split(numbers)
        expected = big_batch_gradient(problem, rows, device)
        return [one(problem, parts[rank], expected, device, *kind) for kind in KINDS]


def big_batch_gradient(problem: Problem, rows: Tensor, device: str) -> Tensor:
    """The gradient of the mean over all tokens that count, in one pass, without the library's loop."""
    model, batch = problem.make_model().to(device), problem.batch(rows)
    (problem.loss_sum(model, batch) / problem.count(batch)).backward()
    return gradient_of(model)


def one(
    problem: Problem, parts: Tensor, expected: Tensor, device: str, kind: str, every: bool
) -> dict[str, Any]:
    """One window and its update, wrapped in this way: the gradient's error, and what it took."""
    model = wrapped(problem.make_model().to(device), kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    ranks = DistributedRanks(model, every_micro_batch=every)
    window = [problem.batch(part) for part in parts]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    result = accumulate(model, window, problem.loss_sum, count_tokens, ranks=ranks)
    found = whole_gradient(model)
    norm = apply_update(model, optimizer, max_grad_norm=1.0).grad_norm
    return {
        "kind": kind, "every_micro_batch": every, "backend": dist.get_backend(),
        "world_size": dist.get_world_size(), "micro_batches": result.micro_batches,
        "counted_tokens": int(result.count),
        "relative_error": float((found - expected).norm() / expected.norm()),
        "norm_error": abs(float(norm) / float(expected.norm()) - 1),
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
    }  # fmt: skip


def wrapped(model: nn.Module, kind: str) -> nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(model)
    shard(model, longest_list(model))
    return model


def whole_gradient(model: nn.Module) -> Tensor:
    """As one float64 vector; FSDP2's shards are joined."""
    grads = (p.grad for p in model.parameters())
    return flat(g.full_tensor() if hasattr(g, "full_tensor") else g for g in grads)
