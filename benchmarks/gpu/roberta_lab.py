"""RoBERTa on the GPU that is here, in one call: speed, equality, running out of memory, 8,192 sequences.

    python benchmarks/gpu/roberta_lab.py [--device cuda|cpu] [--small] [--seconds 540] [--out FILE]

    speed      samples/s, tokens/s and peak memory for M x K at fixed B, of this project's loop and its
               trainer, the Transformers Trainer and Accelerate in turns; all with AdamW, clipping and the
               same examples; each round's ratio of speeds, its median and its quartiles
    equality   the gradient of K micro-batches against that of one big batch, and of that one once more
    recovery   a real out-of-memory, met by halving M: the gradient against that of a small M from the start
    processes  as many as there are GPUs, under DDP and FSDP2, against one big batch in float64
    noise      the noise scale from every example's gradient, the monitor's estimate, and what that one costs
    training   the train command, in bf16 and fp16, with its predicted memory; and resumed from the middle
    big batch  one update of 8,192 sequences, with the M and K that the planner names; should that M not fit
               after all, with half of it, and that is reported

Every part is reported, failures too; what the time did not suffice for is listed as not run. Without a GPU,
--small runs the same code on the CPU, except for running out of memory, which a CPU does not survive.
"""

import argparse
import gc
import json
import math
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import processes
import torch
from memory_grid import SMALL, Cell, command_line, facts, parsed
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.distributed import launch
from accum_lib.lessons.roberta.problem import TaskProblem
from accum_lib.losses import count_samples, count_tokens, in_precision, sum_of_mean
from accum_lib.machine import GIB
from accum_lib.memory.planner import plan
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload, named
from accum_lib.noise import NoiseScaleMonitor, population
from accum_lib.noise.records import NoiseScale
from accum_lib.training.data.tasks import Task
from accum_lib.training.logs import LOG, read_log
from accum_lib.training.recovery import accumulate_or_halve
from accum_lib.training.settings import TrainingSettings
from accum_lib.training.trainer import Trainer as OwnTrainer
from accum_lib.vectors import flat, gradient_of

WARM_UP, TIMED, TIMED_PASSES = 2, 4, 24  # updates of each turn; more, until there are this many passes
ROUNDS, MOST_ROUNDS, SPEED_SECONDS = 3, 15, 24  # as many rounds as the seconds allow: short turns vary more
WATCHED_ROUNDS = 6
IN_MEMORY = 16 * GIB  # of checkpoints and models, in both runs at once
COMMAND_SECONDS = 150  # a train command that takes longer is ended, and what it had done by then is reported
RATE, CLIP = 1e-5, 1.0
Batch = dict[str, Tensor]


def own_mean(model: nn.Module, batch: Batch) -> Tensor:
    return model(**batch).loss


classify, guess = sum_of_mean(own_mean, count_samples), sum_of_mean(own_mean, count_tokens)


