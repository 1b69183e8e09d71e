"""Solutions to the exercises of notebook 05."""

from accum_lib.accumulate import windows
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_


def train(model, optimizer, batches, accumulation_steps):
    for window in windows(batches, accumulation_steps):
        total = sum((labels != -100).sum() for _, labels in window)
        for inputs, labels in window:
            loss = cross_entropy(model(inputs), labels, reduction="sum") / total
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def train_clipped(model, optimizer, batches, accumulation_steps, max_grad_norm):
    for window in windows(batches, accumulation_steps):
        total = sum((labels != -100).sum() for _, labels in window)
        for inputs, labels in window:
            loss = cross_entropy(model(inputs), labels, reduction="sum") / total
            loss.backward()
        clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()


def train_logged(model, optimizer, batches, accumulation_steps, scheduler):
    log = []
    for window in windows(batches, accumulation_steps):
        total = sum((labels != -100).sum() for _, labels in window)
        mean = 0.0
        for inputs, labels in window:
            loss = cross_entropy(model(inputs), labels, reduction="sum") / total
            loss.backward()
            mean += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        log.append(mean)
    return log
