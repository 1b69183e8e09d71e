"""What a run would be, before it starts: its updates, its memory by a prediction, its time."""

import copy
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from accum_lib.accumulate import LossSum, accumulate, apply_update
from accum_lib.losses import in_precision
from accum_lib.machine import GIB, give_freed_blocks_back, this_machine
from accum_lib.memory.guard import RESERVE_BYTES, refuse_unless_fits
from accum_lib.memory.prediction import Prediction, predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload, checkpoint, longest_list, of_model
from accum_lib.training import parallel
from accum_lib.training.data.batches import planned_order
from accum_lib.training.data.tasks import Classification, Task
from accum_lib.training.machinery import make_optimizer, planned_windows, windows_per_epoch
from accum_lib.training.models import Loaded
from accum_lib.training.records import TrainingPlan
from accum_lib.training.saving import random_state
from accum_lib.training.saving.checkpoints import KEEP
from accum_lib.training.settings import TrainingSettings

SMALL = 5_000_000  # parameters; up to there a window is timed, beyond that it would take too long
LOOKED_AT = 2_000_000  # examples of all epochs, to find where long texts stand: some seconds
PASSES, TOKENS = 4, 256  # forward passes that are timed at once, and the tokens of each, at most
ALIKE, WITHIN, MOST_SECONDS = 3, 1.15, 10.0  # so many times in a row agree to 15 %, or it took so long
UPDATED = 4_000_000  # parameters of an update that is timed
MOST_CLASSES = 8  # that are named one by one
SIDE = 1024  # of the matrices whose product is timed


