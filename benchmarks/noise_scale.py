"""What watching the noise scale costs beside plain accumulation, and exact gradients beside the loop.

    python benchmarks/noise_scale.py [--repeats 150] [--full] [--json FILE]

Plain and watched updates (accumulate and an SGD update, K = 4) take turns in one process, on one thread, in
a random order in each round; the table gives the median over the rounds of each round's time against
the plain one in that round. "nothing" is plain accumulation once more: how far from 1 it is says how much the
measurement itself wavers. ``--full`` adds RoBERTa-base, which takes 3 GB and some minutes.
"""

import argparse
import gc
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.noise import NoiseScaleMonitor, example_gradients
from accum_lib.problems.base import Problem
from accum_lib.problems.digits import Digits
from accum_lib.problems.roberta import Roberta

STEPS, RATE = 4, 1e-3
PLAIN, NOTHING = "plain", "nothing"
EVERY = {"every window": 1, "one in 4 (default)": 4}


@dataclass(frozen=True)
class Cost:
    """One way of watching one model. Ratios are to plain accumulation in the same round."""

    model: str
    micro_batch_size: int
    watched: str
    milliseconds_per_update: float
    ratio: float
    lower_quartile: float
    upper_quartile: float


@dataclass(frozen=True)
class Speed:
    """Exact per-example gradients: vectorised against the loop over single examples."""

    model: str
    examples: int
    loop_seconds: float
    func_seconds: float
    ratio: float
    largest_difference: float


def updates(problem: Problem, micro_batch_size: int, every: int | None) -> Callable[[int], None]:
    """A function that makes ``updates`` updates on the same window, watched or not."""
    model = problem.make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    rows = torch.arange(STEPS * micro_batch_size) % problem.num_samples
    window = [problem.batch(part) for part in rows.split(micro_batch_size)]
    watched: Any = nullcontext(problem)
    if every:
        watched = NoiseScaleMonitor(model, problem.loss_sum, problem.count, every=every)

    def run(count: int) -> None:
        with watched as source:
            for _ in range(count):
                accumulate(model, window, source.loss_sum, source.count)
                apply_update(model, optimizer)

    return run


def seconds(run: Callable[[int], None], count: int) -> float:
    started = time.perf_counter()
    run(count)
    return time.perf_counter() - started


def watch(problem: Problem, micro_batch_size: int, rounds: int, count: int) -> list[Cost]:
    """Plain, plain again, and each way of watching, interleaved; ``count`` updates a turn."""
    ways = {PLAIN: None, NOTHING: None, **EVERY}
    runs = {name: updates(problem, micro_batch_size, every) for name, every in ways.items()}
    for run in runs.values():
        run(4)  # warm up
    names, generator, times = list(runs), random.Random(0), []
    gc.disable()
    for _ in range(rounds):
        gc.collect()
        generator.shuffle(names)
        times.append({name: seconds(runs[name], count) for name in names})
    gc.enable()
    return [cost(problem, micro_batch_size, name, times, count) for name in ways]


def cost(problem: Problem, micro_batch_size: int, name: str, times: list[dict], count: int) -> Cost:
    ratios = [each[name] / each[PLAIN] for each in times]
    lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    milliseconds = 1e3 * statistics.median(each[name] for each in times) / count
    return Cost(problem.name, micro_batch_size, name, milliseconds, median, lower, upper)


def speed(problem: Problem, model: nn.Module, examples: int, rounds: int = 5) -> Speed:
    rows = torch.arange(examples)
    made = {m: example_gradients(problem, model, rows, m) for m in ("loop", "func")}  # warms up, too
    times = []
    for _ in range(rounds):
        times.append({})
        for method in random.Random(len(times)).sample(["loop", "func"], 2):
            started = time.perf_counter()
            example_gradients(problem, model, rows, method)
            times[-1][method] = time.perf_counter() - started
    return Speed(
        model=problem.name,
        examples=examples,
        loop_seconds=statistics.median(t["loop"] for t in times),
        func_seconds=statistics.median(t["func"] for t in times),
        ratio=statistics.median(t["loop"] / t["func"] for t in times),
        largest_difference=float((made["loop"] - made["func"]).abs().max()),
    )


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    cpu = f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return f"cpu {cpu}, python {platform.python_version()}, torch {version('torch')}, one thread"


def print_costs(rows: list[Cost]) -> None:
    print("| model | M | watched | ms per update | time against plain | quartiles |")
    print("|---|---:|---|---:|---:|---:|")
    for r in rows:
        print(
            f"| {r.model} | {r.micro_batch_size} | {r.watched} | {r.milliseconds_per_update:.2f} "
            f"| {r.ratio:.3f} | {r.lower_quartile:.3f} to {r.upper_quartile:.3f} |",
            flush=True,
        )


def print_speeds(rows: list[Speed]) -> None:
    print("\n| model | examples | loop s | torch.func s | loop against func | largest difference |")
    print("|---|---:|---:|---:|---:|---:|")
    for r in rows:
        print(
            f"| {r.model} | {r.examples} | {r.loop_seconds:.2f} | {r.func_seconds:.2f} | {r.ratio:.1f} "
            f"| {r.largest_difference:.0e} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=150, help="rounds; each runs every way once")
    parser.add_argument("--full", action="store_true", help="RoBERTa-base as well")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [(Digits("cnn"), 8, 1), (Digits("cnn"), 32, 1), (Roberta("tiny"), 8, 2)]
    costs = [row for p, m, divisor in cases for row in watch(p, m, options.repeats // divisor, 4)]
    if options.full:
        costs += watch(Roberta("base"), 4, max(options.repeats // 20, 5), 4)
    print_costs(costs)
    mlp, cnn = Digits("mlp", torch.float64), Digits("cnn", torch.float64)
    speeds = [speed(mlp, mlp.make_model(), 512), speed(cnn, cnn.make_model().eval(), 512)]
    print_speeds(speeds)
    print(f"\nK = {STEPS}, {options.repeats} rounds of 4 updates. {machine()}.")
    if options.json:
        record = {
            "machine": machine(),
            "costs": [asdict(r) for r in costs],
            "speeds": [asdict(r) for r in speeds],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
