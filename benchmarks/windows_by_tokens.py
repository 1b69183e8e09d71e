"""What passes by tokens save: windows of docstrings, plain, sorted by length, and packed to a token budget.

    python benchmarks/windows_by_tokens.py [--rounds 9] [--updates 12]

All three read the same windows of B = 32 texts with the tiny RoBERTa, and are first shown to have the same
gradient. A budget of 1,024 tokens is what M = 8 of the longest text have: the memory of the plain windows.
They take turns in one process, in a random order in each round; the table gives the median over the rounds of
each round's time against the plain windows', and quartiles. One thread; padding included.
"""

import argparse
import random
import statistics
import time
from importlib.metadata import version

import torch
from torch import nn

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.packing import windows_by_tokens
from accum_lib.training.data.batches import cut, epoch_windows
from accum_lib.training.data.sources import load_data
from accum_lib.training.data.tasks import Batch, Classification, Task
from accum_lib.training.models import load_model
from accum_lib.vectors import flat

B, TOKENS = 32, 128
WAYS = {  # M, sorted by length, by tokens
    "8 texts, as drawn": (8, False, False),
    "8 texts, longest first": (8, True, False),
    "up to 1,024 tokens": (8, True, True),
    "up to 512 tokens": (4, True, True),
    "up to 256 tokens": (2, True, True),
}


def window_of(task: Task, examples: list[int], way: str) -> list[Batch]:
    m, in_order, by_tokens = WAYS[way]
    if by_tokens:
        (window,) = windows_by_tokens(examples, B, m * TOKENS, task.lengths.__getitem__, task.batch)
        return window
    read = sorted(examples, key=lambda i: -task.lengths[i]) if in_order else examples
    return [task.batch(part) for part in cut(read, m)]


def gradient(model: nn.Module, task: Task, examples: list[int], way: str) -> torch.Tensor:
    model.zero_grad()
    accumulate(model, window_of(task, examples, way), task.loss_sum, task.count)
    return flat(p.grad for p in model.parameters())


def seconds(model: nn.Module, task: Task, windows: list[list[int]], way: str) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    started = time.perf_counter()
    for window in windows:
        accumulate(model, window_of(task, window, way), task.loss_sum, task.count)
        apply_update(model, optimizer, max_grad_norm=1.0)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--updates", type=int, default=12, help="windows in each round")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data()
    loaded = load_model("tiny", "classification", data, dropout=0.0)
    task = Classification(data.train, loaded.tokenizer, TOKENS)
    windows = epoch_windows(task.lengths, B, 0, 0, 0)[: asked.updates]
    double = loaded.model.double()
    one = [gradient(double, task, windows[0], way) for way in WAYS]
    for found in one[1:]:
        off = float((found - one[0]).norm() / one[0].norm())
        assert off < 1e-12, f"the gradients differ by {off}"
    model, times = double.float(), {way: [] for way in WAYS}
    for _ in range(asked.rounds + 1):
        for way in random.sample(list(WAYS), len(WAYS)):
            times[way].append(seconds(model, task, windows, way))
    plain = times[next(iter(WAYS))][1:]  # without the first round, which warms up
    real = sum(task.lengths[i] for window in windows for i in window)
    print("| a pass holds | passes per update | padding | ms per update | times as fast | quartiles |")
    print("|---|---:|---:|---:|---:|---:|")
    for way, taken in times.items():
        parts = [batch["input_ids"] for examples in windows for batch in window_of(task, examples, way)]
        padded = sum(ids.numel() for ids in parts)
        faster = [a / b for a, b in zip(plain, taken[1:], strict=True)]
        low, median, high = statistics.quantiles(faster, n=4)
        milliseconds = 1e3 * statistics.median(taken[1:]) / len(windows)
        row = f"{len(parts) / len(windows):.1f} | {1 - real / padded:.0%} | {milliseconds:.0f}"
        print(f"| {way} | {row} | {median:.2f} | {low:.2f} to {high:.2f} |")
    rounds = f"{asked.rounds} rounds of {len(windows)} updates"
    print(f"\nTiny RoBERTa, B = {B}, T = {TOKENS}; {rounds}, torch {version('torch')}, one thread.")


if __name__ == "__main__":
    main()
