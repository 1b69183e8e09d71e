"""Real weights on a real benchmark: all-MiniLM-L6-v2 learns Reuters R8 with B = 32 cut in three ways.

    python benchmarks/real_weights.py [--updates 172] [--short 12] [--output FOLDER]

Runs ``accum train`` with dropout 0 and (M, K) = (32, 1), (8, 4), (4, 8), one after the other, and compares
what the three models predict for every test item. Before that a run of ``--short`` updates is killed half
way, three updates after a checkpoint, and resumed: its parameters are compared bit for bit with those of one
that was left alone, and its log is shown to have each update once. The first call fetches 122 MB with pip.
Seconds include imports and evaluation; those of the processor are of all threads.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from accum_lib.machine import GIB
from accum_lib.training.data import TextData
from accum_lib.training.data.sources import load_data
from accum_lib.training.logs import LOG, read_log
from accum_lib.training.predicting import load_classifier, probabilities

WAYS = ((32, 1), (8, 4), (4, 8))
BEYOND = 3  # updates between the checkpoint and the kill
SETTINGS = [
    "--model", "minilm", "--data", "reuters-r8", "--dropout", "0", "--max-tokens", "64", "--epochs", "1",
    "--learning-rate", "1e-4", "--device", "cpu", "--quiet",
]  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """One run: its folder, seconds on the clock and of the processor, and the most resident bytes."""

    folder: Path
    seconds: float
    of_processor: float
    resident_bytes: int


def command(folder: Path, micro_batch_size: int, *more: str) -> list[str]:
    sizes = ["-M", str(micro_batch_size), "-B", "32", "--output", str(folder)]
    return [sys.executable, "-m", "accum_lib", "train", *SETTINGS, *sizes, *more]


def trained(folder: Path, micro_batch_size: int, *more: str) -> Trained:
    """Train to the end."""
    started = time.perf_counter()
    process = subprocess.Popen(command(folder, micro_batch_size, *more), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"accum train ended with {process.returncode}: {' '.join(process.args)}")
    seconds = time.perf_counter() - started
    return Trained(folder, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def killed(folder: Path, after: int, *more: str) -> None:
    """Kill a run once it has logged this update."""
    process = subprocess.Popen(command(folder, 8, *more), stdout=subprocess.DEVNULL)
    while not any(e["event"] == "update" and e["update"] == after for e in events_of(folder)):
        if process.poll() is not None:
            raise RuntimeError(f"the run ended before update {after}, with {process.returncode}")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def events_of(folder: Path) -> list[dict]:
    log = folder / LOG
    return read_log(log) if log.exists() and log.read_text().endswith("\n") else []


def predicted(run: Trained, data: TextData) -> Tensor:
    """(test items, classes), probabilities."""
    model, tokenizer, _ = load_classifier(run.folder / "model")
    return probabilities(model, tokenizer, data.held_out, tokenizer.model_max_length)


def same_predictions(root: Path, updates: list[str]) -> None:
    data, found = load_data("reuters-r8"), []
    print("| M | K | right | macro-F1 | min | of the processor | resident GiB |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for m, k in WAYS:
        run = trained(root / f"{m}x{k}", m, *updates)
        last = [e for e in events_of(run.folder) if e["event"] == "evaluation"][-1]
        found.append(predicted(run, data))
        print(
            f"| {m} | {k} | {last['accuracy']:.2%} | {last['macro_f1']:.3f} | {run.seconds / 60:.1f} | "
            f"{run.of_processor / 60:.1f} | {run.resident_bytes / GIB:.2f} |",
            flush=True,
        )
    for (m, k), other in zip(WAYS[1:], found[1:], strict=True):
        apart = int((other.argmax(1) != found[0].argmax(1)).sum())
        print(
            f"(M, K) = {m, k} and {WAYS[0]}: {apart} of {len(other)} test items are predicted otherwise; "
            f"probabilities differ by at most {float((other - found[0]).abs().max()):.1e}"
        )


def same_bits(root: Path, updates: int) -> None:
    saved = max(1, updates // 2 - BEYOND)
    more = ["--max-updates", str(updates), "--save-every", str(saved), "--max-held-out", "64"]
    whole = trained(root / "whole", 8, *more)
    killed(root / "killed", saved + BEYOND, *more)
    resumed = trained(root / "killed", 8, *more, "--resume")
    one, other = (load_file(run.folder / "model" / "model.safetensors") for run in (whole, resumed))
    same = one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    log = [json.loads(line) for line in (resumed.folder / LOG).read_text().splitlines()]
    once = [e["update"] for e in log if e["event"] == "update"] == list(range(1, updates + 1))
    print(
        f"killed after update {saved + BEYOND} of {updates}, resumed from {saved}: "
        f"{'the same bits' if same else 'OTHER BITS'}, {'once' if once else 'NOT ONCE'} in the log"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--updates", type=int, help="of each of the three runs (one epoch: 172)")
    parser.add_argument("--short", type=int, default=12, help="updates of the run that is killed (12)")
    parser.add_argument("--output", type=Path, help="an empty folder for the runs; 1.5 GB (a temporary one)")
    arguments = parser.parse_args()
    updates = [] if arguments.updates is None else ["--max-updates", str(arguments.updates)]
    print(
        f"torch {version('torch')}, transformers {version('transformers')}, "
        f"{torch.get_num_threads()} threads, load average {psutil.getloadavg()[0]:.1f}\n"
    )
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.output or Path(temporary)
        same_bits(root, arguments.short)
        same_predictions(root, updates)
        print(f"load average at the end {psutil.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
