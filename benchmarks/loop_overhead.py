"""What a training loop costs around the work itself: ours, a bare hand-written one, Accelerate, Fabric.

    python benchmarks/loop_overhead.py [--repeats 200] [--json FILE]

All four descend the same model on the same micro-batches, and all are first shown to reach the same
parameters. They then take turns in one process, on one thread, in a random order in each round;
the table gives the median over the rounds of each round's time against the bare loop's in that round.
"""

import argparse
import gc
import json
import os
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.losses import classification_loss_sum, count_samples
from accum_lib.problems.digits import Digits, mlp

MICRO_BATCH_SIZE, STEPS, RATE = 8, 4, 0.1
BARE, OURS = "bare PyTorch", "accum_lib"
HIDDEN = (32, 1024)  # units: 2,410 and 76,810 parameters

Batches = list[tuple[Tensor, Tensor]]
Epoch = Callable[[Batches], list[float]]  # trains once over the micro-batches; the loss of each update


@dataclass(frozen=True)
class Row:
    """One loop on one model. Ratios are to the bare loop in the same round; quartiles over the rounds."""

    parameters: int
    loop: str
    microseconds_per_update: float
    ratio: float
    lower_quartile: float
    upper_quartile: float


def bare(model: nn.Module, optimizer: Optimizer) -> Epoch:
    """What one writes by hand. It is right here only because all micro-batches are equally large."""

    def epoch(batches: Batches) -> list[float]:
        losses, total = [], 0.0
        for i, (inputs, labels) in enumerate(batches):
            loss = F.cross_entropy(model(inputs), labels) / STEPS
            loss.backward()
            total += loss.detach()
            if (i + 1) % STEPS == 0:
                optimizer.step()
                optimizer.zero_grad()
                losses.append(total.item())
                total = 0.0
        return losses

    return epoch


def ours(model: nn.Module, optimizer: Optimizer) -> Epoch:
    def epoch(batches: Batches) -> list[float]:
        losses = []
        for window in windows(batches, STEPS):
            losses.append(accumulate(model, window, classification_loss_sum, count_samples).loss)
            apply_update(model, optimizer)
        return losses

    return epoch


