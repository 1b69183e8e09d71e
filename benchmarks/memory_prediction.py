"""How long a prediction of memory takes: a whole plan, the first of a model, and then every further M.

    python benchmarks/memory_prediction.py [--repeats 5]

A plan is ``accum plan`` in a new process, imports included: wall-clock, processor time, most resident memory.
Before the first, one is run uncounted, so that what Python compiles of the packages is there.
A trace from five layers is timed beside one of the whole model, in turns.
Each first prediction is made from scratch (nothing is kept from the one before), on one thread; the table
gives the median. Resident memory is this process's highest so far, with Python, PyTorch, Transformers loaded.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch

from accum_lib.memory.cuda import CUDA
from accum_lib.memory.layers import trace
from accum_lib.memory.prediction import Prediction, predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.splice import TRACED_STEPS
from accum_lib.memory.trace.update import trace_update
from accum_lib.memory.workloads import Workload, named

MODELS = ("roberta-base", "roberta-large")
WAYS = (Settings(), Settings(precision="bf16"), Settings(precision="bf16", checkpointing=True))
SIZES = range(3, 67)
DECODER_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip


def first(workload: Workload, settings: Settings) -> tuple[float, Prediction]:
    """Seconds until the first peak is known, and the prediction."""
    started = time.perf_counter()
    prediction = predict(workload, settings, CUDA(attention=settings.attention))
    prediction.peak_bytes(16, 4)
    return time.perf_counter() - started, prediction


def further(prediction: Prediction) -> float:
    """Seconds for each further M."""
    started = time.perf_counter()
    for size in SIZES:
        prediction.peak_bytes(size, 4)
    return (time.perf_counter() - started) / len(SIZES)


def traces(repeats: int) -> None:
    """A second M of a model whose layers are known to be alike, in float32, and its whole trace beside it."""
    print("| trace, T = 128 | from five layers, ms | of the whole, ms | ratio |\n|---|---:|---:|---:|")
    for name in MODELS:
        workload, settings = named(name), Settings()
        trace(workload, 2, TRACED_STEPS, settings, CUDA())
        times: tuple[list[float], ...] = ([], [])
        for size in range(3, 3 + repeats):
            for of, run in zip(times, (trace, trace_update), strict=True):
                started = time.perf_counter()
                run(workload, size, TRACED_STEPS, settings, CUDA())
                of.append(1e3 * (time.perf_counter() - started))
        few, whole = (statistics.median(of) for of in times)
        ratio = statistics.median(w / f for f, w in zip(*times, strict=True))
        print(f"| {name} | {few:.0f} | {whole:.0f} | {ratio:.1f} |", flush=True)
    print()


def cold_plan(name: str, *more: str) -> tuple[float, float]:
    """Seconds of a new process on the clock, and of the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "accum_lib", "plan", "--model", name, "--batch", "256", *more]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cold_plans(repeats: int) -> None:
    print(
        "| accum plan, from a new process | seconds | of the processor | resident GiB |\n|---|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.json")
        file.write_text(json.dumps(DECODER_7B))
        lora = ("--gpu", "24GB", "--tokens", "512", "--train", "lora", "--weights", "bf16")
        for name, model, more in (
            ("roberta-large", "roberta-large", ("--gpu", "16GB")), ("7 B decoder, LoRA", str(file), lora)
        ):  # fmt: skip
            cold_plan(model, *more)
            found = [cold_plan(model, *more) for _ in range(repeats)]
            wall, processor = (statistics.median(part) for part in zip(*found, strict=True))
            most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            print(f"| {name} | {wall:.1f} | {processor:.1f} | {most:.2f} |", flush=True)
    print()


def resident_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="first predictions of each kind")
    repeats = parser.parse_args().repeats
    cold_plans(repeats)
    torch.set_num_threads(1)
    first(named("distilbert"), Settings())  # imports Transformers
    traces(repeats)
    print("| model, T = 512 | precision | checkpointing | first, s | every further M, ms | resident GiB |")
    print("|---|---|---|---:|---:|---:|")
    for model in MODELS:
        for way in WAYS:
            made = [first(named(model, tokens=512), way) for _ in range(repeats)]
            seconds = statistics.median(s for s, _ in made)
            milliseconds = 1e3 * statistics.median(further(p) for _, p in made)
            print(f"| {model} | {way.precision} | {'yes' if way.checkpointing else 'no'} | {seconds:.2f} "
                  f"| {milliseconds:.2f} | {resident_gib():.2f} |", flush=True)  # fmt: skip
    print(
        f"\n{repeats} of each. torch {version('torch')}, transformers {version('transformers')}, one thread."
    )


if __name__ == "__main__":
    main()
