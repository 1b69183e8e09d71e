"""What a GPU adds to notebooks 04 and 06: measured here if there is one, else what is committed, dated."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from accum_lib.explorers.stills import show_still
from accum_lib.figures import gpu_memory
from accum_lib.figures.throughput import picture, summary
from accum_lib.words import N_, _

SCRIPT = Path(__file__).parents[2] / "tests" / "gpu" / "roberta_lab.py"
COMMITTED = SCRIPT.with_suffix(".json")
GRID = SCRIPT.with_name("memory_grid.json")
SECONDS = 240  # in a notebook; the whole takes up to nine minutes
NONE = N_("""\
This machine has no GPU, and no results of one have been committed: nobody has run this on a GPU yet,
so there is nothing to show. On a machine with one:

    python tests/gpu/roberta_lab.py""")


def show_gpu_results() -> None:
    """Run the script on the GPU that is here; else show committed results, or say that there are none."""
    if torch.cuda.is_available():
        show(measured())
    elif COMMITTED.exists():
        show(json.loads(COMMITTED.read_text()))
    else:
        print(_(NONE))


def measured() -> dict[str, Any]:
    """The script's results, from a process of its own that gives the GPU's memory back.

    Raises:
        RuntimeError: the script could not be run at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "results.json")
        command = [sys.executable, str(SCRIPT), "--seconds", str(SECONDS), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if not out.exists():
            raise RuntimeError(f"{SCRIPT.name} could not be run: {done.stderr[-500:]}")
        return json.loads(out.read_text())


def show_memory_grid() -> None:
    """Predicted memory beside the memory that a GPU measured; committed, since it takes minutes."""
    record = json.loads(GRID.read_text())
    print(_measured_on(record))
    show_still(partial(gpu_memory.picture, record["cells"]))


def show(record: Mapping[str, Any]) -> None:
    """Where and when it was measured, each part in a line, and a picture of the speeds of each model."""
    parts = record["parts"]
    print(_measured_on(record))
    for name in (n for n in parts if n != "speed"):
        for row in parts[name]:
            print(f"{name}: {row.get('failure') or _line(row)}")
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in parts.get("speed", []):
        if "failure" in row:
            print(
                _(
                    "speed: {model}, {precision}, M = {m}: {failure}",
                    model=row["model"],
                    precision=row["precision"],
                    m=row["micro_batch_size"],
                    failure=row["failure"],
                )
            )
        else:
            groups.setdefault((row["model"], row["precision"]), []).append(row)
    for rows in groups.values():
        if len({row["accumulation_steps"] for row in rows}) > 1:
            show_still(partial(picture, rows))
        else:
            print(summary(rows))


def _measured_on(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    return _(
        "Measured on {date}: {device}, PyTorch {torch}.",
        date=record["date"],
        device=machine["device"],
        torch=machine["torch"],
    )


def _line(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {_short(value)}" for name, value in row.items() if name != "small"
    )


def _short(value: Any) -> Any:
    """Four digits of a number; no braces around numbers with names."""
    if isinstance(value, Mapping):
        return " ".join(f"{name.replace('_', ' ')}: {_short(each)}" for name, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else value