def with_accelerate(model: nn.Module, optimizer: Optimizer) -> Epoch:
    """As its guide on gradient accumulation has it; ``backward`` divides by K."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=STEPS)
    model, optimizer = accelerator.prepare(model, optimizer)

    def epoch(batches: Batches) -> list[float]:
        losses, total = [], 0.0
        for inputs, labels in batches:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(inputs), labels)
                accelerator.backward(loss)
                total += loss.detach()
                optimizer.step()
                optimizer.zero_grad()
                if accelerator.sync_gradients:
                    losses.append(total.item() / STEPS)
                    total = 0.0
        return losses

    return epoch


def with_fabric(model: nn.Module, optimizer: Optimizer) -> Epoch:
    """As its guide on gradient accumulation has it, with the division that the guide leaves out."""
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(model, optimizer)

    def epoch(batches: Batches) -> list[float]:
        losses, total = [], 0.0
        for i, (inputs, labels) in enumerate(batches):
            accumulating = (i + 1) % STEPS != 0
            with fabric.no_backward_sync(model, enabled=accumulating):
                loss = F.cross_entropy(model(inputs), labels) / STEPS
                fabric.backward(loss)
                total += loss.detach()
            if not accumulating:
                optimizer.step()
                optimizer.zero_grad()
                losses.append(total.item())
                total = 0.0
        return losses

    return epoch


LOOPS: dict[str, Callable[[nn.Module, Optimizer], Epoch]] = {
    BARE: bare, OURS: ours, "Accelerate": with_accelerate, "Lightning Fabric": with_fabric,
}  # fmt: skip


def make_model(hidden: int) -> nn.Module:
    torch.manual_seed(0)
    return mlp(hidden)


def make_batches(updates: int) -> Batches:
    """Equal micro-batches, cut beforehand, so that no loop is timed reading data."""
    problem = Digits(num_samples=updates * STEPS * MICRO_BATCH_SIZE)
    return [problem.batch(i) for i in torch.arange(problem.num_samples).split(MICRO_BATCH_SIZE)]


def prepare(hidden: int) -> dict[str, tuple[nn.Module, Epoch]]:
    """Each loop with a model of its own, all equal."""
    prepared = {}
    for name, make_loop in LOOPS.items():
        model = make_model(hidden)
        prepared[name] = model, make_loop(model, SGD(model.parameters(), lr=RATE))
    return prepared


def check_same_work(prepared: dict[str, tuple[nn.Module, Epoch]], batches: Batches) -> None:
    """Two epochs: all loops must move, report the same losses and end at the same parameters."""
    start = [p.detach().clone() for p in prepared[BARE][0].parameters()]
    losses = {name: torch.tensor(epoch(batches) + epoch(batches)) for name, (_, epoch) in prepared.items()}
    reference = list(prepared[BARE][0].parameters())
    assert not any(torch.equal(a, b) for a, b in zip(start, reference, strict=True))
    for name, (model, _) in prepared.items():
        assert len(losses[name]) == 2 * len(batches) // STEPS
        torch.testing.assert_close(losses[name], losses[BARE], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(list(model.parameters()), reference, rtol=1e-4, atol=1e-5)


def seconds(epoch: Epoch, batches: Batches) -> float:
    started = time.perf_counter()
    epoch(batches)
    return time.perf_counter() - started


def measure(prepared: dict[str, tuple[nn.Module, Epoch]], batches: Batches, repeats: int) -> list[dict]:
    """Seconds of each loop in each round, in a random order in each round."""
    names, generator, rounds = list(prepared), random.Random(0), []
    gc.disable()
    for _ in range(repeats):
        gc.collect()  # between the loops' turns, never within one
        generator.shuffle(names)
        rounds.append({name: seconds(prepared[name][1], batches) for name in names})
    gc.enable()
    return rounds


def summarise(name: str, rounds: list[dict], parameters: int, updates: int) -> Row:
    ratios = [times[name] / times[BARE] for times in rounds]
    lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    micro = 1e6 * statistics.median(times[name] for times in rounds) / updates
    return Row(parameters, name, micro, median, lower, upper)


def benchmark(hidden: int, repeats: int, updates: int) -> list[Row]:
    prepared, batches = prepare(hidden), make_batches(updates)
    check_same_work(prepared, batches)
    rounds = measure(prepared, batches, repeats)
    parameters = sum(p.numel() for p in prepared[BARE][0].parameters())
    return [summarise(name, rounds, parameters, updates) for name in prepared]


def machine() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    packages = {name: version(name) for name in ("torch", "accelerate", "lightning")}
    cpu = f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return {"cpu": cpu, "python": platform.python_version(), **packages}


def table(rows: list[Row], repeats: int, updates: int) -> str:
    lines = [
        "| parameters | loop | µs per update | time against bare | quartiles |",
        "|---:|---|---:|---:|---:|",
    ]
    lines += [
        f"| {r.parameters:,} | {r.loop} | {r.microseconds_per_update:.0f} | {r.ratio:.3f} "
        f"| {r.lower_quartile:.3f} to {r.upper_quartile:.3f} |"
        for r in rows
    ]
    where = ", ".join(f"{name} {value}" for name, value in machine().items())
    what = f"M = {MICRO_BATCH_SIZE}, K = {STEPS}, one thread, {repeats} rounds of {updates} updates"
    return "\n".join([*lines, "", f"{what}. {where}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="rounds; each runs every loop once")
    parser.add_argument("--updates", type=int, default=20, help="optimizer updates per round, at most 56")
    parser.add_argument("--json", type=Path, help="write the rows and the machine here, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="lightning")
    rows = [row for hidden in HIDDEN for row in benchmark(hidden, options.repeats, options.updates)]
    print(table(rows, options.repeats, options.updates))
    if options.json:
        record = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
