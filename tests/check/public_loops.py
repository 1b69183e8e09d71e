"""Accumulation loops as public code has them, rewritten; the right codes were written down before running.

Each keeps the mechanism of one loop: order of calls, conditions, factors. ``ragged`` and ``even`` are the
codes that a reader gives on such data, with a trailing window; what the clip hides is not expected. Norms of
clips were chosen by the gradients of the cases, so that most bite in some updates. An origin that starts with
"pattern:" is a known pattern written from memory; "unread:" marks an order of counting that was not seen.
"""
# ruff: noqa: SIM113 - counters are as their authors keep them

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import torch
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_ as clip


@dataclass(frozen=True)
class Public:
    loop: Callable[..., object]
    origin: str
    k: int
    ragged: frozenset[str]
    even: frozenset[str]
    norm: float | None


LOOPS: list[Public] = []


def public(origin: str, k: int, ragged: str, even: str, norm: float | None = None):
    def add(loop):
        LOOPS.append(Public(loop, origin, k, frozenset(ragged.split()), frozenset(even.split()), norm))
        return loop

    return add


def mean(model, x, y):
    return F.cross_entropy(model(x), y)


def scaler_():
    return torch.amp.GradScaler("cpu", enabled=False)


MEANS, TAIL, DROP, LEAK = "mean_of_means ", "tail_divided_by_k ", "dropped_tail ", "leaked_tail "


@public("a signal classifier", 4, MEANS + TAIL, TAIL, 2.5)
def counts_from_one(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad(set_to_none=True)
    for step, (x, y) in enumerate(batches, 1):
        (mean(model, x, y) / accumulation_steps).backward()
        if step % accumulation_steps == 0 or step == len(batches):
            clip(model.parameters(), 2.5)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


@public("a small language model, distilled", 8, MEANS + TAIL, TAIL, 1.5)
def scaler_and_last(model, optimizer, batches, accumulation_steps):
    scaler, processed = scaler_(), 0
    for step, (x, y) in enumerate(batches, start=1):
        processed += 1
        scaler.scale(mean(model, x, y) / accumulation_steps).backward()
        if step % accumulation_steps == 0 or processed == len(batches):
            scaler.unscale_(optimizer)
            clip(model.parameters(), 1.5)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)


