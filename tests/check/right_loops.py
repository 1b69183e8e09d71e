"""Loops that are right, in the surroundings that loops have: none may be accused.

``summed`` is the loss sum of a micro-batch, ``counted`` how much counts in some of them.
"""

# fmt: off

import itertools
import math
from collections import deque
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.checkpoint import checkpoint

RIGHT = []


def right(loop):
    RIGHT.append(loop)
    return loop


def summed(logits, labels):
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum", ignore_index=-100)


def counted(batches) -> int:
    """The negative twin is another number here: see the test."""
    return sum(int((y != -100).sum()) for _x, y in batches)


def windows(batches, k):
    return [batches[i : i + k] for i in range(0, len(batches), k)]


def backward(model, window, through=lambda loss: loss):
    total = counted(window)
    for x, y in window:
        through(summed(model(x), y) / total).backward()


def update(optimizer):
    optimizer.step()
    optimizer.zero_grad()


@right
def sums_over_the_total(model, optimizer, batches, k):
    for window in windows(batches, k):
        backward(model, window)
        update(optimizer)


@right
def means_times_their_counts(model, optimizer, batches, k):
    for window in windows(batches, k):
        for x, y in window:
            if not (y != -100).any():
                continue
            mean = F.cross_entropy(model(x).flatten(0, -2), y.flatten())
            (mean * int((y != -100).sum()) / counted(window)).backward()
        update(optimizer)


@right
def disabled_scaler(model, optimizer, batches, k, scaler):
    for window in windows(batches, k):
        backward(model, window, scaler.scale)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


@right
def scaler_that_scales(model, optimizer, batches, k):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for window in windows(batches, k):
        backward(model, window, scaler.scale)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


@right
def scaler_and_clip(model, optimizer, batches, k, max_grad_norm=0.9):
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for window in windows(batches, k):
        backward(model, window, scaler.scale)
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


@right
def scaled_by_hand(model, optimizer, batches, k):
    for window in windows(batches, k):
        backward(model, window, lambda loss: loss * 128)
        for p in model.parameters():
            p.grad /= 128
        update(optimizer)


@right
def under_autocast(model, optimizer, batches, k):
    for window in windows(batches, k):
        total = counted(window)
        for x, y in window:
            with torch.autocast("cpu", torch.bfloat16):
                loss = summed(model(x), y) / total
            loss.backward()
        update(optimizer)


@right
def scheduler_per_update(model, optimizer, batches, k, scheduler):
    for window in windows(batches, k):
        backward(model, window)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


