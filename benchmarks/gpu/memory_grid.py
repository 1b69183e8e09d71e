"""Predicted memory beside measured memory, cell by cell, on the GPU that is here; without one, on the CPU.

    python benchmarks/gpu/memory_grid.py [--device cuda|cpu] [--small] [--seconds 540] [--out FILE]
                                    [--only "M=16"] [--snapshots FOLDER]

On a GPU three numbers of each cell are compared, in this order: the bytes requested (tests the trace), the
bytes allocated (tests the replay of the allocator and the workspace), and what was reserved beside them.
Attention is pinned, each cell has a process of its own, two updates warm up before the peaks are reset. As
many cells as fit run side by side: a process's memory does not depend on its neighbours. On a CPU the
profiler's peak is compared. Every cell is reported, failures too; the exit code is 1 if one is out of
tolerance or has failed. Cells that the time did not suffice for are listed as not run.

``--snapshots`` keeps PyTorch's record of the measured update (open it at pytorch.org/memory_viz), to see
where a prediction goes wrong.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any

import torch

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.lessons.memory.measure import measure_on_cpu
from accum_lib.losses import in_precision
from accum_lib.machine import HEAVY, copies
from accum_lib.memory.caching_allocator import replay
from accum_lib.memory.cpu import CPU
from accum_lib.memory.cuda import CUDA
from accum_lib.memory.prediction import Prediction, predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload, named

TOLERANCES = {"requested": 0.01, "allocated": 0.03}  # what is reserved is reported beside them
CONTEXT_BYTES = 2**30  # of each process on a GPU, beside what PyTorch's allocator holds
MOST_AT_ONCE = 8
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

    def words(self) -> str:
        """As it is called in the output."""
        m, k = self.micro_batch_size, self.accumulation_steps
        return f"{self.model} {self.precision} T={self.tokens} M={m} K={k}"

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
    parser = command_line(__doc__, "memory_grid.json")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="cells with such a text, as 'bf16 T=128'"
    )
    parser.add_argument("--snapshots", help="a folder for PyTorch's record of each measured update (GPU)")
    arguments = parsed(parser)
    device = arguments.device
    if arguments.snapshots:
        os.makedirs(arguments.snapshots, exist_ok=True)
    wanted = arguments.only
    grid = [cell for cell in cells(arguments.small) if any(text in cell.words() for text in wanted)]
    if not grid:
        parser.error(f"no cell's name holds any of {wanted}; one reads {cells(False)[0].words()!r}")
    rows: dict[Cell, dict[str, Any]] = {}
    for cell, row in run(grid, device, arguments.seconds, arguments.snapshots):
        rows[cell] = row
        print(line(row), flush=True)
        write(arguments.out, device, [rows[each] for each in grid if each in rows])
    return 0 if all(row["within"] for row in rows.values()) else 1


def command_line(description: str, out: str) -> argparse.ArgumentParser:
    """What the scripts for a GPU have in common."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], help="without it, the one that is here")
    parser.add_argument("--small", action="store_true", help="a two-layer model, and little of it")
    parser.add_argument("--seconds", type=float, default=540, help="start nothing after so long")
    parser.add_argument("--out", default=out)
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    arguments = parser.parse_args()
    arguments.device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here: leave --device out, or say --device cpu")
    return arguments