@dataclass(frozen=True)
class Setting(Cell):
    """One line of the table of speeds: B = M K is the same for all of a model."""

    @property
    def timed(self) -> int:
        """Updates that are timed in one turn: short ones vary more, so there are more of them."""
        return max(TIMED, TIMED_PASSES // self.accumulation_steps)

    def workload(self) -> Workload:
        """A sequence classifier without dropout, so that gradients can be compared."""
        sizes = SMALL if self.small else {}
        return named(self.model, "classification", self.tokens, dropout=0.0, **sizes)


def settings(small: bool) -> list[Setting]:
    """B = 64 on base and large; or a few of two layers."""
    if small:
        return [Setting("roberta-base", "fp32", 16, m, 8 // m, True) for m in (8, 2)]
    kinds = ("roberta-base", "bf16"), ("roberta-large", "bf16"), ("roberta-base", "fp32")
    return [Setting(name, p, 128, m, 64 // m) for name, p in kinds for m in (64, 16, 4)]


# --- Four loops. Each makes all updates of the loader's data and calls tick() after each of them.

Loop = Callable[[nn.Module, list[Batch], Setting, str, Callable[[], None]], None]


def own(model: nn.Module, data: list[Batch], setting: Setting, device: str, tick: Callable[[], None]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=device == "cuda")
    loader = DataLoader(data, batch_size=setting.micro_batch_size, pin_memory=device == "cuda")  # type: ignore
    loss_sum = in_precision(classify, setting.settings().dtype, device)
    for window in windows(loader, setting.accumulation_steps):
        accumulate(model, window, lambda m, b: loss_sum(m, moved(b, device)), count_samples)
        apply_update(model, optimizer, max_grad_norm=CLIP)
        tick()


class Made(Task):
    """Examples that are encoded already."""

    def __init__(self, data: list[Batch]) -> None:
        self.data, self.lengths = data, [len(example["input_ids"]) for example in data]

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, ingenerators: Sequence[int], epoch: int = 0) -> Batch:
        return default_collate([self.data[i] for i in ingenerators])

    def fingerprint(self) -> str:
        return ""  # nothing is resumed


def own_trainer(
    model: nn.Module, data: list[Batch], setting: Setting, device: str, tick: Callable[[], None]
) -> None:
    how = TrainingSettings(
        setting.micro_batch_size, setting.accumulation_steps, epochs=1, learning_rate=RATE, weight_decay=0.01,
        warmup=0.0, max_grad_norm=CLIP, precision=setting.precision,
    )  # fmt: skip
    lab = OwnTrainer(model, Made(data), Made(data[:1]), how, device=device, on_update=lambda _: tick())
    lab.run()


def trainer(
    model: nn.Module, data: list[Batch], setting: Setting, device: str, tick: Callable[[], None]
) -> None:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Ticks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            tick()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=setting.micro_batch_size, num_train_epochs=1,
            gradient_accumulation_steps=setting.accumulation_steps, learning_rate=RATE, max_grad_norm=CLIP,
            lr_scheduler_type="constant", bf16=setting.precision == "bf16", use_cpu=device == "cpu",
            optim="adamw_torch_fused" if device == "cuda" else "adamw_torch", weight_decay=0.01,
            save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
            dataloader_pin_memory=device == "cuda",
        )  # fmt: skip
        if arguments.n_gpu > 1:  # else it would split each batch over all GPUs here, unlike the others
            arguments._n_gpu = 1
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Ticks()]).train()  # type: ignore


def accelerate(
    model: nn.Module, data: list[Batch], setting: Setting, device: str, tick: Callable[[], None]
) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)  # the Trainer has left one of its own
    GradientState._reset_state()
    accelerator = Accelerator(
        cpu=device == "cpu", gradient_accumulation_steps=setting.accumulation_steps,
        mixed_precision="bf16" if setting.precision == "bf16" else "no",
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=device == "cuda")
    loader = DataLoader(data, batch_size=setting.micro_batch_size, pin_memory=device == "cuda")  # type: ignore
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            tick()


LOOPS: dict[str, Loop] = {
    "accum_lib": own,
    "accum_lib train": own_trainer,
    "Transformers Trainer": trainer,
    "Accelerate": accelerate,
}


# --- Speed