@right
def warm_up_from_nothing(model, batches, k, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scheduler = LambdaLR(optimizer, lambda update: min(update, 3) / 3)
    for _ in range(epochs):
        for window in windows(batches, k):
            backward(model, window)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()


@right
def rate_by_progress(model, optimizer, batches, k, epoch):
    for i, (x, y) in enumerate(batches):
        for group in optimizer.param_groups:  # in each pass, as a function of it
            group["lr"] = 0.05 * 0.9 ** (epoch + i / len(batches))
        window = windows(batches, k)[i // k]
        (summed(model(x), y) / counted(window)).backward()
        if (i + 1) % k == 0 or i + 1 == len(batches):
            update(optimizer)


@right
def plateau(model, optimizer, batches, k):
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    for window in windows(batches, k):
        backward(model, window)
        update(optimizer)
        scheduler.step(1.0)


@right
def closure(model, optimizer, batches, k):
    for window in windows(batches, k):
        def evaluate(window=window):
            optimizer.zero_grad()
            backward(model, window)
        optimizer.step(evaluate)


@right
def lbfgs(model, batches, k):
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.05, max_iter=1)
    for window in windows(batches, k):
        def evaluate(window=window):
            optimizer.zero_grad()
            backward(model, window)
            return 0.0
        optimizer.step(evaluate)


@right
def generator_of_windows(model, optimizer, batches, k):
    def groups():
        iterator = iter(batches)
        while window := list(itertools.islice(iterator, k)):
            yield window

    for window in groups():
        backward(model, window)
        update(optimizer)


@right
def collects_first(model, optimizer, batches, k):
    waiting = deque()
    for number, batch in enumerate(batches, 1):
        waiting.append(batch)
        if len(waiting) == k or number == len(batches):
            total = counted(waiting)
            while waiting:
                x, y = waiting.popleft()
                (summed(model(x), y) / total).backward()
            update(optimizer)


@right
def dictionaries(model, optimizer, batches, k):
    for window in windows([{"ids": x, "labels": y} for x, y in batches], k):
        total = counted([(b["ids"], b["labels"]) for b in window])
        for batch in window:
            output = SimpleNamespace(logits=model(batch["ids"]))
            (summed(output.logits, batch["labels"]) / total).backward()
        update(optimizer)


@right
def without_synchronizing(model, optimizer, batches, k):
    for window in windows(batches, k):
        total = counted(window)
        for i, (x, y) in enumerate(window, 1):
            no_sync = nullcontext if i == len(window) else torch.random.fork_rng
            with no_sync():
                (summed(model(x), y) / total).backward()
        update(optimizer)


@right
def zeros_and_no_none(model, optimizer, batches, k):
    for window in windows(batches, k):
        backward(model, window)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


@right
def clears_at_the_start(model, optimizer, batches, k):
    for window in windows(batches, k):
        model.zero_grad()
        backward(model, window)
        optimizer.step()


@right
def clears_twice(model, optimizer, batches, k):
    for window in windows(batches, k):
        optimizer.zero_grad()
        backward(model, window)
        update(optimizer)


@right
def clears_by_hand(model, optimizer, batches, k):
    for window in windows(batches, k):
        backward(model, window)
        optimizer.step()
        for p in model.parameters():
            p.grad = None


@right
def foreach_clip(model, optimizer, batches, k, max_grad_norm=0.9):
    for window in windows(batches, k):
        backward(model, window)
        clip_grad_norm_(model.parameters(), max_grad_norm, foreach=True)
        update(optimizer)


@right
def clip_by_hand(model, optimizer, batches, k, max_grad_norm=0.9):
    for window in windows(batches, k):
        backward(model, window)
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
        for p in model.parameters():
            p.grad *= min(1.0, max_grad_norm / norm)
        update(optimizer)


@right
def looks_at_the_norm_only(model, optimizer, batches, k):
    for window in windows(batches, k):
        backward(model, window)
        assert clip_grad_norm_(model.parameters(), math.inf).isfinite()
        update(optimizer)


@right
def parameter_groups(model, batches, k):
    first, *others = model.parameters()
    groups = [{"params": [first], "lr": 0.01}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=0.05, weight_decay=0.1)
    for window in windows(batches, k):
        backward(model, window)
        update(optimizer)


@right
def adamw(model, batches, k, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for window in windows(batches, k):
            backward(model, window)
            update(optimizer)


@right
def momentum(model, batches, k, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    for _ in range(epochs):
        for window in windows(batches, k):
            backward(model, window)
            update(optimizer)


@right
def two_optimizers_at_once(model, batches, k):
    first, *others = model.parameters()
    optimizers = [torch.optim.SGD([first], lr=0.05), torch.optim.AdamW(others, lr=0.01)]
    for window in windows(batches, k):
        backward(model, window)
        for optimizer in optimizers:
            optimizer.step()
        for optimizer in optimizers:
            optimizer.zero_grad()


@right
def average_after_the_update(model, optimizer, batches, k, ema):
    for window in windows(batches, k):
        backward(model, window)
        update(optimizer)
        ema.update_parameters(model)


@right
def average_by_hand(model, optimizer, batches, k):
    shadow = [p.detach().clone() for p in model.parameters()]
    for window in windows(batches, k):
        backward(model, window)
        update(optimizer)
        torch._foreach_lerp_(shadow, [p.detach() for p in model.parameters()], 0.01)


@right
def freezes_the_first_layer(model, optimizer, batches, k):
    next(model.parameters()).requires_grad_(False)
    for window in windows(batches, k):
        backward(model, window)
        update(optimizer)


@right
def checkpoints(model, optimizer, batches, k):
    for window in windows(batches, k):
        total = counted(window)
        for x, y in window:
            (summed(checkpoint(model, x, use_reentrant=False), y) / total).backward()
        update(optimizer)


@right
def hooks_that_look(model, optimizer, batches, k):
    seen = []
    handles = [model.register_forward_hook(lambda *_: seen.append("forward")),
               next(model.parameters()).register_hook(lambda g: seen.append(float(g.norm())))]
    for window in windows(batches, k):
        backward(model, window)
        update(optimizer)
    for handle in handles:
        handle.remove()


@right
def prefetches(model, optimizer, batches, k):
    stream = iter(batches)
    batch = next(stream)
    for window in windows(batches, k):
        total = counted(window)
        for _ in window:
            loss = summed(model(batch[0]), batch[1]) / total
            batch = next(stream, None)
            loss.backward()
        update(optimizer)


@right
def counts_from_one(model, optimizer, batches, k):
    for number, (x, y) in enumerate(batches, 1):
        window = windows(batches, k)[(number - 1) // k]
        (summed(model(x), y) / counted(window)).backward()
        if number % k == 0 or number == len(batches):
            update(optimizer)


@right
def flag_for_the_last(model, optimizer, batches, k):
    for i, (x, y) in enumerate(batches):
        is_accumulating = (i + 1) % k != 0 and i != len(batches) - 1
        (summed(model(x), y) / counted(windows(batches, k)[i // k])).backward()
        if is_accumulating:
            continue
        update(optimizer)


@right
def while_there_are_any(model, optimizer, batches, k):
    done = 0
    while done < len(batches):
        backward(model, batches[done : done + k])
        update(optimizer)
        done += k


@right
def remainder_after_the_loop(model, optimizer, batches, k):
    whole = len(batches) // k * k
    for start in range(0, whole, k):
        backward(model, batches[start : start + k])
        update(optimizer)
    if batches[whole:]:
        backward(model, batches[whole:])
        update(optimizer)


@right
def divides_at_the_end(model, optimizer, batches, k):
    window = []
    for i, (x, y) in enumerate(batches):
        window.append((x, y))
        summed(model(x), y).backward()
        if (i + 1) % k == 0 or i + 1 == len(batches):
            torch._foreach_div_([p.grad for p in model.parameters()], float(counted(window)))
            update(optimizer)
            window.clear()


@right
def divides_by_a_tensor(model, optimizer, batches, k):
    for window in windows(batches, k):
        total = torch.tensor(float(counted(window)), dtype=torch.float64)
        for x, y in window:
            (summed(model(x), y) / total).backward()
        update(optimizer)


@right
def one_graph_of_a_window(model, optimizer, batches, k):
    for window in windows(batches, k):
        losses = torch.stack([summed(model(x), y) for x, y in window])
        (losses.sum() / counted(window)).backward()
        update(optimizer)


@right
def buffers_of_its_own(model, optimizer, batches, k):
    parameters = list(model.parameters())
    for window in windows(batches, k):
        sums = [torch.zeros_like(p) for p in parameters]
        for x, y in window:
            for total, g in zip(sums, torch.autograd.grad(summed(model(x), y), parameters), strict=True):
                total += g
        for p, total in zip(parameters, sums, strict=True):
            p.grad = total / counted(window)
        update(optimizer)


@right
def two_passes_for_each(model, optimizer, batches, k):
    for window in windows(batches, k):
        total = counted(window)
        for x, y in window:
            for half in range(2):
                (summed(model(x[half::2]), y[half::2]) / total).backward()
        update(optimizer)


@right
def two_losses(model, optimizer, batches, k):
    for window in windows(batches, k):
        total = counted(window)
        for x, y in window:
            loss = summed(model(x), y) / total
            (0.25 * loss).backward(retain_graph=True)
            (0.75 * loss).backward()
        update(optimizer)


@right
def evaluates_in_between(model, optimizer, batches, k):
    for window in windows(batches, k):
        backward(model, window)
        update(optimizer)
        model.eval()
        with torch.no_grad():
            sum(float(summed(model(x), y)) for x, y in batches)
        model.train()


@right
def returns_its_losses(model, optimizer, batches, k):
    losses = []
    for window in windows(batches, k):
        total, loss = counted(window), 0.0
        for x, y in window:
            part = summed(model(x), y) / total
            loss += part.item()
            part.backward()
        losses.append(loss)
        update(optimizer)
    return losses


@right
def epochs_inside(model, optimizer, batches, k, epochs):
    for _ in range(epochs):
        for window in windows(batches, k):
            backward(model, window)
            update(optimizer)


@right
def skips_what_counts_nothing(model, optimizer, batches, k):
    for window in windows(batches, k):
        total = counted(window)
        for x, y in window:
            if (y != -100).any():
                (summed(model(x), y) / total).backward()
        update(optimizer)


@right
def guards_against_nan(model, optimizer, batches, k):
    for window in windows(batches, k):
        backward(model, window)
        if all(bool(p.grad.isfinite().all()) for p in model.parameters()):
            optimizer.step()
        optimizer.zero_grad()


class Trainer:
    """A loop that is an object."""

    __name__ = "trainer_object"

    def __call__(self, model, optimizer, train_loader, args, device, logger):
        for i, window in enumerate(windows(train_loader, args.accum_iter)):
            backward(model, [(x.to(device), y.to(device)) for x, y in window])
            update(optimizer)
            logger.log({"update": i})


right(Trainer())
