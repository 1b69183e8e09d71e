"""Thirty more loops from the same search, retold and judged before the first of them ran: see the package."""
# ruff: noqa: SIM113 - counters are as their authors keep them
# fmt: off

import itertools
import math
from contextlib import nullcontext

import torch
from torch.nn import functional as F

from .shared import clip, mean, public, summed


@public("a trainer of 2021 with its condition for short epochs", k=4, n=11, norm=1.0,
        ragged="leaked_tail mean_of_means")
def trainer_of_2021(model, optimizer, epoch_iterator, args, lr_scheduler, epochs, max_grad_norm):
    steps_in_epoch, k = len(epoch_iterator), args.gradient_accumulation_steps
    tr_loss = 0.0
    model.zero_grad()
    for _ in range(epochs):
        for step, inputs in enumerate(epoch_iterator):
            model.train()
            loss = mean(model(inputs[0]), inputs[1])
            if k > 1:
                loss = loss / k
            loss.backward()
            tr_loss += loss.detach()
            if (step + 1) % k == 0 or (steps_in_epoch <= k and (step + 1) == steps_in_epoch):
                if max_grad_norm is not None and max_grad_norm > 0:
                    clip(model.parameters(), max_grad_norm)
                optimizer.step()
                lr_scheduler.step()
                model.zero_grad()


@public("sentence embeddings, a step compared with a number of updates", k=4, n=11, norm=5.0,
        ragged="off_by_one mean_of_means")
def sentence_embeddings(
    model, optimizer, loader, gradient_accumulation_steps, lr_scheduler, epochs, max_norm
):
    num_update_steps_per_epoch = math.ceil(len(loader) / gradient_accumulation_steps)
    completed_steps = 0
    for _ in range(epochs):
        model.train()
        for step, (x, y) in enumerate(loader):
            loss = mean(model(x), y)
            loss = loss / gradient_accumulation_steps
            loss.backward()
            if (step + 1) % gradient_accumulation_steps == 0 or step == num_update_steps_per_epoch - 1:
                clip(model.parameters(), max_norm)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
                completed_steps += 1


@public("questions with several answers", k=4, n=11, ragged="off_by_one mean_of_means")
def several_answers(model, optimizer, train_dataloader, gradient_accumulation_steps, lr_scheduler, epochs):
    for _ in range(epochs):
        model.train()
        for step, (x, y) in enumerate(train_dataloader):
            loss = mean(model(x), y)
            loss = loss / gradient_accumulation_steps
            loss.backward()
            if step % gradient_accumulation_steps == 0 or step == len(train_dataloader) - 1:
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()


@public("examples weighted by a selection", k=4, n=11, ragged="mean_of_means tail_divided_by_k")
def weighted_selection(model, optimizer, loader, args, epochs):
    optimizer_step = 0
    for _ in range(epochs):
        for batch_step, (x, y) in enumerate(loader, start=1):
            loss = mean(model(x), y)
            scaled_loss = loss / args.gradient_accumulation_steps
            scaled_loss.backward()
            if batch_step % args.gradient_accumulation_steps == 0 or batch_step == len(loader):
                optimizer_step += 1
                for group in optimizer.param_groups:
                    group["lr"] = 0.05 * 0.99**optimizer_step
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)


@public("flows of interaction, rows kept for a log", k=2, n=11, norm=5.0,
        ragged="mean_of_means tail_divided_by_k")
def interactions(model, opt, train_loader, sched, args, max_norm):
    params, rows = [p for p in model.parameters() if p.requires_grad], []
    for step, batch in enumerate(train_loader, start=1):
        loss = mean(model(batch[0]), batch[1])
        (loss / args.gradient_accumulation_steps).backward()
        if step % args.gradient_accumulation_steps == 0 or step == len(train_loader):
            grad_norm = clip(params, float(max_norm))
            opt.step()
            sched.step()
            opt.zero_grad(set_to_none=True)
            rows.append({"batch_step": step, "grad_norm": float(grad_norm), "lr": opt.param_groups[0]["lr"]})


