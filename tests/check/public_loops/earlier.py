"""Earlier loops whose order of calls the two halves do not have: the same calls, named by what they do.

An origin that starts with "pattern:" is a known pattern written from memory; "unread:" marks an order of
counting that was not seen.
"""
# ruff: noqa: SIM113 - counters are as their authors keep them
# fmt: off

from itertools import cycle

from .shared import clip, mean, public, summed


@public("a purchase predictor", k=3, n=11, ragged="mean_of_means tail_divided_by_k")
def remainder_after_the_loop(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(batches):
        loss = mean(model(x), y) / accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
    if (i + 1) % accumulation_steps != 0:
        optimizer.step()
        optimizer.zero_grad()


@public("unread: meta-learning of prompts", k=4, n=11, norm=1.0, ragged="leaked_tail mean_of_means")
def global_batch(model, optimizer, batches, accumulation_steps, epochs):
    n = 0
    for _ in range(epochs):
        for x, y in batches:
            n += 1
            mean(model(x), y).backward()
            if n % accumulation_steps == 0:
                clip(model.parameters(), 1.0)
                optimizer.step()
                model.zero_grad()


@public("an entity recogniser", k=3, n=11, norm=0.5, ragged="clipped_per_micro_batch mean_of_means")
def clips_each_and_steps_last(model, optimizer, batches, accumulation_steps):
    for step, (x, y) in enumerate(batches, 1):
        loss = mean(model(x), y) / accumulation_steps
        loss.backward()
        clip(model.parameters(), 0.5)
        if (step % accumulation_steps == 0) or (step == len(batches)):
            optimizer.step()
            optimizer.zero_grad()


@public("OpenSTL", k=3, n=11, ragged="unused_micro_batches")
def backward_of_the_last_only(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for it, (x, y) in enumerate(batches):
        loss = mean(model(x), y)
        if (it + 1) % accumulation_steps == 0:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


@public("a depth adapter", k=8, n=11, norm=1.5, ragged="mean_of_means tail_divided_by_k")
def remainder_clipped_too(model, optimizer, batches, accumulation_steps):
    step = 0
    for x, y in batches:
        (mean(model(x), y) / accumulation_steps).backward()
        step += 1
        if step % accumulation_steps == 0:
            clip(model.parameters(), max_norm=1.5)
            optimizer.step()
            optimizer.zero_grad()
    if step % accumulation_steps != 0:
        clip(model.parameters(), max_norm=1.5)
        optimizer.step()
        optimizer.zero_grad()


@public("YOLOv5 and after", k=4, n=11, ragged="no_division off_by_one")
def counter_from_zero(model, optimizer, batches, accumulation_steps, epochs):
    for epoch in range(epochs):
        optimizer.zero_grad()
        for i, (x, y) in enumerate(batches):
            ni = i + len(batches) * epoch
            mean(model(x), y).backward()
            if ni % accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()


@public("a GPT from scratch", k=3, n=11, norm=0.5, ragged="mean_of_means")
def clip_hides_the_missing_division(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        mean(model(x), y).backward()
        if (i + 1) % accumulation_steps == 0 or (i + 1 == len(batches)):
            clip(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()


@public("incremental learning of images", k=3, n=11, ragged="dropped_tail no_division")
def divides_the_value_only(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(batches):
        loss = mean(model(x), y)
        loss.data /= accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


@public("a 3D segmentation", k=4, n=11, ragged="no_division off_by_one")
def from_zero_and_last(model, optimizer, batches, accumulation_steps):
    counter = 0
    for x, y in batches:
        mean(model(x), y).backward()
        if counter % accumulation_steps == 0 or counter + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
        counter += 1


@public("a segmentation with two views", k=4, n=11, ragged="leaked_tail mean_of_means")
def counter_set_back(model, optimizer, batches, accumulation_steps, scaler):
    step = 0
    for x, y in batches:
        scaler.scale(mean(model(x), y) / accumulation_steps).backward()
        step += 1
        if step % accumulation_steps == 0:
            scaler.step(optimizer)
            scaler.update()
            model.zero_grad(set_to_none=True)
            step = 0


@public("nanoGPT, several optimizers", k=2, n=11, norm=0.5, ragged="leaked_tail mean_of_means")
def micro_steps_undivided(model, optimizer, batches, accumulation_steps, epochs):
    stream = cycle(batches)
    for _ in range(epochs * len(batches) // accumulation_steps):
        for _ in range(accumulation_steps):
            x, y = next(stream)
            mean(model(x), y).backward()
        clip(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@public("a Fabric fine-tuning", k=8, n=11, norm=1.5, ragged="dropped_tail mean_of_means")
def full_windows_only(model, optimizer, batches, accumulation_steps):
    for start in range(0, len(batches) - accumulation_steps + 1, accumulation_steps):
        for micro_step in range(accumulation_steps):
            x, y = batches[start + micro_step]
            (mean(model(x), y) / accumulation_steps).backward()
        clip(model.parameters(), 1.5)
        optimizer.step()
        optimizer.zero_grad()


@public("unread: an autoencoder", k=2, n=11, norm=4.0, ragged="mean_of_means off_by_one")
def last_that_never_comes(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for n, (x, y) in enumerate(batches):
        (mean(model(x), y) / accumulation_steps).backward()
        if n % accumulation_steps == 0 or n == len(batches):
            clip(model.parameters(), 4.0)
            optimizer.step()
            optimizer.zero_grad()


@public("pattern: a trainer that knows the rest", k=3, n=11, norm=2.5, ragged="mean_of_means")
def length_of_each_window(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        start = i // accumulation_steps * accumulation_steps
        length = min(accumulation_steps, len(batches) - start)
        (mean(model(x), y) / length).backward()
        if i + 1 == start + length:
            clip(model.parameters(), 2.5)
            optimizer.step()
            optimizer.zero_grad()


@public("pattern: Transformers, items in the batch", k=8, n=11, norm=1.5)
def items_in_the_window(model, optimizer, batches, accumulation_steps):
    for start in range(0, len(batches), accumulation_steps):
        window = batches[start : start + accumulation_steps]
        items = sum(int((y != -100).sum()) for _, y in window)
        for x, y in window:
            (summed(model(x), y) / items).backward()
        clip(model.parameters(), 1.5)
        optimizer.step()
        optimizer.zero_grad()


@public("pattern: fairseq", k=4, n=11, norm=2.5)
def divides_the_gradients(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    size = 0
    for i, (x, y) in enumerate(batches):
        summed(model(x), y).backward()
        size += int((y != -100).sum())
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            for p in model.parameters():
                p.grad.mul_(1 / size)
            clip(model.parameters(), 2.5)
            optimizer.step()
            optimizer.zero_grad()
            size = 0