def forecast(
    loaded: Loaded, train: Task, held_out: Task, settings: TrainingSettings, data: str, device: str = "cpu"
) -> TrainingPlan:
    """The plan of a run, with predicted memory, and a time that was measured or is called an estimate."""
    peak = predicted_peak(loaded.model, train, settings, device)
    beside = interpreter_bytes(loaded) if device == "cpu" else 0  # before anything runs
    n, b = len(train), settings.effective_batch_size
    updates = planned_windows(settings, n)
    window, threads = typical_window(train, settings), torch.get_num_threads()
    if loaded.parameters <= SMALL and device == "cpu":
        seconds = until_stable(timed_window(loaded.model, train, settings, window), threads)
        source = (
            "measured now: windows, times the number of updates; the least on a machine without other work"
        )
        source += " (without --compile)" * settings.compile
    elif device == "cpu" and peak <= room(loaded):
        give_freed_blocks_back()  # as the run will, which costs it time
        seconds = until_stable(extrapolated_window(loaded.model, train, settings, window), threads)
        source = (
            "an estimate: forward passes measured now, a backward pass counted as two of them; the least "
        )
        source += "on a machine without other work"
    else:
        prediction = predict_memory(loaded.model, train, settings, device)
        seconds = until_stable(estimated_window(prediction, train, settings, device))
        source = "an estimate, not measured: its arithmetic at the speed of a matrix product here"
    return TrainingPlan(
        data=data, model=loaded.name, num_samples=n, held_out=len(held_out),
        classes=classes_of(loaded, train), shortened=train.shortened, max_tokens=train.max_tokens,
        parameters=loaded.parameters,
        micro_batch_size=settings.micro_batch_size, accumulation_steps=settings.accumulation_steps,
        epochs=-(-updates // windows_per_epoch(settings, n)), updates=updates, trailing_window=n % b or b,
        longest=max(train.lengths[i] for i in examples_read(train, settings)), device=device,
        peak_bytes=peak,
        resident_bytes=resident_bytes(loaded) if device == "cpu" else 0,
        interpreter_bytes=beside,
        processes=parallel.on_this_machine() if device == "cpu" else 1,
        disk_bytes=run_disk_bytes(loaded.model, settings, n),
        seconds=(updates * seconds[0], updates * seconds[1]), seconds_source=source,
    )  # fmt: skip


def classes_of(loaded: Loaded, task: Task) -> dict[str, int]:
    """How many examples each class has, by the model's names; none for a task without labels."""
    if not isinstance(task, Classification):
        return {}
    config: Any = loaded.model.config
    given = Counter(example.label for example in task.examples)
    return {name: given[label] for label, name in config.id2label.items()}


def predict_memory(model: nn.Module, task: Task, settings: TrainingSettings, device: str) -> Prediction:
    """The memory lens's prediction for this model and the longest text that will be read."""
    return predict(
        workload(model, task, examples_read(task, settings)), lens_settings(settings, device), device
    )


def predicted_peak(model: nn.Module, task: Task, settings: TrainingSettings, device: str) -> int:
    """The most bytes of any micro-batch that will be read, each with the length and the place that it has."""
    m, _ = largest_window(settings, len(task))
    return max(found.peak_bytes(m, steps) for found, steps in _predictions(model, task, settings, device))


def _predictions(
    model: nn.Module, task: Task, settings: TrainingSettings, device: str
) -> Iterator[tuple[Prediction, int]]:
    lens = lens_settings(settings, device)
    for examples, steps in places(task, settings):
        yield predict(workload(model, task, examples), lens, device), steps


def refuse_what_does_not_fit(loaded: Loaded, task: Task, settings: TrainingSettings) -> None:
    """On the CPU: the model is in memory already, and what it holds there is not needed once more.

    Raises:
        WouldNotFitError: the predicted peak exceeds what is free.
    """
    m, k = largest_window(settings, len(task))
    free, name = room(loaded), type(loaded.model).__name__
    for found, steps in _predictions(loaded.model, task, settings, "cpu"):
        refuse_unless_fits(found, name, m, k, found.peak_bytes(m, steps), free)


def room(loaded: Loaded) -> float:
    """What a process may take on the CPU: its share of what is free, and what its model holds already."""
    return free_bytes("cpu") / parallel.on_this_machine() + resident_bytes(loaded)


def free_bytes(device: str) -> float:
    """What tensors may take of the memory that is free now; on the CPU a part is left for all else."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return this_machine().free_bytes - RESERVE_BYTES


def largest_window(settings: TrainingSettings, num_samples: int) -> tuple[int, int]:
    """M and K of the largest window, which has no more examples than there are."""
    m = min(settings.micro_batch_size, num_samples)
    return m, min(settings.accumulation_steps, -(-num_samples // m))


def places(task: Task, settings: TrainingSettings) -> list[tuple[list[int], int]]:
    """The examples of the windows' first micro-batches, with K = 1, and those of all others, with K.

    The first has no gradients beside its activations yet. Where windows are sorted, it is also the longest,
    so that the two are far apart. A later epoch may put a text elsewhere, so all epochs are looked at, or,
    of a long run, the first ones, up to ``LOOKED_AT`` examples.
    """
    n, left = len(task), planned_windows(settings, len(task))
    _, k = largest_window(settings, n)
    if settings.by_tokens:  # any pass may have as many tokens as M of the longest text
        return [(list(range(n)), k)]
    firsts, others = set[int](), set[int]()
    for epoch in range(max(1, min(settings.epochs, LOOKED_AT // n))):
        if not left:
            break
        windows = planned_order(task.lengths, settings, epoch)[:left]
        left -= len(windows)
        for window in windows:
            firsts.update(window[: settings.micro_batch_size])
            others.update(window[settings.micro_batch_size :])
    return [(sorted(firsts), 1)] + ([(sorted(others), k)] if others else [])


def workload(model: nn.Module, task: Task, examples: list[int]) -> Workload:
    """For the memory lens: micro-batches of the longest of these texts, and of one short one, for a mask."""
    longest, shortest = (choose(examples, key=lambda i: task.lengths[i]) for choose in (max, min))

    def make_batch(micro_batch_size: int) -> Any:
        rows = [longest] * (micro_batch_size - 1) + [shortest]
        return task.batch(rows if micro_batch_size > 1 else [longest])

    return of_model(model, make_batch, task.loss_sum)


def examples_read(task: Task, settings: TrainingSettings) -> list[int]:
    """The examples that a run will read: all of them, unless it is shorter than an epoch."""
    return [i for window in windows_read(task, settings) for i in window]


def windows_read(task: Task, settings: TrainingSettings) -> list[list[int]]:
    """The windows of the first epoch that a run will make."""
    return planned_order(task.lengths, settings, 0)[: planned_windows(settings, len(task))]


def lens_settings(settings: TrainingSettings, device: str) -> Settings:
    """The same settings in the memory lens's words, with AdamW's implementation there."""
    return Settings(
        implementation="for-loop" if device == "cpu" else "fused",
        precision=settings.precision,
        checkpointing=settings.checkpointing,
    )


def resident_bytes(loaded: Loaded) -> int:
    """What the model holds of the memory now: it is part of the peak, and no longer of what is free."""
    tensors = [*loaded.model.parameters(), *loaded.model.buffers()]
    return 0 if loaded.mapped else sum(t.nbytes for t in tensors)


def interpreter_bytes(loaded: Loaded) -> int:
    """Resident memory of this process now, without the model: Python, PyTorch, Transformers, the data."""
    return psutil.Process().memory_info().rss - resident_bytes(loaded)


def until_stable(times: Iterator[float], threads: int | None = None) -> tuple[float, float]:
    """The least and the most of the last ``ALIKE`` times, once they agree; else of all but the first.

    The first ones are slow: code, weights and threads come into use. On a busy machine times may never agree.

    Args:
        times: each is measured when it is asked for.
        threads: that compute. The least then is what it would be if they had their processors for themselves:
            a machine that is busy now need not be so later.
    """
    seen, started, used = list[float](), time.perf_counter(), time.process_time()
    for seconds in times:
        seen.append(seconds)
        last = seen[-ALIKE:]
        if len(last) == ALIKE and max(last) <= WITHIN * min(last):
            break
        if len(seen) >= ALIKE and time.perf_counter() - started > MOST_SECONDS:
            last = seen[1:]
            break
    had = (time.process_time() - used) / max(time.perf_counter() - started, 1e-9)
    return min(last) * (min(1.0, had / threads) if threads else 1.0), max(last)


def typical_window(task: Task, settings: TrainingSettings) -> list[int]:
    """The window whose texts have closest to as many tokens as those of the windows' mean."""
    windows = windows_read(task, settings)
    tokens = [sum(task.lengths[i] for i in window) for window in windows]
    mean = sum(tokens) / len(tokens)
    return min(zip(windows, tokens, strict=True), key=lambda each: abs(each[1] - mean))[0]


def timed_window(
    model: nn.Module, task: Task, settings: TrainingSettings, examples: Sequence[int]
) -> Iterator[float]:
    """Again and again, seconds of one window and its update, on a copy of the model on the CPU."""
    twin = copy.deepcopy(model)
    if settings.checkpointing:
        checkpoint(twin, longest_list(twin))
    optimizer = make_optimizer(twin, settings.learning_rate, settings.weight_decay)
    loss_sum = in_precision(task.loss_sum, settings.dtype, "cpu")
    while True:
        with random_state.preserved():
            started = time.perf_counter()
            passes = task.passes(examples, settings.micro_batch_size, settings.by_tokens)
            accumulate(twin, [task.batch(part) for part in passes], loss_sum, task.count)
            apply_update(twin, optimizer, max_grad_norm=settings.max_grad_norm)
            seconds = time.perf_counter() - started
        yield seconds


def extrapolated_window(
    model: nn.Module, task: Task, settings: TrainingSettings, examples: Sequence[int]
) -> Iterator[float]:
    """Again and again, seconds of one window and its update on the CPU, from forward passes over parts of it.

    Without gradients, they need no more memory than the weights, and take a third of a micro-batch's time: a
    backward pass has two products for each of the forward pass.
    """
    window = task.passes(examples, settings.micro_batch_size, settings.by_tokens)
    loss_sum = in_precision(task.loss_sum, settings.dtype, "cpu")
    looked_at = window[:: -(-len(window) // PASSES)]
    passes = 4 if settings.checkpointing else 3
    while True:
        with random_state.preserved(), torch.no_grad():
            forward = [seconds_of(model, task, loss_sum, part) for part in looked_at]
        yield passes * sum(forward) / len(forward) * len(window) + update_seconds(model, settings)


def seconds_of(model: nn.Module, task: Task, loss_sum: LossSum, examples: Sequence[int]) -> float:
    """Seconds of one forward pass, of which as many examples are run as have ``TOKENS`` together."""
    longest = max(task.lengths[i] for i in examples)
    part = examples[: max(1, TOKENS // longest)]
    batch = task.batch(part)
    started = time.perf_counter()
    loss_sum(model, batch)
    return (time.perf_counter() - started) * len(examples) / len(part)


def update_seconds(model: nn.Module, settings: TrainingSettings) -> float:
    """Seconds of the update of all parameters, from one of some."""
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    matrix = nn.Parameter(torch.ones(min(total, UPDATED), 1))  # weights decay in two dimensions only
    some = nn.ParameterList([matrix])
    optimizer = make_optimizer(some, settings.learning_rate, settings.weight_decay)
    for _ in range(2):  # the first makes the moments
        matrix.grad = torch.ones_like(matrix)
        started = time.perf_counter()
        apply_update(some, optimizer, max_grad_norm=settings.max_grad_norm)
        seconds = time.perf_counter() - started
    return seconds * total / matrix.numel()


def estimated_window(
    prediction: Prediction, task: Task, settings: TrainingSettings, device: str
) -> Iterator[float]:
    """Again and again, seconds of one window from its operations and how fast this device multiplies."""
    operations = prediction.flops(*largest_window(settings, len(task)))
    read = [task.lengths[i] for i in examples_read(task, settings)]
    shorter = sum(read) / len(read) / max(read)  # the prediction is for the longest text
    dtype = settings.dtype or torch.float32
    while True:
        yield operations * shorter / operations_per_second(device, dtype)


def operations_per_second(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations in a second, in matrix products of ``SIDE`` by ``SIDE``."""
    with torch.no_grad():
        a = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
        _synchronize(a @ a)
        started, products = time.perf_counter(), 0
        while time.perf_counter() - started < 0.1:
            _synchronize(a @ a)
            products += 1
    return 2 * SIDE**3 * products / (time.perf_counter() - started)


def explain_run(plan: TrainingPlan, free: float, free_on_disk: float) -> str:
    """The plan in words, given the bytes that are free on the device and on the disk."""
    trailing = (
        "all windows are full"
        if plan.trailing_window == plan.effective_batch_size
        else f"the last window of an epoch has {plan.trailing_window}"
    )
    beside = (
        f", and {plan.interpreter_bytes / GIB:.3f} GiB for the interpreter" if plan.interpreter_bytes else ""
    )
    held = f" (the model holds {plan.resident_bytes / GIB:.3f} already)" if plan.resident_bytes else ""
    fits = "fits" if plan.peak_bytes - plan.resident_bytes <= free / plan.processes else "DOES NOT FIT"
    each = f" in each of {plan.processes} processes" if plan.processes > 1 else ""
    shortened = f"; {plan.shortened} are cut to {plan.max_tokens}" if plan.shortened else ""
    lacking = "" if plan.disk_bytes <= free_on_disk else ": TOO LITTLE"
    return "\n".join(
        [
            f"data     {plan.data}: {plan.num_samples} examples to train on, {plan.held_out} held out; "
            f"the longest that is read has {plan.longest} tokens{shortened}",
            *([f"classes  {_classes(plan.classes)}"] if plan.classes else []),
            f"model    {plan.model}: {plan.parameters:,} parameters, on {plan.device}",
            f"update   M = {plan.micro_batch_size}, K = {plan.accumulation_steps}: "
            f"B = {plan.effective_batch_size} examples; {trailing}",
            f"run      {plan.updates} optimizer updates in {plan.epochs} epochs",
            f"memory   predicted peak {plan.peak_bytes / GIB:.3f} GiB of tensors{each}{held}{beside}; "
            f"{max(0, free) / GIB:.2f} GiB are free for tensors: it {fits}",
            f"disk     up to {plan.disk_bytes / GIB:.2f} GiB for checkpoints and the model; "
            f"{free_on_disk / GIB:.2f} GiB are free{lacking}",
            f"time     {_range(*map(_duration, plan.seconds))} ({plan.seconds_source})",
        ]
    )


def _classes(classes: dict[str, int]) -> str:
    """Each class with its examples; of many, the rarest and the most frequent."""
    ordered = sorted(classes.items(), key=lambda item: -item[1])
    shown = [f"{name} {number}" for name, number in ordered]
    if len(shown) > MOST_CLASSES:
        shown = [*shown[: MOST_CLASSES // 2], "...", *shown[-MOST_CLASSES // 2 :]]
    return f"{len(classes)}, with these numbers of examples to train on: {', '.join(shown)}"


def _range(least: str, most: str) -> str:
    return f"about {least}" if least == most else f"{least} to {most}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _synchronize(result: torch.Tensor) -> None:
    """Wait until a GPU has really computed it."""
    if result.is_cuda:
        torch.cuda.synchronize()


def run_disk_bytes(model: nn.Module, settings: TrainingSettings, num_samples: int) -> int:
    """The most that checkpoints and the trained model take at once, but for what is small in them.

    A checkpoint holds the weights and AdamW's two moments of what is trained. One more than are kept is there
    while it is written, and an old one goes only afterwards.
    """
    windows = planned_windows(settings, num_samples)
    every = settings.save_every or windows_per_epoch(settings, num_samples)
    saved = -(-windows // every)
    weights = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    checkpoint = weights + 2 * sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return max(min(saved, KEEP + 1) * checkpoint, min(saved, KEEP) * checkpoint + weights)


def free_disk_bytes(folder: Path) -> int:
    """Free bytes on the disk of the folder, which need not exist yet."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def too_little_disk(needed: int, folder: Path) -> str | None:
    """A sentence that says so, or None if there is enough."""
    free = free_disk_bytes(folder)
    if needed <= free:
        return None
    return (
        f"checkpoints and the trained model take up to {needed / GIB:.2f} GiB, and on the disk of {folder} "
        f"{free / GIB:.2f} GiB are free: make room, or choose another --output. What has no room is not saved"
    )
