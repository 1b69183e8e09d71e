"""Tokens per second of fine-tuning: our trainer beside Transformers' own, at equal settings, in one run.

    python benchmarks/roberta_throughput.py [--rounds 5] [--updates 20] [--json FILE]

Both train the tiny RoBERTa on the docstrings, on the same micro-batches in the same order, with the same
optimizer, schedule and clipping, and are first shown to reach the same parameters. They then take turns in
one process, in a random order in each round; a run is timed as a whole, with what either does to begin
and to end it. The table gives the median over the rounds of each round's ratio.
"""

import argparse
import copy
import gc
import json
import os
import platform
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from accum_lib.training.data import TextData
from accum_lib.training.data.batches import epoch_windows
from accum_lib.training.data.sources import load_data
from accum_lib.training.data.tasks import Classification
from accum_lib.training.machinery import BETAS, EPSILON
from accum_lib.training.models import Loaded, load_model
from accum_lib.training.settings import TrainingSettings
from accum_lib.training.trainer import Trainer

M, K, RATE, TOKENS = 8, 4, 1e-3, 128
OURS, THEIRS = "accum_lib", "transformers.Trainer"
SETTINGS = TrainingSettings(
    micro_batch_size=M, accumulation_steps=K, epochs=1, learning_rate=RATE, warmup=0.0, length_pool=1
)


@dataclass(frozen=True)
class Row:
    """One trainer. The ratio is of tokens per second to that of Transformers in the same round."""

    trainer: str
    tokens_per_second: float
    ratio: float
    lower_quartile: float
    upper_quartile: float


@dataclass(frozen=True)
class Work:
    """What both do: an untrained model, and the examples of some full windows."""

    loaded: Loaded
    task: Classification

    @property
    def tokens(self) -> int:
        """Without padding."""
        return sum(self.task.lengths)


def make_work(updates: int) -> Work:
    data = load_data()
    needed = updates * M * K
    if needed > len(data.train):
        raise SystemExit(f"--updates must be at most {len(data.train) // (M * K)}; got {updates}")
    cut = TextData(data.name, data.train[:needed], data.held_out[:1], data.labels)
    loaded = load_model("tiny", "classification", cut, dropout=0.0)  # so that the parameters can be compared
    return Work(loaded, Classification(cut.train, loaded.tokenizer, TOKENS))


def ours(work: Work) -> tuple[nn.Module, Callable[[], Any]]:
    model = copy.deepcopy(work.loaded.model)
    held_out = Classification(work.task.examples[:1], work.loaded.tokenizer, TOKENS)
    trainer = Trainer(model, work.task, held_out, SETTINGS, device="cpu")
    return model, trainer.run


def theirs(work: Work) -> tuple[nn.Module, Callable[[], Any]]:
    """The same examples in the same order: theirs would draw another one."""
    model = copy.deepcopy(work.loaded.model)
    windows = epoch_windows(work.task.lengths, M * K, SETTINGS.length_pool, SETTINGS.seed, 0)
    examples = [
        {**work.task.encoded[i], "labels": work.task.examples[i].label} for window in windows for i in window
    ]
    how = transformers.TrainingArguments(
        output_dir=tempfile.mkdtemp(), num_train_epochs=1, per_device_train_batch_size=M,
        gradient_accumulation_steps=K, learning_rate=RATE, lr_scheduler_type="linear", warmup_steps=0,
        weight_decay=SETTINGS.weight_decay, max_grad_norm=1.0, optim="adamw_torch", adam_beta1=BETAS[0],
        adam_beta2=BETAS[1], adam_epsilon=EPSILON, train_sampling_strategy="sequential", use_cpu=True,
        report_to="none", logging_strategy="no", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model, how, train_dataset=examples,
        data_collator=transformers.DataCollatorWithPadding(work.loaded.tokenizer),
    )  # fmt: skip
    trainer.model_accepts_loss_kwargs = False  # else its gradient is K times too large for RoBERTa
    return model, trainer.train


TRAINERS = {OURS: ours, THEIRS: theirs}


def check_same_work(work: Work) -> None:
    """One epoch each: both must move, and end at the same parameters but for float32's rounding."""
    ends = []
    for make in TRAINERS.values():
        model, train = make(work)
        train()
        ends.append([p.detach() for p in model.parameters()])
    start = list(work.loaded.model.parameters())
    off = sum(float((a - b).square().sum()) for a, b in zip(*ends, strict=True)) ** 0.5
    moved = sum(float((a - b).square().sum()) for a, b in zip(ends[1], start, strict=True)) ** 0.5
    assert moved > 0.1
    assert off < 1e-2 * moved, (off, moved)


def seconds(make: Callable, work: Work) -> float:
    _, train = make(work)
    gc.collect()
    started = time.perf_counter()
    train()
    return time.perf_counter() - started


def measure(work: Work, rounds: int) -> list[dict[str, float]]:
    """Tokens per second of each trainer in each round, in a random order."""
    names, generator, found = list(TRAINERS), random.Random(0), []
    for _ in range(rounds):
        generator.shuffle(names)
        found.append({name: work.tokens / seconds(TRAINERS[name], work) for name in names})
    return found


def summarise(name: str, rounds: list[dict[str, float]]) -> Row:
    ratios = [speeds[name] / speeds[THEIRS] for speeds in rounds]
    lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return Row(name, statistics.median(speeds[name] for speeds in rounds), median, lower, upper)


def machine() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    packages = {name: version(name) for name in ("torch", "transformers", "accelerate")}
    cpu = f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return {"cpu": cpu, "python": platform.python_version(), **packages}


def table(rows: list[Row], work: Work, rounds: int) -> str:
    lines = [
        "| trainer | tokens/s | against Transformers | quartiles |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {r.trainer} | {r.tokens_per_second:.0f} | {r.ratio:.3f} "
        f"| {r.lower_quartile:.3f} to {r.upper_quartile:.3f} |"
        for r in rows
    ]
    where = ", ".join(f"{name} {value}" for name, value in machine().items())
    what = f"{work.loaded.name}, M = {M}, K = {K}, one thread"
    what += f", {rounds} rounds of {len(work.task) // (M * K)} updates"
    return "\n".join([*lines, "", f"{what}. {where}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="each runs both trainers once; 2 or more")
    parser.add_argument("--updates", type=int, default=20, help="optimizer updates of each run")
    parser.add_argument("--json", type=Path, help="write the rows and the machine here, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    work = make_work(options.updates)
    check_same_work(work)
    rounds = measure(work, options.rounds)
    rows = [summarise(name, rounds) for name in TRAINERS]
    print(table(rows, work, options.rounds))
    if options.json:
        record = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
