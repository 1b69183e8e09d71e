"""Predicted memory beside measured memory, cell by cell, on the GPU that is here; without one, on the CPU.

    python tests/gpu/memory_grid.py [--device cuda|cpu] [--small] [--seconds 540] [--out FILE]

On a GPU three numbers of each cell are compared, in this order: the bytes requested (tests the trace), the
bytes allocated (tests the replay of the allocator and the workspace), and what was reserved beside them.
Attention is pinned, each cell has a process of its own, two updates warm up before the peaks are reset. On a
CPU the profiler's peak is compared. Every cell is reported, failures too; the exit code is 1 if one is out of
tolerance or has failed. Cells that the time did not suffice for are listed as not run.
"""

import argparse
import json
import multiprocessing
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.lenses.memory.allocator import replay
from accum_lib.lenses.memory.cpu import CPU
from accum_lib.lenses.memory.cuda import CUDA
from accum_lib.lenses.memory.measure import PRELOADED, measure_on_cpu
from accum_lib.lenses.memory.prediction import Prediction, predict
from accum_lib.lenses.memory.settings import Settings
from accum_lib.lenses.memory.workloads import Workload, named
from accum_lib.losses import in_precision

REQUESTED_TOLERANCE, ALLOCATED_TOLERANCE = 0.01, 0.03
WARM_UP = 2  # updates: the optimizer's state, the allocator's segments and cuBLAS's workspace are there
SMALL = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512,
    "vocab_size": 1000,
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One setting of the grid."""

    model: str
    precision: str
    tokens: int
    micro_batch_size: int
    accumulation_steps: int
    small: bool = False

    @property
    def attention(self) -> str:
        """The kernel that is pinned: flash takes 16 bits only."""
        return "efficient" if self.precision == "fp32" else "flash"

    def workload(self) -> Workload:
        return named(self.model, "classification", self.tokens, **(SMALL if self.small else {}))

    def settings(self) -> Settings:
        return Settings(precision=self.precision, attention=self.attention)


def cells(small: bool) -> list[Cell]:
    """RoBERTa base and large, fp32 and bf16, T, M and K; or a few of two layers."""
    if small:
        return [
            Cell("roberta-base", p, 32, m, k, True) for p in ("fp32", "bf16") for m, k in ((1, 1), (4, 2))
        ]
    models, precisions = ("roberta-base", "roberta-large"), ("fp32", "bf16")
    grid = product(models, precisions, (128, 512), (1, 4, 16, 64), (1, 2, 8))
    return [Cell(*values) for values in grid]


def main() -> int:
    arguments = parsed(__doc__, "memory_grid.json")
    device = arguments.device
    rows = []
    for row in run(cells(arguments.small), device, arguments.seconds):
        rows.append(row)
        print(line(row), flush=True)
        write(arguments.out, device, rows)
    return 0 if rows and all(row["within"] for row in rows) else 1


def parsed(description: str, out: str) -> argparse.Namespace:
    """The command line of a script for a GPU; without ``--device``, the device that is here."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="a two-layer model, and little of it")
    parser.add_argument("--seconds", type=float, default=540, help="start nothing after so long")
    parser.add_argument("--out", default=out)
    arguments = parser.parse_args()
    arguments.device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here: leave --device out, or say --device cpu")
    return arguments


def run(grid: list[Cell], device: str, seconds: float) -> Iterator[dict[str, Any]]:
    """Each cell's row, as it is done."""
    started, predictions = time.monotonic(), {}
    for cell in grid:
        if time.monotonic() - started > seconds:
            yield {**asdict(cell), "failure": "not run: the time was up", "within": False}
            continue
        how = cell.model, cell.precision, cell.tokens
        if how not in predictions:
            predictions[how] = predict(cell.workload(), cell.settings(), described(device, cell))
        yield compared(cell, predictions[how], device)


def described(device: str, cell: Cell) -> CPU | CUDA:
    """What the prediction speaks for: the device that is here."""
    if device == "cpu":
        return CPU()
    return CUDA(cell.attention, hopper=torch.cuda.get_device_capability()[0] >= 9)


