"""Wrong answers to the exercises of notebook 05: repairs that leave something wrong."""

from accum_lib.accumulate import windows
from accum_lib.check.faults import loops
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_


def clipped(clip, divide=True):
    """A loop that counts, and then does ``clip(parameters, max_grad_norm)``."""

    def train(model, optimizer, batches, accumulation_steps, max_grad_norm):
        for window in windows(batches, accumulation_steps):
            total = sum((labels != -100).sum() for _, labels in window) if divide else 1
            for inputs, labels in window:
                (
                    cross_entropy(model(inputs), labels, reduction="sum") / total
                ).backward()
            clip(list(model.parameters()), max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()

    return train


def clipped_after_the_step(
    model, optimizer, batches, accumulation_steps, max_grad_norm
):
    for window in windows(batches, accumulation_steps):
        total = sum((labels != -100).sum() for _, labels in window)
        for inputs, labels in window:
            loss = cross_entropy(model(inputs), labels, reduction="sum") / total
            loss.backward()
        optimizer.step()
        clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.zero_grad()


def each_apart(parameters, max_grad_norm):
    for parameter in parameters:
        clip_grad_norm_(parameter, max_grad_norm)


def mean_of_means_clipped(model, optimizer, batches, accumulation_steps, max_grad_norm):
    for window in windows(batches, accumulation_steps):
        for inputs, labels in window:
            (cross_entropy(model(inputs), labels) / len(window)).backward()
        clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()


def logged(log_of, ticks_at="update"):
    """A right loop that ticks where it is told to, and returns ``log_of(losses, counts)`` of each window."""

    def train(model, optimizer, batches, accumulation_steps, scheduler):
        log = []
        for window in windows(batches, accumulation_steps):
            counts = [int((labels != -100).sum()) for _, labels in window]
            losses = [cross_entropy(model(x), y, reduction="sum") for x, y in window]
            for loss in losses:
                (loss / sum(counts)).backward()
                if ticks_at == "micro-batch":
                    scheduler.step()
            if ticks_at == "before":
                scheduler.step()
            optimizer.step()
            optimizer.zero_grad()
            if ticks_at == "update":
                scheduler.step()
            log.append(log_of([float(x) for x in losses], counts))
        return log if None not in log else None

    return train


def fails(model, optimizer, batches, accumulation_steps):
    return 1 / 0


WRONG = {
    "check_plain_repair": [
        (loops.off_by_one, "wrong places"),
        (loops.mean_of_means, "a mean of means"),
        (loops.dropped_tail, "trailing window"),
        (loops.cleared_mid_window, "cleared within the window"),
        (fails, "raised ZeroDivisionError"),
    ],
    "check_clipped_repair": [
        (loops.right, "keep the parameter max_grad_norm"),
        (
            clipped(lambda parameters, norm: clip_grad_norm_(parameters, 0.1)),
            "which norm do you clip to",
        ),
        (clipped(lambda parameters, norm: None), "is it clipped at all"),
        (clipped_after_the_step, "it clips after optimizer.step()"),
        (clipped(each_apart), "clip all parameters together"),
        (clipped(clip_grad_norm_, divide=False), "even where nothing needs clipping"),
        (mean_of_means_clipped, "a mean of means"),
    ],
    "check_logged_repair": [
        (loops.right, "keep the parameter scheduler"),
        (
            logged(lambda losses, counts: sum(losses) / sum(counts), "micro-batch"),
            "ticks per micro-batch",
        ),
        (
            logged(lambda losses, counts: sum(losses) / sum(counts), "never"),
            "6 updates, 0 ticks",
        ),
        (
            logged(lambda losses, counts: losses[-1] / counts[-1]),
            "the last micro-batch's alone",
        ),
        (
            logged(lambda losses, counts: sum(losses) / sum(counts), "before"),
            "scheduler.step() comes before optimizer.step()",
        ),
        (logged(lambda losses, counts: sum(losses)), "is not the window's mean"),
        (logged(lambda losses, counts: None), "return the losses"),
    ],
}