@public("learning without forgetting, with a penalty that may be nothing", k=4, n=12,
        ragged="off_by_one no_division")
def without_forgetting(model, optimizer, train_dataloader, gradient_accumulation_steps, scaler, scheduler):
    model.train()
    allloss, global_step = [], 0
    for step, (x, y) in enumerate(train_dataloader):
        loss = mean(model(x), y)
        finalloss = loss
        ewcloss = torch.tensor(0.0)
        finalloss = finalloss + ewcloss
        if scaler is not None:
            scaler.scale(finalloss).backward()
        else:
            finalloss.backward()
        allloss.append(loss.item())
        if step % gradient_accumulation_steps == 0 or step == len(train_dataloader) - 1:
            scaler.step(optimizer)
            scaler.update()
            if scheduler is not None:
                scheduler.step()
            optimizer.zero_grad()
            global_step += 1


@public("a tutorial's typical workflow", k=2, n=12, ragged="no_division")
def typical_workflow(model, optimizer, train_loader, accumulate_grad_batches):
    optimizer.zero_grad()
    for b_idx, data in enumerate(train_loader):
        loss = mean(model(data[0]), data[1])
        loss.backward()
        if (b_idx + 1) % accumulate_grad_batches == 0:
            optimizer.step()
            optimizer.zero_grad()


@public("speech without echo, cleared at both ends", k=3, n=11, ragged="dropped_tail mean_of_means")
def without_echo(model, optimizer, loader, criterion, scaler, accumulation_steps, num_epochs):
    for _ in range(num_epochs):
        for batch_idx, (reverb, clean) in enumerate(loader):
            if batch_idx % accumulation_steps == 0:
                optimizer.zero_grad()
            pred = model(reverb)
            loss = criterion(pred, clean)
            loss = loss / accumulation_steps
            scaler.scale(loss).backward()
            if (batch_idx + 1) % accumulation_steps == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()


@public("mixed images, an average of the weights", k=8, n=11, norm=1.0, ragged="leaked_tail mean_of_means")
def mixed_images(model, optimizer, loader, criterion, scaler, ema, accumulate_grad_batches, max_norm, epochs):
    norms = []
    for _ in range(epochs):
        model.train()
        for batch_idx, (images, labels) in enumerate(loader):
            logits = model(images)
            loss = criterion(logits, labels) / accumulate_grad_batches
            scaler.scale(loss).backward()
            if (batch_idx + 1) % accumulate_grad_batches == 0:
                scaler.unscale_(optimizer)
                norms.append(clip(model.parameters(), max_norm=max_norm).item())
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                if ema is not None:
                    ema.update_parameters(model)


@public("an objective for recommendations, no exchange until the step", k=3, n=11, norm=5.0,
        ragged="mean_of_means tail_divided_by_k")