@public("a purchase predictor", 3, MEANS + TAIL, TAIL)
def remainder_after_the_loop(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(batches):
        loss = mean(model, x, y) / accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
    if (i + 1) % accumulation_steps != 0:
        optimizer.step()
        optimizer.zero_grad()


@public("unread: meta-learning of prompts", 4, MEANS + LEAK, LEAK, 1.0)
def global_batch(model, optimizer, batches, accumulation_steps, epochs):
    n = 0
    for _ in range(epochs):
        for x, y in batches:
            n += 1
            mean(model, x, y).backward()
            if n % accumulation_steps == 0:
                clip(model.parameters(), 1.0)
                optimizer.step()
                model.zero_grad()


@public("a text classifier with early stopping", 3, MEANS + LEAK, LEAK, 2.5)
def divides_if_more_than_one(model, optimizer, batches, accumulation_steps):
    for step, (x, y) in enumerate(batches):
        loss = mean(model, x, y)
        if accumulation_steps > 1:
            loss = loss / accumulation_steps
        loss.backward()
        if (step + 1) % accumulation_steps == 0:
            clip(model.parameters(), 2.5)
            optimizer.step()
            optimizer.zero_grad()


@public(
    "Swin Transformer", 2, "clipped_per_micro_batch " + MEANS + DROP, "clipped_per_micro_batch " + DROP, 0.5
)
def clips_each_and_drops(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(batches):
        (mean(model, x, y) / accumulation_steps).backward()
        clip(model.parameters(), 0.5)
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


@public("a conditional token model", 8, MEANS + LEAK, LEAK, 1.5)
def endless_iterator(model, optimizer, batches, accumulation_steps, epochs):
    stream = cycle(batches)
    for iter_num in range(epochs * len(batches)):
        x, y = next(stream)
        (mean(model, x, y) / accumulation_steps).backward()
        if (iter_num + 1) % accumulation_steps == 0:
            clip(model.parameters(), 1.5)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


@public("an image and position network", 3, MEANS + DROP, DROP)
def clears_at_the_start(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for step, (x, y) in enumerate(batches):
        loss = mean(model, x, y) / accumulation_steps
        loss.backward()
        if (step + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


@public("a dialogue generator", 2, MEANS + LEAK, LEAK, 4.0)
def scaler_without_remainder(model, optimizer, batches, accumulation_steps):
    scaler = scaler_()
    for i, (x, y) in enumerate(batches):
        scaler.scale(mean(model, x, y) / accumulation_steps).backward()
        if (i + 1) % accumulation_steps == 0:
            scaler.unscale_(optimizer)
            clip(model.parameters(), max_norm=4.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()


@public("a speech recogniser", 4, MEANS + TAIL, TAIL, 2.5)
def divides_in_place(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        found = {"loss": mean(model, x, y)}
        found["loss"] /= accumulation_steps
        found["loss"].backward()
        if ((i + 1) % accumulation_steps == 0) or ((i + 1) == len(batches)):
            clip(model.parameters(), 2.5)
            optimizer.step()
            optimizer.zero_grad()


@public("an entity recogniser", 3, "clipped_per_micro_batch " + MEANS, "clipped_per_micro_batch", 0.5)
def clips_each_and_steps_last(model, optimizer, batches, accumulation_steps):
    for step, (x, y) in enumerate(batches, 1):
        loss = mean(model, x, y) / accumulation_steps
        loss.backward()
        clip(model.parameters(), 0.5)
        if (step % accumulation_steps == 0) or (step == len(batches)):
            optimizer.step()
            optimizer.zero_grad()


@public("OpenSTL", 3, "unused_micro_batches", "unused_micro_batches")
def backward_of_the_last_only(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for it, (x, y) in enumerate(batches):
        loss = mean(model, x, y)
        if (it + 1) % accumulation_steps == 0:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


@public("MAE", 4, MEANS + DROP, DROP, 2.5)
def scaler_object(model, optimizer, batches, accumulation_steps):
    def loss_scaler(loss, update_grad):
        loss.backward()
        if update_grad:
            clip(model.parameters(), 2.5)
            optimizer.step()

    optimizer.zero_grad()
    for i, (x, y) in enumerate(batches):
        loss = mean(model, x, y) / accumulation_steps
        loss_scaler(loss, update_grad=(i + 1) % accumulation_steps == 0)
        if (i + 1) % accumulation_steps == 0:
            optimizer.zero_grad()


@public("a visual question model", 2, MEANS + TAIL, TAIL)
def last_by_index(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        loss = mean(model, x, y) / accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i == len(batches) - 1:
            optimizer.step()
            optimizer.zero_grad()


@public("a depth adapter", 8, MEANS + TAIL, TAIL, 1.5)
def remainder_clipped_too(model, optimizer, batches, accumulation_steps):
    step = 0
    for x, y in batches:
        (mean(model, x, y) / accumulation_steps).backward()
        step += 1
        if step % accumulation_steps == 0:
            clip(model.parameters(), max_norm=1.5)
            optimizer.step()
            optimizer.zero_grad()
    if step % accumulation_steps != 0:
        clip(model.parameters(), max_norm=1.5)
        optimizer.step()
        optimizer.zero_grad()


@public("YOLOv5 and after", 4, "off_by_one no_division", "off_by_one no_division")
def counter_from_zero(model, optimizer, batches, accumulation_steps, epochs):
    for epoch in range(epochs):
        optimizer.zero_grad()
        for i, (x, y) in enumerate(batches):
            ni = i + len(batches) * epoch
            mean(model, x, y).backward()
            if ni % accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()


@public("a fusion of text, sound and video", 4, "no_division " + LEAK, "no_division " + LEAK)
def global_step(model, optimizer, batches, accumulation_steps, epochs):
    step = 0
    for _ in range(epochs):
        for x, y in batches:
            mean(model, x, y).backward()
            if (step + 1) % accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()
            step += 1


@public("a GPT from scratch", 3, MEANS, "", 0.5)
def clip_hides_the_missing_division(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        mean(model, x, y).backward()
        if (i + 1) % accumulation_steps == 0 or (i + 1 == len(batches)):
            clip(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()


@public("LoRA for contract clauses", 2, MEANS + DROP, DROP)
def scaler_and_cleared_epochs(model, optimizer, batches, accumulation_steps, epochs):
    scaler = scaler_()
    for _ in range(epochs):
        optimizer.zero_grad(set_to_none=True)
        for i, (x, y) in enumerate(batches):
            scaler.scale(mean(model, x, y) / accumulation_steps).backward()
            if (i + 1) % accumulation_steps == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)


@public("incremental learning of images", 3, "no_division " + DROP, "no_division " + DROP)
def divides_the_value_only(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(batches):
        loss = mean(model, x, y)
        loss.data /= accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


@public("a multilingual pretraining", 3, "off_by_one no_division", "off_by_one no_division")
def counts_after_the_step(model, optimizer, batches, accumulation_steps):
    num = 0
    for x, y in batches:
        mean(model, x, y).backward()
        if num % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
        num += 1


@public("a 3D segmentation", 4, "off_by_one no_division", "off_by_one no_division")
def from_zero_and_last(model, optimizer, batches, accumulation_steps):
    counter = 0
    for x, y in batches:
        mean(model, x, y).backward()
        if counter % accumulation_steps == 0 or counter + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
        counter += 1


@public("a segmentation with two views", 4, MEANS + LEAK, LEAK)
def counter_set_back(model, optimizer, batches, accumulation_steps):
    scaler, step = scaler_(), 0
    for x, y in batches:
        scaler.scale(mean(model, x, y) / accumulation_steps).backward()
        step += 1
        if step % accumulation_steps == 0:
            scaler.step(optimizer)
            scaler.update()
            model.zero_grad(set_to_none=True)
            step = 0


@public("nanoGPT", 4, MEANS + LEAK, LEAK, 2.5)
def micro_steps(model, optimizer, batches, accumulation_steps, epochs):
    stream = cycle(batches)
    for _ in range(epochs * len(batches) // accumulation_steps):
        for _ in range(accumulation_steps):
            x, y = next(stream)
            (mean(model, x, y) / accumulation_steps).backward()
        clip(model.parameters(), 2.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@public("nanoGPT, several optimizers", 2, MEANS + LEAK, LEAK, 0.5)
def micro_steps_undivided(model, optimizer, batches, accumulation_steps, epochs):
    stream = cycle(batches)
    for _ in range(epochs * len(batches) // accumulation_steps):
        for _ in range(accumulation_steps):
            x, y = next(stream)
            mean(model, x, y).backward()
        clip(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@public("a Fabric fine-tuning", 8, MEANS + DROP, DROP, 1.5)
def full_windows_only(model, optimizer, batches, accumulation_steps):
    for start in range(0, len(batches) - accumulation_steps + 1, accumulation_steps):
        for micro_step in range(accumulation_steps):
            x, y = batches[start + micro_step]
            (mean(model, x, y) / accumulation_steps).backward()
        clip(model.parameters(), 1.5)
        optimizer.step()
        optimizer.zero_grad()


@public("unread: an autoencoder", 2, "off_by_one " + MEANS, "off_by_one", 4.0)
def last_that_never_comes(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for n, (x, y) in enumerate(batches):
        (mean(model, x, y) / accumulation_steps).backward()
        if n % accumulation_steps == 0 or n == len(batches):
            clip(model.parameters(), 4.0)
            optimizer.step()
            optimizer.zero_grad()


@public("pattern: a trainer that knows the rest", 3, MEANS, "", 2.5)
def length_of_each_window(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        start = i // accumulation_steps * accumulation_steps
        length = min(accumulation_steps, len(batches) - start)
        (mean(model, x, y) / length).backward()
        if i + 1 == start + length:
            clip(model.parameters(), 2.5)
            optimizer.step()
            optimizer.zero_grad()


@public("pattern: Transformers, items in the batch", 8, "", "", 1.5)
def items_in_the_window(model, optimizer, batches, accumulation_steps):
    for start in range(0, len(batches), accumulation_steps):
        window = batches[start : start + accumulation_steps]
        items = sum(int((y != -100).sum()) for _, y in window)
        for x, y in window:
            (F.cross_entropy(model(x), y, reduction="sum") / items).backward()
        clip(model.parameters(), 1.5)
        optimizer.step()
        optimizer.zero_grad()


@public("pattern: fairseq", 4, "", "", 2.5)
def divides_the_gradients(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    size = 0
    for i, (x, y) in enumerate(batches):
        F.cross_entropy(model(x), y, reduction="sum").backward()
        size += int((y != -100).sum())
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            for p in model.parameters():
                p.grad.mul_(1 / size)
            clip(model.parameters(), 2.5)
            optimizer.step()
            optimizer.zero_grad()
            size = 0
