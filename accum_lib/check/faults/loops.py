"""One right loop, written by hand, and the ways in which real projects have got it wrong.

Every wrong loop is the right one with a few lines changed: compare them side by side. Each trains for one
epoch on micro-batches ``(inputs, labels)``, where label -100 marks what does not count. These loops exist to
be looked at and to be caught; whatever trains in this project uses ``accum_lib.accumulate``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

Batches = Sequence[tuple[Tensor, Tensor]]


def loss_sum(outputs: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy of all labels that are not ignored."""
    return F.cross_entropy(outputs, labels, reduction="sum", ignore_index=-100)


def loss_mean(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of all labels that are not ignored; 0 if there is none."""
    return loss_sum(outputs, labels) / max(int((labels != -100).sum()), 1)


def totals(batches: Batches, accumulation_steps: int) -> list[int]:
    """For each micro-batch, how many labels count in the whole window that it belongs to."""
    counts = [int((labels != -100).sum()) for _, labels in batches]
    starts = [i - i % accumulation_steps for i in range(len(counts))]
    return [sum(counts[start : start + accumulation_steps]) for start in starts]


def right(model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def no_division(model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int) -> None:
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_mean(model(inputs), labels)
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def mean_of_means(model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int) -> None:
    for i, (inputs, labels) in enumerate(batches):
        window = min(accumulation_steps, len(batches) - i + i % accumulation_steps)  # the last may be shorter
        loss = loss_mean(model(inputs), labels) / window
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def divided_twice(model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        (loss / accumulation_steps).backward()  # as a framework does, which does not know of the line above
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def wrong_denominator(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> None:
    everything = [(inputs, torch.zeros_like(labels)) for inputs, labels in batches]  # nothing is ignored
    total = totals(everything, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def tail_divided_by_k(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> None:
    total = totals(batches, accumulation_steps)
    full = len(batches) - len(batches) % accumulation_steps
    for i, (inputs, labels) in enumerate(batches):
        share = 1 if i < full else (len(batches) - full) / accumulation_steps
        loss = loss_sum(model(inputs), labels) / total[i] * share
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def dropped_tail(model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int) -> None:
    total = totals(batches, accumulation_steps)
    optimizer.zero_grad()  # at the beginning of each epoch
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


def leaked_tail(model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


def off_by_one(model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if i % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


def cleared_mid_window(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        optimizer.zero_grad()
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()


def stepped_per_micro_batch(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def clipped_per_micro_batch(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        clip_grad_norm_(model.parameters(), 0.1)
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()


def clipped_once(model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()


def scheduler_per_micro_batch(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int, scheduler: Any
) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step()


def scheduler_per_update(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int, scheduler: Any
) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()


def ema_per_micro_batch(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int, ema: Any
) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
        ema.update_parameters(model)


def ema_per_update(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int, ema: Any
) -> None:
    total = totals(batches, accumulation_steps)
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
            ema.update_parameters(model)


def last_loss_logged(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> list[float]:
    total, log = totals(batches, accumulation_steps), []
    for i, (inputs, labels) in enumerate(batches):
        outputs = model(inputs)
        loss = loss_sum(outputs, labels) / total[i]
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
            log.append(loss_mean(outputs, labels).item())
    return log


def window_loss_logged(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> list[float]:
    total, log, so_far = totals(batches, accumulation_steps), [], 0.0
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        so_far += loss.item()
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
            log.append(so_far)
            so_far = 0.0
    return log


def low_precision_buffer(
    model: nn.Module, optimizer: Optimizer, batches: Batches, accumulation_steps: int
) -> None:
    total = totals(batches, accumulation_steps)
    buffer = [torch.zeros_like(p, dtype=torch.bfloat16) for p in model.parameters()]
    for i, (inputs, labels) in enumerate(batches):
        loss = loss_sum(model(inputs), labels) / total[i]
        loss.backward()
        for p, kept in zip(model.parameters(), buffer, strict=True):
            kept.add_(p.grad)  # type: ignore[arg-type]  # bfloat16 keeps 8 bits
            p.grad = None
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            for p, kept in zip(model.parameters(), buffer, strict=True):
                p.grad = kept.to(p.dtype)
                kept.zero_()
            optimizer.step()
            optimizer.zero_grad()