def speed(
    setting: Setting, device: str, rounds: int = ROUNDS, seconds: float = SPEED_SECONDS
) -> list[dict[str, Any]]:
    """Each loop in turns, in a random order in each round."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in LOOPS}
    started, number = time.monotonic(), 0
    while number < rounds or (number < MOST_ROUNDS and time.monotonic() - started < seconds):
        for name in random.Random(number).sample(list(LOOPS), len(LOOPS)):
            turns[name].append(turn(LOOPS[name], setting, device))
        number += 1
    return [row(setting, name, found, turns["accum_lib"]) for name, found in turns.items()]


def turn(loop: Loop, setting: Setting, device: str) -> dict[str, float]:
    """One loop for a few updates on a new model: seconds and peak bytes of those after the warm-up."""
    model, updates, ends = new_model(setting, device), WARM_UP + setting.timed, []

    def tick() -> None:
        synchronize(device)
        ends.append(time.perf_counter())
        if len(ends) == WARM_UP and device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    loop(model, sequences(setting, updates), setting, device, tick)
    if len(ends) != updates:
        raise RuntimeError(f"{len(ends)} updates were made where {updates} were asked for")
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {"seconds": ends[-1] - ends[WARM_UP - 1], "peak_bytes": peak}


def row(
    setting: Setting, name: str, found: list[dict[str, float]], ours: list[dict[str, float]]
) -> dict[str, Any]:
    """One loop's speed, and how many times as fast as ours it was in the same round."""
    seconds = statistics.median(f["seconds"] for f in found)
    samples = setting.micro_batch_size * setting.accumulation_steps * setting.timed
    ratios = [mine["seconds"] / its["seconds"] for mine, its in zip(ours, found, strict=True)]
    quartiles = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * ratios
    return {
        **asdict(setting),
        "loop": name,
        "samples_per_second": round(samples / seconds, 2),
        "tokens_per_second": round(samples * setting.tokens / seconds),
        "speed_against_ours": round(quartiles[1], 4),
        "quartiles": [round(quartiles[0], 4), round(quartiles[2], 4)],
        "rounds": len(ratios),
        "peak_bytes": int(max(f["peak_bytes"] for f in found)) or None,
    }


# --- Equality, recovery, the big batch


def equality(setting: Setting, device: str) -> dict[str, Any]:
    """||g(K) - g(1)|| / ||g(1)|| in float32, and the same for one big batch once more."""
    model, data = new_model(setting, device), sequences(setting, 1)
    whole, again = (gradient(model, [joined(data, device)], setting, device) for _ in range(2))
    size = setting.micro_batch_size
    parts = [joined(data[i : i + size], device) for i in range(0, len(data), size)]
    cut = gradient(model, parts, setting, device)
    return {
        **asdict(setting),
        "relative_error": float((cut - whole).norm() / whole.norm()),
        "once_more": float((again - whole).norm() / whole.norm()),
    }