def compared(cell: Cell, prediction: Prediction, device: str) -> dict[str, Any]:
    """Predicted, measured and the signed relative error; or what went wrong."""
    m, k = cell.micro_batch_size, cell.accumulation_steps
    row: dict[str, Any] = {**asdict(cell), "attention": cell.attention}
    predicted = {"requested": prediction.requested_bytes(m, k)}
    if device == "cuda":
        predicted["allocated"] = replay(prediction, m, k).allocated_bytes
    row |= {f"predicted_{name}": nbytes for name, nbytes in predicted.items()}
    try:
        measured = in_a_process_of_its_own(cell, device)
    except Exception as error:  # out of memory is a result, too
        return {**row, "failure": f"{type(error).__name__}: {str(error)[:200]}", "within": False}
    row |= {f"measured_{name}": nbytes for name, nbytes in measured.items()}
    errors = {name: predicted[name] / measured[name] - 1 for name in predicted}
    tolerances = {"requested": REQUESTED_TOLERANCE, "allocated": ALLOCATED_TOLERANCE}
    row |= {f"error_{name}": round(value, 6) for name, value in errors.items()}
    return {**row, "within": all(abs(errors[n]) <= tolerances[n] for n in errors)}


def in_a_process_of_its_own(cell: Cell, device: str) -> dict[str, int]:
    """Measured by a copy of a process that has loaded PyTorch and has not touched the GPU."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(1, mp_context=context) as pool:  # it raises if its process is killed
        return pool.submit(measure, cell, device).result()


def measure(cell: Cell, device: str) -> dict[str, int]:
    """Peaks of one update, in bytes."""
    if device == "cpu":
        torch.set_num_threads(1)
        peak = measure_on_cpu(
            cell.workload(), cell.micro_batch_size, cell.accumulation_steps, cell.settings()
        )
        return {"requested": peak}
    return measure_on_gpu(cell)


def measure_on_gpu(cell: Cell) -> dict[str, int]:
    """What PyTorch's caching allocator says of the update after the ones that warm up."""
    for _ in updates(cell, "cuda", WARM_UP):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    stats = torch.cuda.memory_stats()
    names = {"requested": "requested_bytes", "allocated": "allocated_bytes", "reserved": "reserved_bytes"}
    return {name: stats[f"{key}.all.peak"] for name, key in names.items()}


def updates(cell: Cell, device: str, warm_up: int) -> Iterator[int]:
    """Make one update more than those that warm up; control returns after each of these."""
    torch.manual_seed(0)
    trained, settings = cell.workload(), cell.settings()
    model = trained.model(settings.checkpointing).to(device)
    optimizer = settings.make_optimizer(model.parameters())
    window = [to(trained.make_batch(cell.micro_batch_size), device) for _ in range(cell.accumulation_steps)]
    loss_sum = in_precision(trained.loss_sum, settings.dtype, device)
    with pinned(cell.attention, device):
        for number in range(warm_up + 1):
            accumulate(model, window, loss_sum, lambda batch: 1.0)
            apply_update(model, optimizer)
            if number < warm_up:
                yield number


def pinned(attention: str, device: str) -> Any:
    """Only this attention kernel; the CPU has one of its own."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if device == "cpu":
        return nullcontext()
    return sdpa_kernel(
        {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}[attention]
    )


def to(batch: dict[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def facts(device: str) -> dict[str, Any]:
    """The machine and the versions."""
    import transformers

    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if device == "cpu":
        return {"device": platform.processor() or platform.machine(), **versions}
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
    )
    return {
        "device": torch.cuda.get_device_name(),
        "capability": list(torch.cuda.get_device_capability()),
        "total_bytes": torch.cuda.get_device_properties(0).total_memory,
        "driver": driver.stdout.strip().split("\n")[0],
        "cuda": torch.version.cuda,
        **versions,
    }


def write(path: str, device: str, rows: list[dict[str, Any]]) -> None:
    """All rows so far, so that an end in the midst of it loses none."""
    errors = {
        n: [abs(r[f"error_{n}"]) for r in rows if f"error_{n}" in r] for n in ("requested", "allocated")
    }
    summary = {
        "cells": len(rows),
        "failures": sum("failure" in r for r in rows),
        "worst_error": {n: max(e) for n, e in errors.items() if e},
    }
    body = ",\n".join(json.dumps(row) for row in rows)
    with open(path, "w") as file:
        file.write(
            f'{{"machine": {json.dumps(facts(device))},\n"summary": {json.dumps(summary)},\n"cells": [\n'
        )
        file.write(f"{body}\n]}}\n")


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    what = f"{row['model']} {row['precision']} T={row['tokens']} M={row['micro_batch_size']} "
    what += f"K={row['accumulation_steps']}"
    if "failure" in row:
        return f"{what:44} {row['failure']}"
    errors = [f"{n} {row[f'error_{n}']:+.3%}" for n in ("requested", "allocated") if f"error_{n}" in row]
    return f"{what:44} {', '.join(errors)}"


if __name__ == "__main__":
    sys.exit(main())