def recommendations(model, train_loader, optimizer, accumulate_grad_batches, max_grad_norm):
    def objective(batch):
        return {"loss": mean(model(batch[0]), batch[1])}

    model.train()
    total_loss, n_batches = 0.0, 0
    optimizer.zero_grad()
    for batch_idx, batch in enumerate(train_loader):
        is_step_batch = (batch_idx + 1) % accumulate_grad_batches == 0 or (batch_idx + 1) == len(train_loader)
        loss = objective(batch)["loss"]
        with nullcontext():  # no exchange between cards where is_step_batch is false
            (loss / accumulate_grad_batches).backward()
        if is_step_batch:
            if max_grad_norm:
                clip(model.parameters(), max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        total_loss += loss.item()
        n_batches += 1
    return total_loss / n_batches


@public("several optimizers by turns, one global step", k=3, n=12, ragged="off_by_one no_division")
def global_step_modulo(net, optimizer, loader, scheduler, accumulate_grad_batches, epochs):
    optimizers, schedulers, global_step = [optimizer], [scheduler], 0
    for _ in range(epochs):
        for train_batch in loader:
            net.train()
            for i in range(len(optimizers)):
                loss = mean(net(train_batch[0]), train_batch[1])
                loss.backward()
                if global_step % accumulate_grad_batches == 0:
                    optimizers[i].step()
                    optimizers[i].zero_grad()
                    schedulers[i].step()
            global_step += 1


@public("slots in a language model, batches as they are read", k=8, n=11, norm=5.0,
        ragged="leaked_tail mean_of_means")
def slots(model, opt, ds, accum_steps, epochs, max_norm):
    def iterate_batches():
        yield from ds

    step = 0
    trainable = [p for p in model.parameters() if p.requires_grad]
    for _ in range(epochs):
        batch_idx = 0
        for x, y in iterate_batches():
            loss = mean(model(x), y) / accum_steps
            loss.backward()
            batch_idx += 1
            if batch_idx % accum_steps == 0:
                clip(trainable, max_norm)
                opt.step()
                opt.zero_grad()
                step += 1


@public("a first training function, cleared at each batch", k=4, n=12, ragged="unused_micro_batches")
def first_function(model, train_loader, optimizer, num_epoch, device, k):
    model.train()
    total_loss = 0.0
    for _epoch in range(1, num_epoch + 1):
        for batch_idx, (data, target) in enumerate(train_loader):
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad()
            loss = mean(model(data), target) / k
            total_loss += loss.item() * k
            loss.backward(retain_graph=True)
            if batch_idx % k == 0:
                optimizer.step()


@public("a detector that knows its window's length", k=4, n=11, ragged="mean_of_means")
def detector(model, optimizer, train_loader, scaler, accum, epochs):
    for _ in range(epochs):
        for batch_idx, (imgs, targets) in enumerate(train_loader):
            is_opt_step = (batch_idx + 1) % accum == 0 or batch_idx == len(train_loader) - 1
            if batch_idx % accum == 0:
                optimizer.zero_grad(set_to_none=True)
                actual_window = min(accum, len(train_loader) - batch_idx)
            loss = mean(model(imgs), targets) / actual_window
            scaler.scale(loss).backward()
            if is_opt_step:
                scaler.step(optimizer)
                scaler.update()


@public("images of 2017, a loss.data[0]", k=4, n=12, ragged="off_by_one no_division")
def images_of_2017(model, optimizer, data_loader, criterion, accum_iter):
    c, train_loss = 0, 0.0
    model.train()
    optimizer.zero_grad()
    for batch_idx, batch in enumerate(data_loader):
        loss = criterion(model(batch[0]), batch[1])
        loss.backward()
        if batch_idx % accum_iter == 0:
            optimizer.step()
            optimizer.zero_grad()
        train_loss += loss.item()
        c += 1


@public("speech to text, a NaN is passed over", k=4, n=11, ragged="dropped_tail mean_of_means")
def speech(model, optimizer, train_loader, k, epochs):
    for _ in range(epochs):
        accumulated_batches = 0
        for x, y in train_loader:
            if accumulated_batches == 0:
                optimizer.zero_grad()
            loss = mean(model(x), y)
            loss /= k
            if torch.isnan(loss).any():
                continue
            loss.backward()
            accumulated_batches += 1
            if accumulated_batches % k == 0:
                optimizer.step()
                accumulated_batches = 0


@public("a language model by lists of micro-batches", k=4, n=11, norm=5.0, ragged="mean_of_means")
def by_lists(model, optimizer, loader, scheduler, accumulation_steps, max_norm):
    def train_step(micro_batches):
        model.train()
        optimizer.zero_grad()
        total_loss = 0.0
        for ids, labels in micro_batches:
            loss = mean(model(ids), labels)
            loss = loss / len(micro_batches)
            loss.backward()
            total_loss += loss.item()
        if max_norm > 0:
            clip(model.parameters(), max_norm).item()
        optimizer.step()
        scheduler.step()
        return total_loss

    for start in range(0, len(loader), accumulation_steps):
        train_step(loader[start : start + accumulation_steps])


@public("thinking tokens, further batches inside of a step", k=4, n=12, norm=5.0, ragged="mean_of_means")
def thinking(model, optimizer, loader, scheduler, k, epochs, grad_clip):
    train_iter = iter(loader)
    for _step in range(epochs * len(loader) // k):
        try:
            batch = next(train_iter)
        except StopIteration:
            train_iter = iter(loader)
            batch = next(train_iter)
        for micro in range(k):
            if micro > 0:
                batch = next(train_iter)
            (mean(model(batch[0]), batch[1]) / k).backward()
        if grad_clip > 0.0:
            clip(model.parameters(), grad_clip)
        for o in [optimizer]:
            o.step()
        for s in [scheduler]:
            s.step()
        optimizer.zero_grad(set_to_none=True)


@public("an adapter for images, weighted by rows", k=4, n=12, ragged="weighted_by_samples wrong_denominator",
        even="")
def image_adapter(model, optimizer, loader, accum_steps, scheduler):
    n_forwards, batch_size = len(loader), accum_steps * len(loader[0][0])
    n_micro = n_updates = 0
    for step, (x, y) in enumerate(loader):
        b = x.shape[0]
        micro_loss = mean(model(x), y)
        loss = micro_loss * (b / batch_size)
        loss.backward()
        n_micro += b
        is_last = step == n_forwards - 1
        if (step + 1) % accum_steps == 0 or is_last:
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            n_updates += 1


@public("fields from queries, a count since the last update", k=3, n=11, ragged="leaked_tail mean_of_means")
def since_update(model, optimizer, train_loader, scaler, scheduler, k, epochs):
    steps_since_update, logs = 0, []
    for _ in range(epochs):
        for batch in train_loader:
            loss = mean(model(batch[0]), batch[1])
            loss = loss / k
            if loss.requires_grad:
                scaler.scale(loss).backward()
            logs.append(float(loss.detach()))
            steps_since_update += 1
            if steps_since_update >= k:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                scheduler.step()
                steps_since_update = 0


@public("instances in frames, never divided", k=2, n=11, ragged="leaked_tail no_division")
def instances(model, optimizer, loader, k, epochs):
    for _ in range(epochs):
        for i, (image, labelmap) in enumerate(loader):
            loss = mean(model(image), labelmap)
            loss.backward()
            if (i + 1) % k == 0:
                optimizer.step()
                optimizer.zero_grad()


@public("roles in sentences, the graph retained", k=4, n=11, ragged="leaked_tail mean_of_means")
def roles(model, optimizer, loader, k, epochs):
    for _ in range(epochs):
        batch_loss_sum = 0.0
        for i, (x, y) in enumerate(loader):
            batch_loss = mean(model(x), y)
            batch_loss = batch_loss / k
            batch_loss.backward(retain_graph=True)
            batch_loss_sum += batch_loss.item()
            if (i + 1) % k == 0:
                optimizer.step()
                for part in model.children():
                    part.zero_grad()


@public("image classification, a multiplier of the batch", k=3, n=12, ragged="mean_of_means")
def multiplier(model, optimizer, loader, scaler, k):
    def _step(x, y, optimizer_step):
        loss = mean(model(x), y)
        scaler.scale(loss).backward()
        if optimizer_step:
            for param_group in optimizer.param_groups:
                for param in param_group["params"]:
                    param.grad /= k
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        return loss.detach()

    for i, (x, y) in enumerate(loader):
        _step(x, y, ((i + 1) % k) == 0)


@public("translation, gradients divided by the words", k=4, n=11)
def translation(model, optimizer, train_loader, scheduler, k):
    def scale_grad(grad_scale):
        if grad_scale == 0.0:
            raise ZeroDivisionError
        for param in model.parameters():
            if param.grad is not None:
                param.grad /= grad_scale

    words = 0
    for j, (src, tgt) in enumerate(train_loader):
        loss = summed(model(src), tgt)
        loss.backward()
        words += int((tgt != -100).sum())
        if (j + 1) % k == 0 or (j + 1) == len(train_loader):
            scale_grad(words)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            words = 0


@public("noisy labels, with a second try at the step", k=4, n=11, ragged="leaked_tail no_division")
def noisy_labels(net, optimizer, loader, scaler, k, epochs):
    for _ in range(epochs):
        net.train()
        for it, (x, y) in enumerate(loader):
            loss = mean(net(x), y)
            scaler.scale(loss).backward()
            if (it + 1) % k == 0:
                try:
                    scaler.step(optimizer)
                except RuntimeError:
                    scaler.unscale_(optimizer)
                    clip(net.parameters(), max_norm=2, norm_type=2.0)
                    scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()


@public("instances and seeds, the scaler updated each time", k=3, n=11, ragged="leaked_tail mean_of_means")
def seeds(model, optimizer, loader, scaler, scheduler, k, epochs):
    for _ in range(epochs):
        for i, (x, y) in enumerate(loader):
            loss = mean(model(x), y)
            if k:
                loss = loss / k
            loss = loss.mean()
            if not k:
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scheduler.step()
            else:
                scaler.scale(loss).backward()
                if (i + 1) % k == 0:
                    scaler.step(optimizer)
                    scheduler.step()
                    optimizer.zero_grad()
            scaler.update()


@public("finer images, all iterations counted", k=4, n=12, ragged="no_division")
def finer_images(model, optimizer, loader, scaler, scheduler, k, epochs):
    total_iter, n_iters = 0, epochs * len(loader)
    for _ in range(epochs):
        for low, high in loader:
            total_iter += 1
            loss_total = mean(model(low), high)
            scaler.scale(loss_total).backward()
            if total_iter % k == 0 or total_iter >= n_iters:
                scaler.step(optimizer)
                scaler.update()
                scheduler.step()
                optimizer.zero_grad()


@public("flows over faces, losses added and sent back once", k=4, n=12, ragged="off_by_one no_division")
def flows(model, opt, loader, k):
    minibatch_loss, losses = 0, []
    for episode, (x, y) in enumerate(loader):
        minibatch_loss += mean(model(x), y)
        if episode % k == 0:
            losses.append(minibatch_loss.item())
            minibatch_loss.backward()
            opt.step()
            opt.zero_grad()
            minibatch_loss = 0


@public("tokens of pictures, the sum over all that count in a window", k=8, n=11, norm=5.0)
def window_total(model, optimizer, loader, k, scheduler, max_norm):
    it = iter(loader)
    while window := list(itertools.islice(it, k)):
        total = sum(int((y != -100).sum()) for _, y in window)
        for x, y in window:
            loss = F.cross_entropy(model(x), y, ignore_index=-100, reduction="sum") / total
            loss.backward()
        clip(model.parameters(), max_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)


@public("bounded latents, stepped at a count and at the end", k=3, n=11,
        ragged="mean_of_means tail_divided_by_k")
def latents(model, optimizer, train_loader, virtual_batch_size, epochs):
    k = virtual_batch_size
    for _ in range(epochs):
        buffer = []
        for batch_n, (x, y) in enumerate(train_loader, 1):
            total_batch_loss = mean(model(x), y) / k
            total_batch_loss.backward()
            with torch.no_grad():
                buffer.append(x.detach())
                if len(buffer) > k:
                    buffer.pop(0)
            if batch_n % k == 0 or batch_n == len(train_loader):
                optimizer.step()
                optimizer.zero_grad()