def recovery(setting: Setting, device: str) -> dict[str, Any]:
    """Let the GPU run out of memory with the whole batch, and go on with what fits."""
    if device != "cuda":
        return {**asdict(setting), "failure": "not run: to run out of memory takes a GPU"}
    model, data, fits = new_model(setting, device), sequences(setting, 1), setting.micro_batch_size
    small = cut_into(data, fits, device)
    expected = gradient(model, small, setting, device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    gradient(model, small, setting, device)
    allowed = torch.cuda.max_memory_reserved() * 1.05 / torch.cuda.get_device_properties(0).total_memory
    model.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed))  # real errors, on a card made smaller
    halvings: list[int] = []
    try:
        loss_sum = in_precision(classify, setting.settings().dtype, device)
        _, size = accumulate_or_halve(
            model, lambda m: cut_into(data, m, device), loss_sum, count_samples, len(data),
            on_halved=lambda m, _: halvings.append(m),
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    found = gradient_of(model)
    return {
        **asdict(setting),
        "halved_to": halvings,
        "micro_batch_size_at_the_end": size,
        "relative_error": float((found - expected).norm() / expected.norm()),
    }


def in_processes(device: str, small: bool) -> list[dict[str, Any]]:
    """DDP and FSDP2 in as many processes as there are GPUs; two on a CPU."""
    world_size = 2 if device == "cpu" else torch.cuda.device_count()
    size = "tiny" if small or device == "cpu" else "base"
    m, k = (2, 2) if small else (4, 4)
    return launch(processes.compare, world_size, device, size, m, k)[0]


# --- The noise scale


def noise(device: str, small: bool) -> dict[str, Any]:
    """At the first weights: from all examples, and from windows as in training; and seconds of an update."""
    examples, m, k, epochs = (32, 2, 4, 2) if small else (256, 4, 8, 4)
    problem = TaskProblem("classification", "tiny" if small else "base", num_samples=examples)
    model = problem.make_model().to(device)
    exact = population(problem, model)
    with NoiseScaleMonitor(model, problem.loss_sum, problem.count, population=examples, every=1) as monitor:
        for window in shuffled(examples, m, k, epochs):
            batches = [problem.batch(part) for part in window]
            accumulate(model, batches, monitor.loss_sum, monitor.count)
            model.zero_grad(set_to_none=True)
        found: NoiseScale = monitor.estimate(confidence=0.9)
    batches = [problem.batch(part) for part in next(iter(shuffled(examples, m, k, 1)))]
    ratios = {f"every_{n}": watched_over_plain(problem, model, batches, device, n) for n in (1, 4)}
    return {
        "model": problem.name, "examples": examples, "micro_batch_size": m, "accumulation_steps": k,
        "exact": exact.noise_scale, "estimate": found.noise_scale, "low": found.low,
        "high": found.high if math.isfinite(found.high) else None,
        "confidence": found.confidence, "windows": found.observations,
        "seconds_over_plain": {name: round(value, 4) for name, value in ratios.items()},
    }  # fmt: skip


def shuffled(examples: int, m: int, k: int, epochs: int) -> Iterator[tuple[Tensor, ...]]:
    """The windows of the given number of epochs, each in an order of its own."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(examples, generator=generator).split(m * k):
            yield rows.split(m)


def watched_over_plain(
    problem: TaskProblem, model: nn.Module, window: list[Batch], device: str, every: int
) -> float:
    """The median over rounds of the time of four watched windows over that of four plain ones."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)

    def seconds(source: Any) -> float:
        synchronize(device)
        started = time.perf_counter()
        for _ in range(4):
            accumulate(model, window, source.loss_sum, source.count)
            apply_update(model, optimizer)
        synchronize(device)
        return time.perf_counter() - started

    ratios = []
    for number in range(WATCHED_ROUNDS):
        times = {}
        for watch in random.Random(number).sample([False, True], 2):
            if watch:
                with NoiseScaleMonitor(model, problem.loss_sum, problem.count, every=every) as monitor:
                    times[watch] = seconds(monitor)
            else:
                times[watch] = seconds(problem)
        ratios.append(times[True] / times[False])
    return statistics.median(ratios[1:])  # the first round warms up


# --- The train command


def training(device: str, small: bool) -> list[dict[str, Any]]:
    """A short run in bf16, its second half once more from its checkpoint, and a run in fp16."""
    size, m, updates = ("tiny", 4, 4) if small else ("base", 16, 8)
    common = [
        sys.executable, "-m", "accum_lib", "train", "--device", device, "--model", size, "-M", str(m),
        "-K", "2", "--max-updates", str(updates), "--save-every", str(updates // 2), "--max-held-out", "64",
        "--quiet",
    ]  # fmt: skip
    # Checkpoints of gigabytes, flushed to the disk; in containers the memory's folder may be too small.
    roomy = os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > IN_MEMORY
    in_memory = "/dev/shm" if roomy else None
    with (
        tempfile.TemporaryDirectory(dir=in_memory) as folder,
        ThreadPoolExecutor() as threads,  # nothing here is timed
    ):
        runs = [(p, [*common, "--precision", p], Path(folder, p)) for p in ("bf16", "fp16")]
        rows = [threads.submit(of_run, p, command, output, device) for p, command, output in runs]
        return [row.result() for row in rows]


def of_run(precision: str, common: list[str], output: Path, device: str) -> dict[str, Any]:
    """What a run was predicted to need, what it took, and how it went."""
    command = [*common, "--output", str(output)]
    with ThreadPoolExecutor() as threads:
        planning = threads.submit(completed, [*common, "--dry-run", "--output", f"{output}-planned"])
        completed(command, output)
        predicted = re.search(r"predicted peak ([\d.]+) GiB", planning.result())
    done = [event for event in read_log(output / LOG) if event["event"] == "update"]
    peak = max(each["memory_bytes"] for each in done) / GIB
    row = {
        "command": " ".join(common[2:]), "updates": len(done),
        "first_loss": done[0]["loss"], "last_loss": done[-1]["loss"],
        "skipped_by_the_scaler": sum(each["skipped"] for each in done),
        "predicted_gib": float(predicted[1]) if predicted else None,
        "peak_gib": round(peak, 3) if device == "cuda" else None,
    }  # fmt: skip
    return {**row, "resumed_relative_difference": resumed(command, output)} if precision == "bf16" else row


def resumed(command: list[str], output: Path) -> float:
    """Lose the newest checkpoint, go on from the one before: how far the parameters end from the first's."""
    first = weights_of(output)
    shutil.rmtree(sorted((output / "checkpoints").glob("window-*"))[-1])
    completed([*command, "--resume"], output)
    return float((weights_of(output) - first).norm() / first.norm())


def completed(command: list[str], output: Path | None = None, seconds: float = COMMAND_SECONDS) -> str:
    """What it prints.

    Raises:
        RuntimeError: with the end of its errors; or, after the time limit, with the end of its log.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        log = output / LOG if output else None
        last = read_log(log)[-1] if log and log.exists() else "nothing yet"
        raise RuntimeError(f"not done in {seconds:.0f} s; its log says last: {last}"[:250]) from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-600:]}")
    return done.stdout


def weights_of(output: Path) -> Tensor:
    from safetensors.torch import load_file

    return flat(load_file(output / "model" / "model.safetensors").values())


def big_batch(device: str, small: bool) -> dict[str, Any]:
    """One update of 8,192 sequences of 512 tokens (Liu et al. 2019), masked language modelling."""
    tokens, batch = (16, 32) if small else (512, 8192)
    workload = named("roberta-base", "mlm", tokens, **(SMALL if small else {}))
    m, _, precision, predicted, predicted_seconds = planned(workload, device, batch)
    torch.manual_seed(0)
    model = on(device, lambda: workload.model(False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=device == "cuda")
    loss_sum = in_precision(guess, Settings(precision=precision).dtype, device)
    whole = moved(workload.make_batch(batch), device)
    halvings: list[int] = []
    synchronize(device)
    started = time.perf_counter()
    result, size = accumulate_or_halve(
        model, lambda size: split(whole, size), loss_sum, count_tokens, m,
        on_halved=lambda size, _: halvings.append(size),
    )  # fmt: skip
    apply_update(model, optimizer, max_grad_norm=CLIP)
    synchronize(device)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return {
        "sequences": batch, "hidden_tokens": int(result.count), "tokens": tokens,
        "planned_micro_batch_size": m, "halved_to": halvings,
        "micro_batch_size": size, "accumulation_steps": result.micro_batches, "precision": precision,
        "loss": result.loss, "seconds": round(time.perf_counter() - started, 3),
        "predicted_seconds": predicted_seconds, "predicted_peak_bytes": predicted, "peak_bytes": peak,
    }  # fmt: skip


def split(whole: Batch, size: int) -> list[Batch]:
    """Views of ``size`` examples each; the last may have fewer."""
    cut = {name: tensor.split(size) for name, tensor in whole.items()}
    return [dict(zip(cut, parts, strict=True)) for parts in zip(*cut.values(), strict=True)]


def planned(workload: Workload, device: str, batch: int) -> tuple[int, int, str, int | None, float | None]:
    """M, K, precision, peak and time of the planner's best that recomputes nothing; on a CPU M = 4."""
    if device == "cpu":
        return 4, batch // 4, "fp32", None, None
    options = [o for o in plan(workload, "here", batch).options if o.fits and not o.checkpointing]
    best = options[0]
    m, k = best.micro_batch_size, best.accumulation_steps
    return m, k, best.precision, best.peak_bytes, best.seconds


# --- Small things


def new_model(setting: Setting, device: str) -> nn.Module:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    torch.manual_seed(0)
    return on(device, lambda: setting.workload().model(False))


def on(device: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Made there: a GPU draws the first weights in no time."""
    with torch.device(device):
        return make().to(device)


def sequences(setting: Setting, updates: int) -> list[Batch]:
    """The updates' examples, one by one: what is read costs time, not what it says."""
    torch.manual_seed(1)
    batch_size = setting.micro_batch_size * setting.accumulation_steps
    whole = setting.workload().make_batch(updates * batch_size)
    return [{name: t[i] for name, t in whole.items()} for i in range(updates * batch_size)]


def joined(examples: list[Batch], device: str) -> Batch:
    return {name: torch.stack([e[name] for e in examples]).to(device) for name in examples[0]}


def cut_into(examples: list[Batch], size: int, device: str) -> list[Batch]:
    return [joined(examples[i : i + size], device) for i in range(0, len(examples), size)]


def moved(batch: Batch, device: str) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def gradient(model: nn.Module, window: list[Batch], setting: Setting, device: str) -> Tensor:
    loss_sum = in_precision(classify, setting.settings().dtype, device)
    accumulate(model, window, loss_sum, count_samples)
    found = gradient_of(model)
    model.zero_grad(set_to_none=True)
    return found


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# --- The whole


def parts(device: str, small: bool) -> Iterator[tuple[str, Callable[[], Any], dict[str, Any]]]:
    """Name, what to do, and what it is about; the quick and the necessary first."""
    chosen = settings(small)
    exact = [s for s in chosen if s.precision == "fp32" and s.accumulation_steps > 1]
    for setting in exact:
        yield "equality", lambda s=setting: equality(s, device), asdict(setting)
    yield "recovery", lambda: recovery(exact[-1], device), asdict(exact[-1])
    yield "processes", lambda: in_processes(device, small), {}
    yield "noise", lambda: noise(device, small), {}
    yield "training", lambda: training(device, small), {}
    yield "big batch", lambda: big_batch(device, small), {}
    effort: dict[str, Any] = {"rounds": 1, "seconds": 0} if small else {}
    for setting in chosen:
        yield "speed", lambda s=setting: speed(s, device, **effort), asdict(setting)


def run(
    device: str, small: bool, seconds: float, only: list[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of each part as it is done; failures too."""
    started = time.monotonic()
    for name, do, about in parts(device, small):
        if only and name not in only:
            continue
        if time.monotonic() - started > seconds:
            yield name, {**about, "failure": "not run: the time was up"}
            continue
        try:
            found = do()
        except Exception as error:
            found = {**about, "failure": f"{type(error).__name__}: {str(error)[:300]}"}
        for each in found if isinstance(found, list) else [found]:
            yield name, each


def main() -> int:
    arguments = arguments_given()
    record = {"date": time.strftime("%Y-%m-%d"), "machine": facts(arguments.device), "parts": {}}
    if arguments.only and Path(arguments.out).exists():
        record["parts"] = kept(record, json.loads(Path(arguments.out).read_text()), arguments.only)
    found: dict[str, list[dict[str, Any]]] = record["parts"]
    for name, each in run(arguments.device, arguments.small, arguments.seconds, arguments.only):
        found.setdefault(name, []).append(each)
        print(name, json.dumps(each), flush=True)
        with open(arguments.out, "w") as file:  # rewritten each time, so that an interruption loses none
            json.dump(record, file, indent=1)
    return 0 if all("failure" not in each for rows in found.values() for each in rows) else 1


def kept(record: dict[str, Any], before: dict[str, Any], only: list[str]) -> dict[str, Any]:
    """The other parts of an earlier result.

    Raises:
        ValueError: that one is of another machine.
    """
    if before["machine"] != record["machine"]:
        raise ValueError(
            f"the earlier result is of {before['machine']}, this is {record['machine']}: name another --out"
        )
    return {name: rows for name, rows in before["parts"].items() if name not in only}


def arguments_given() -> argparse.Namespace:
    parser = command_line(__doc__, "roberta_lab.json")
    names = list(dict.fromkeys(name for name, _, _ in parts("cpu", True)))
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help="these parts alone")
    return parsed(parser)


if __name__ == "__main__":
    sys.exit(main())