def run(
    grid: list[Cell], device: str, seconds: float, snapshots: str | None = None
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell's row, as it is done; on a GPU several cells at once, as far as their memory goes."""
    started, predictions = time.monotonic(), {}
    room = Room(torch.cuda.mem_get_info()[0] if device == "cuda" else 1)
    one_at_a_time = threading.Lock()  # a trace answers for functions of PyTorch, which are there once

    def predicted_for(cell: Cell) -> dict[str, int]:
        how = cell.model, cell.precision, cell.tokens, cell.small
        with one_at_a_time:
            if how not in predictions:
                predictions[how] = predict(cell.workload(), cell.settings(), described(device, cell))
            return expected(predictions[how], cell, device)

    def row_of(cell: Cell) -> dict[str, Any]:
        if time.monotonic() - started > seconds:
            return failed(asdict(cell), "not run: the time was up")
        try:
            predicted = predicted_for(cell)
        except Exception as error:  # that, too, is a result
            return failed(asdict(cell), error)
        with room.for_bytes(predicted["reserved"] + CONTEXT_BYTES if device == "cuda" else 1):
            return compared(cell, predicted, device, snapshots)

    with ThreadPoolExecutor(MOST_AT_ONCE if device == "cuda" else 1) as threads:
        waiting = {threads.submit(row_of, cell): cell for cell in grid}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


class Room:
    """Lets in as many as fit; who needs more than there is goes alone."""

    def __init__(self, nbytes: int) -> None:
        self._free = self._all = nbytes
        self._changed = threading.Condition()

    @contextmanager
    def for_bytes(self, needed: int) -> Iterator[None]:
        needed = min(needed, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= needed)
            self._free -= needed
        try:
            yield
        finally:
            with self._changed:
                self._free += needed
                self._changed.notify_all()


def described(device: str, cell: Cell) -> CPU | CUDA:
    """What the prediction speaks for: the device that is here."""
    if device == "cpu":
        return CPU()
    return CUDA(cell.attention, hopper=torch.cuda.get_device_capability()[0] >= 9)


def expected(prediction: Prediction, cell: Cell, device: str) -> dict[str, int]:
    """Predicted bytes: requested, and on a GPU allocated and reserved as well."""
    m, k = cell.micro_batch_size, cell.accumulation_steps
    requested = {"requested": prediction.requested_bytes(m, k)}
    if device == "cpu":
        return requested
    replayed = replay(prediction, m, k)
    return {**requested, "allocated": replayed.allocated_bytes, "reserved": replayed.reserved_bytes}


def compared(
    cell: Cell, predicted: dict[str, int], device: str, snapshots: str | None = None
) -> dict[str, Any]:
    """Predicted, measured and the signed relative error; or what went wrong."""
    row: dict[str, Any] = {**asdict(cell), "attention": cell.attention}
    row |= {f"predicted_{name}": nbytes for name, nbytes in predicted.items()}
    try:
        measured = in_a_process_of_its_own(cell, device, snapshots)
    except Exception as error:  # out of memory is a result, too
        return failed(row, error)
    row |= {f"measured_{name}": nbytes for name, nbytes in measured.items()}
    errors = {name: predicted[name] / measured[name] - 1 for name in predicted}
    row |= {f"error_{name}": round(value, 6) for name, value in errors.items()}
    return {**row, "within": all(abs(errors[n]) <= TOLERANCES[n] for n in errors if n in TOLERANCES)}


def failed(row: dict[str, Any], why: Exception | str) -> dict[str, Any]:
    """What is known of the cell, and why there is no more."""
    failure = why if isinstance(why, str) else f"{type(why).__name__}: {str(why)[:200]}"
    return {**row, "failure": failure, "within": False}


def in_a_process_of_its_own(cell: Cell, device: str, snapshots: str | None = None) -> dict[str, int]:
    """Measured by a copy of a process that has loaded PyTorch and has not touched the GPU."""
    with ProcessPoolExecutor(1, mp_context=copies(*HEAVY)) as pool:  # it raises if its process is killed
        return pool.submit(measure, cell, device, snapshots).result()


def measure(cell: Cell, device: str, snapshots: str | None = None) -> dict[str, int]:
    """Peaks of one update, in bytes."""
    torch.set_num_threads(1)  # several processes share the cores
    if device == "cpu":
        peak = measure_on_cpu(
            cell.workload(), cell.micro_batch_size, cell.accumulation_steps, cell.settings()
        )
        return {"requested": peak}
    return measure_on_gpu(cell, snapshots)


def measure_on_gpu(cell: Cell, snapshots: str | None = None) -> dict[str, int]:
    """What PyTorch's caching allocator says of the update after the ones that warm up."""
    for number in updates(cell, "cuda", WARM_UP):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        if snapshots and number == WARM_UP - 1:
            torch.cuda.memory._record_memory_history(stacks="python")
    torch.cuda.synchronize()
    stats = torch.cuda.memory_stats()
    if snapshots:
        torch.cuda.memory._dump_snapshot(os.path.join(snapshots, f"{cell.words()}.pickle".replace(" ", "_")))
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
    names = ("requested", "allocated", "reserved")
    errors = {n: [abs(r[f"error_{n}"]) for r in rows if f"error_{n}" in r] for n in names}
    summary = {
        "cells": len(rows),
        "failures": sum("failure" in r for r in rows),
        "worst_error": {n: max(e) for n, e in errors.items() if e},
    }
    body = ",\n".join(json.dumps(row) for row in rows)
    with open(path, "w") as file:
        file.write(
            f'{{"date": "{time.strftime("%Y-%m-%d")}",\n"machine": {json.dumps(facts(device))},\n'
            f'"summary": {json.dumps(summary)},\n"cells": [\n'
        )
        file.write(f"{body}\n]}}\n")


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    what = Cell(**{field.name: row[field.name] for field in fields(Cell)}).words()
    if "failure" in row:
        return f"{what:44} {row['failure']}"
    names = ("requested", "allocated", "reserved")
    errors = [f"{n} {row[f'error_{n}']:+.3%}" for n in names if f"error_{n}" in row]
    return f"{what:44} {', '.join(errors)}"


if __name__ == "__main__":
    sys.exit(main())
