"""Wrong answers to the exercises of notebook 10: repairs that leave one thing wrong, plans that do not fit."""

import math

from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_


def script(left):
    """The repaired script with one thing left as it was."""

    def train(
        model, optimizer, loader, accumulation_steps, scheduler, max_grad_norm=1.0
    ):
        log, batches = [], list(loader)
        for start in range(0, len(batches), accumulation_steps):
            window = batches[start : start + accumulation_steps]
            if left == "tail" and len(window) < accumulation_steps:
                break
            total = sum((batch["labels"] != -100).sum() for batch in window)
            mean = 0.0
            for batch in window:
                logits = model(**batch).logits.flatten(0, 1)
                labels = batch["labels"].flatten()
                if left == "mean":
                    loss = cross_entropy(logits, labels) / len(window)
                else:
                    loss = cross_entropy(logits, labels, reduction="sum") / total
                loss.backward()
                mean += loss.item()
                if left == "clip":
                    clip_grad_norm_(model.parameters(), max_grad_norm)
                if left == "ticks":
                    scheduler.step()
            if left != "clip":
                clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            if left != "ticks":
                scheduler.step()
            optimizer.zero_grad()
            log.append(loss.item() if left == "log" else mean)
        return log

    return train


def does_nothing(
    model, optimizer, loader, accumulation_steps, scheduler, max_grad_norm=1.0
):
    return ...


WRONG = {
    "check_script": [
        (does_nothing, "no optimizer update"),
        (script("mean"), "a mean of means"),
        (script("clip"), "clip"),
        (script("ticks"), "the scheduler ticks"),
        (script("tail"), "trailing window"),
        (script("log"), "log"),
        (lambda model: 1 / 0, "raised ZeroDivisionError"),
    ],
    "check_plan": [
        ((..., ...), "give two numbers"),
        ((256, 1), "takes 79.5 GiB"),
        ((16, 16), "takes 7.1 GiB"),
        ((8, 32), "room to spare"),
        ((13, 13), "do not make windows of 256"),
        ((12.8, 20), "whole numbers"),
    ],
    "check_epochs": [
        (lambda n, m, k, p, u, b: ..., "returns nothing yet"),
        (lambda n, m, k, p, u, b: b // (n // m * p + n // (m * k) * u), "by hand"),
        (
            lambda n, m, k, p, u, b: b // (math.ceil(n / m) * (p + u)),
            "not for each pass",
        ),
        (
            lambda n, m, k, p, u, b: b / (n / m * p + n / (m * k) * u),
            "Only whole epochs",
        ),
        (lambda n, m, k, p, u, b: b // (math.ceil(n / m) * p), "take time, too"),
        (lambda n, m, k, p, u, b: 1 / 0, "raised ZeroDivisionError"),
    ],
}
