"""Loops from a search of public code for strings such as ``% accum_iter == 0``, taken as they came.

The sources name no repository; each entry says what the loop trains. All were retold, and their faults
written down, before the first of them ran.
"""

# fmt: off

import itertools
from contextlib import nullcontext

import torch

from .shared import clip, mean, public, summed


@public("lesion segmentation, the rest stepped after the epoch", k=4, n=11,
        ragged="mean_of_means tail_divided_by_k")
def lesions(model, optimizer, loader, scaler, k, epochs):
    for _ in range(epochs):
        model.train()
        running = 0.0
        optimizer.zero_grad()
        for i, (images, labels) in enumerate(loader):
            loss = mean(model(images), labels) / k
            scaler.scale(loss).backward()
            if (i + 1) % k == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
            running += loss.item() * k
        if len(loader) % k != 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()


@public("a title generator's step, called by an engine that counts on", k=3, n=11,
        ragged="leaked_tail mean_of_means")
def engine_routine(model, optimizer, loader, scaler, accumulation_steps, epochs):
    class State:
        iteration = 0

    def routine(batch):
        model.train()
        loss = mean(model(batch[0]), batch[1])
        loss /= accumulation_steps
        scaler.scale(loss).backward()
        if State.iteration % accumulation_steps == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        return {"batch loss": loss.item()}

    for _ in range(epochs):
        for batch in loader:
            State.iteration += 1
            routine(batch)


@public("a classifier of reviews, accuracy taken in between", k=3, n=12, ragged="off_by_one mean_of_means")
def reviews(model, optimizer, train_loader, accumulation_steps, num_epochs):
    for _ in range(num_epochs):
        right = 0
        model.train()
        for batch_idx, (x, y) in enumerate(train_loader):
            model.train()
            loss = mean(model(x), y)
            loss /= accumulation_steps
            loss.backward()
            if batch_idx % accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()
            model.eval()
            with torch.no_grad():
                right += int((model(x).argmax(1) == y).sum())


@public("coughs from raw audio", k=2, n=11, norm=1.0, ragged="dropped_tail mean_of_means")
def coughs(model, optimizer, train_loader, scheduler, k, epochs):
    for _epoch in range(1, epochs + 1):
        model.train()
        optimizer.zero_grad()
        for i, (xb, yb) in enumerate(train_loader):
            loss = mean(model(xb), yb) / k
            loss.backward()
            if (i + 1) % k == 0:
                clip(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        scheduler.step()


@public("waveforms, another rate in the last epoch", k=3, n=11, ragged="mean_of_means tail_divided_by_k")
def waveforms(model, optimizer, train_loader, criterion, accumulation_steps, epochs):
    for epoch in range(epochs):
        if epoch == epochs - 1:
            for param_group in optimizer.param_groups:
                param_group["lr"] = 0.01
        model.train()
        optimizer.zero_grad()
        for i, (waves, labels) in enumerate(train_loader):
            loss = criterion(model(waves), labels) / accumulation_steps
            loss.backward()
            if (i + 1) % accumulation_steps == 0 or (i + 1) == len(train_loader):
                optimizer.step()
                optimizer.zero_grad()


@public("medical records, counted from one", k=8, n=11, ragged="dropped_tail mean_of_means")
def records(model, loader, optimizer, criterion, device, grad_accum):
    model.train()
    running = 0.0
    optimizer.zero_grad(set_to_none=True)
    for step, batch in enumerate(loader, start=1):
        inputs, labels = batch[0].to(device), batch[1].to(device)
        loss = criterion(model(inputs), labels) / grad_accum
        loss.backward()
        if step % grad_accum == 0:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        running += loss.item() * grad_accum
    return running / max(1, len(loader))


@public("scenes in videos", k=3, n=11, ragged="leaked_tail mean_of_means")
def scenes(model, opt, items, scaler, grad_accum, epochs):
    for _ in range(epochs):
        for step, (x, y) in enumerate(items):
            h = model(x)
            loss = mean(h, y)
            scaler.scale(loss / grad_accum).backward()
            if (step + 1) % grad_accum == 0:
                scaler.step(opt)
                scaler.update()
                opt.zero_grad(set_to_none=True)
    return model


@public("a decoder of embeddings", k=4, n=11, ragged="leaked_tail mean_of_means")
def embedding_decoder(model, optimizer, loader, scheduler, grad_accum, epochs):
    micro_step = global_step = 0
    optimizer.zero_grad(set_to_none=True)
    for _ in range(epochs):
        for x, y in loader:
            micro_step += 1
            loss = mean(model(x), y)
            (loss / grad_accum).backward()
            if micro_step % grad_accum == 0:
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                optimizer.zero_grad(set_to_none=True)
                global_step += 1


@public("a policy over moves, until so many updates", k=4, n=12, norm=1.0, ragged="mean_of_means")
def chess_policy(model, optimizer, dataloader, scaler, scheduler, grad_accum, epochs, grad_clip):
    step, grad_step, max_steps = 0, 0, epochs * len(dataloader) // grad_accum
    while grad_step < max_steps:
        for x, y in dataloader:
            if grad_step >= max_steps:
                break
            loss = mean(model(x), y)
            scaler.scale(loss / grad_accum).backward()
            if (step + 1) % grad_accum == 0:
                scaler.unscale_(optimizer)
                clip(model.parameters(), max_norm=grad_clip)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                scheduler.step()
                grad_step += 1
            step += 1


@public("scans with an auxiliary head", k=4, n=11, ragged="mean_of_means tail_divided_by_k")
def scans(model, optimizer, train_loader, scheduler, ema, grad_accum, epochs):
    for _ in range(epochs):
        train_loss = 0.0
        for batch_idx, (img, y) in enumerate(train_loader, 1):
            loss = mean(model(img), y)
            loss = loss / grad_accum
            loss.backward()
            if batch_idx % grad_accum == 0 or batch_idx == len(train_loader):
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
                ema.update_parameters(model)
            train_loss += loss.item() * grad_accum


@public("spans and sentences at once", k=2, n=11, norm=1.0, ragged="mean_of_means", even="tail_divided_by_k")
def spans(model, opt, train_dl, scaler, scheduler, grad_accum, max_norm):
    model.train()
    opt.zero_grad(set_to_none=True)
    total_loss = 0.0
    for step, (x, g) in enumerate(train_dl):
        logits, valid = model(x), g != -100
        l_g = mean(logits[valid], g[valid]) if valid.any() else torch.tensor(0.0)
        loss = l_g / grad_accum
        scaler.scale(loss).backward()
        if (step + 1) % grad_accum == 0 or (step + 1) == len(train_dl):
            scaler.unscale_(opt)
            clip(model.parameters(), max_norm)
            scaler.step(opt)
            scaler.update()
            scheduler.step()
            opt.zero_grad(set_to_none=True)
        total_loss += loss.item() * grad_accum


@public("body composition", k=8, n=11, norm=1.0, ragged="dropped_tail mean_of_means")
def body(model, optimizer, loader, scaler, scheduler, ema, grad_accum, grad_clip):
    optimizer.zero_grad(set_to_none=True)
    for step, (dxa, y) in enumerate(loader, start=1):
        loss = mean(model(dxa), y)
        loss = loss / grad_accum
        scaler.scale(loss).backward()
        if step % grad_accum == 0:
            if grad_clip and grad_clip > 0:
                scaler.unscale_(optimizer)
                clip(model.parameters(), grad_clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()
            ema.update_parameters(model)


@public("a language model's trainer class", k=4, n=11, norm=1.0, ragged="leaked_tail mean_of_means")
def trainer_class(model, optimizer, loader, scaler, scheduler, grad_accum, max_grad_norm, epochs):
    class Trainer:
        global_step = 0

        def train_epoch(self):
            model.train()
            for batch_idx, batch in enumerate(loader):
                out = {"loss": mean(model(batch[0]), batch[1])}
                loss = out["loss"]
                if isinstance(loss, tuple):
                    loss = loss[0]
                if loss.dim() > 0:
                    loss = loss.mean()
                loss = loss / grad_accum
                scaler.scale(loss).backward()
                if (batch_idx + 1) % grad_accum == 0:
                    scaler.unscale_(optimizer)
                    clip(model.parameters(), max_grad_norm)
                    scaler.step(optimizer)
                    scaler.update()
                    optimizer.zero_grad(set_to_none=True)
                    scheduler.step()
                    self.global_step += 1

    trainer = Trainer()
    for _ in range(epochs):
        trainer.train_epoch()


@public("linear probes, empty batches passed over", k=3, n=11, norm=2.0, ragged="dropped_tail mean_of_means")
def poisson(model, optimizer, data_loader, accum_iter, max_norm, epoch):
    optimizer.zero_grad()
    for data_iter_step, (examples, labels) in enumerate(data_loader):
        if examples.nelement() < 1:
            continue
        c_loss = mean(model(examples), labels)
        loss = c_loss
        loss_value = loss.item()
        if not torch.isfinite(torch.tensor(loss_value)):
            raise SystemExit(1)
        loss /= accum_iter
        loss.backward()
        if (data_iter_step + 1) % accum_iter == 0:
            if max_norm > 0.0:
                clip(model.parameters(), max_norm)
            optimizer.step()
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = 0.05 / (1 + epoch + data_iter_step / len(data_loader))


@public("frames in between frames", k=4, n=11, ragged="off_by_one mean_of_means tail_divided_by_k")
def frames(model, optimizer, loader, scaler, accum_iter, epochs):
    step, spe = 0, len(loader)

    def update(x, y):
        loss = mean(model(x), y) / accum_iter
        scaler.scale(loss).backward()
        if ((step + 1) % accum_iter == 0) or ((step + 1) % spe == 0):
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    for _ in range(epochs):
        for x, y in loader:
            update(x, y)
            step += 1


@public("energies of reactions", k=3, n=11, ragged="no_division")
def energies(model, optimizer, train_loader, criterion, accum_iter):
    losses = []
    for batch_idx, (x, y) in enumerate(train_loader):
        loss = criterion(model(x), y)
        losses.append(loss.item())
        loss.backward()
        if ((batch_idx + 1) % accum_iter == 0) or (batch_idx + 1 == len(train_loader)):
            optimizer.step()
            optimizer.zero_grad()


@public("faces from sketches, in place", k=2, n=11, ragged="leaked_tail mean_of_means")
def sketches(model, optimizer, loader, accumulation_steps, epochs):
    def training_step(batch_idx, real, sketch):
        loss = torch.zeros((), dtype=real.dtype if real.is_floating_point() else torch.get_default_dtype())
        loss = loss + mean(model(real), sketch)
        loss.div_(accumulation_steps)
        loss.backward()
        if (batch_idx + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()

    for _ in range(epochs):
        for batch_idx, (real, sketch) in enumerate(loader):
            training_step(batch_idx, real, sketch)


@public("preferences by odds", k=4, n=11, ragged="leaked_tail no_division")
def odds(model, optimizer, loader, scheduler, accumulation_steps, epochs):
    num_train_step = 0
    for _ in range(epochs):
        for x, y in loader:
            loss = mean(model(x), y)
            loss.backward()
            if num_train_step % accumulation_steps == accumulation_steps - 1:
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
            num_train_step += 1


@public("a network for volumes", k=3, n=11, norm=1.0, ragged="leaked_tail mean_of_means")
def volumes(net, optimizer, loader, scaler, scheduler, accumulation_steps, grad_clip_norm, epochs):
    for _ in range(epochs):
        net.train()
        epoch_loss = 0.0
        for step, batch in enumerate(loader, start=1):
            loss = mean(net(batch[0]), batch[1]) / accumulation_steps
            scaler.scale(loss).backward()
            if step % accumulation_steps == 0:
                scaler.unscale_(optimizer)
                clip(net.parameters(), grad_clip_norm)
                scaler.step(optimizer)
                scaler.update()
                scheduler.step()
                optimizer.zero_grad()
            epoch_loss += loss.item() * accumulation_steps


@public("a class that is asked before it counts", k=4, n=12, ragged="off_by_one mean_of_means")
def asked_first(model, optimizer, dataloader, accumulation_steps, epochs):
    class GradientAccumulator:
        def __init__(self):
            self.accumulation_steps, self._step_count = accumulation_steps, 0

        def step(self):
            self._step_count += 1

        def should_step(self):
            return self._step_count % self.accumulation_steps == 0

    accum = GradientAccumulator()
    for _ in range(epochs):
        for x, y in dataloader:
            loss = mean(model(x), y) / accum.accumulation_steps
            loss.backward()
            if accum.should_step():
                optimizer.step()
                optimizer.zero_grad()
            accum.step()


@public("policies by their rewards", k=3, n=12, norm=0.2, ragged="clipped_per_micro_batch mean_of_means")
def rewards(model, optimizer, loader, accumulation_steps, max_norm, epochs):
    train_step = 0
    for _ in range(epochs):
        for x, y in loader:
            loss = mean(model(x), y)
            loss = loss / accumulation_steps
            loss.backward()
            clip(filter(lambda p: p.requires_grad, model.parameters()), max_norm)
            if (train_step + 1) % accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()
            train_step += 1


@public("pretraining from scratch, an iterator begun again", k=4, n=11, norm=1.0,
        ragged="leaked_tail mean_of_means")
def from_scratch(model, optimizer, dataloader, scheduler, k, epochs, max_norm):
    step, total, data_iter = 0, epochs * len(dataloader) // k, iter(dataloader)
    while step < total:
        optimizer.zero_grad(set_to_none=True)
        accum_loss = 0.0
        for _ in range(k):
            try:
                bx, by = next(data_iter)
            except StopIteration:
                data_iter = iter(dataloader)
                bx, by = next(data_iter)
            loss = mean(model(bx), by) / k
            loss.backward()
            accum_loss += loss.item()
        clip(model.parameters(), max_norm)
        optimizer.step()
        scheduler.step()
        step += 1


@public("chat fine-tuning, tokens counted for the log alone", k=4, n=12, ragged="mean_of_means")
def chat(model, optimizer, loader, grad_accum_steps, epochs):
    train_iter, optimizers = itertools.cycle(loader), [optimizer]
    for step in range(epochs * len(loader) // grad_accum_steps):
        num_tokens = 0
        for _ in range(grad_accum_steps):
            x, y = next(train_iter)
            loss = mean(model(x), y)
            loss = loss / grad_accum_steps
            loss.backward()
            num_tokens += int((y >= 0).sum())
        for opt in optimizers:
            for group in opt.param_groups:
                group["lr"] = 0.05 * (1 - step / 100)
        for opt in optimizers:
            opt.step()
        model.zero_grad(set_to_none=True)


@public("a language model as in a lecture, the clip one level too deep", k=4, n=12, norm=0.3,
        ragged="clipped_per_micro_batch mean_of_means")
def lecture(model, optimizer, loader, grad_accum_steps, epochs, max_norm):
    stream = itertools.cycle(loader)
    for step in range(epochs * len(loader) // grad_accum_steps):
        optimizer.zero_grad()
        for _mini_step in range(grad_accum_steps):
            x, y = next(stream)
            loss = mean(model(x), y)
            loss = loss / grad_accum_steps
            loss.backward()
            clip(model.parameters(), max_norm)
        for param_group in optimizer.param_groups:
            param_group["lr"] = 0.05 / (1 + step)
        optimizer.step()


@public("a language model over several cards", k=2, n=12, norm=1.0, ragged="mean_of_means")
def several_cards(model, optimizer, loader, grad_accum_steps, epochs, max_norm, ddp=False):
    stream = itertools.cycle(loader)
    for _ in range(epochs * len(loader) // grad_accum_steps):
        optimizer.zero_grad()
        loss_accum = 0.0
        for micro_step in range(grad_accum_steps):
            x, y = next(stream)
            sync_context = model.no_sync() if ddp and micro_step < grad_accum_steps - 1 else nullcontext()
            with sync_context:
                loss = mean(model(x), y)
                loss = loss / grad_accum_steps
                loss_accum += loss.detach()
                loss.backward()
        clip(model.parameters(), max_norm)
        optimizer.step()


@public("masks of roofs, with a count of its own", k=3, n=11, norm=1.0,
        ragged="mean_of_means tail_divided_by_k")
def roofs(model, optimizer, train_loader, criterion, scheduler, k, max_norm):
    model.train()
    optimizer.zero_grad()
    accum_count = 0
    for i, (imgs, masks) in enumerate(train_loader):
        loss = criterion(model(imgs), masks) / k
        loss.backward()
        accum_count += 1
        if accum_count >= k or (i + 1) == len(train_loader):
            clip(model.parameters(), max_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            accum_count = 0


@public("pixels as tokens, each micro-batch over its own", k=4, n=12,
        ragged="no_division", even="no_division")
def pixels(model, optimizer, dataloader, scheduler, grad_accumulation_steps):
    batch_n, batch_loss = 0, 0.0
    optimizer.zero_grad()
    for step, (x, y) in enumerate(dataloader):
        loss = summed(model(x), y)
        num_tokens = int((y != -100).sum())
        batch_n += num_tokens
        batch_loss += loss.detach()
        (loss / num_tokens).backward()
        if (step + 1) % grad_accumulation_steps == 0:
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            batch_n, batch_loss = 0, 0.0


@public("a network of points, weights summed and divided by at the step", k=3, n=11)
def points(model, optimizer, loader, batches_per_step):
    weight_sum, train_size = 0.0, len(loader)
    for index, (x, y) in enumerate(loader, 1):
        weight_sum += int((y != -100).sum())
        loss = summed(model(x), y)
        loss.backward()
        if index % batches_per_step == 0 or index == train_size:
            for param in model.parameters():
                if param.grad is not None:
                    param.grad /= weight_sum
            optimizer.step()
            optimizer.zero_grad()
            weight_sum = 0


@public("boxes, only the last of each window", k=4, n=12, ragged="unused_micro_batches")
def boxes(model, opt, train_loader, loss_func, virtual_batches, epochs):
    accum_itr, train_loss = 0, []
    for _ in range(epochs):
        model.train()
        loss = 0.0
        for images, targets in train_loader:
            total_loss = loss_func(model(images), targets)
            loss += float(total_loss) / virtual_batches
            accum_itr += 1
            if accum_itr % virtual_batches == 0:
                opt.zero_grad()
                total_loss.backward()
                opt.step()
        train_loss.append(loss)
    return model, train_loss


@public("intents, counted from one and then again", k=4, n=12, ragged="off_by_one no_division")
def intents(model, optimizer, train_dataloader, scaler, scheduler, ema, iters_to_accumulate):
    model.train()
    for step, batch in enumerate(train_dataloader, start=1):
        loss = mean(model(batch[0]), batch[1])
        scaler.scale(loss).backward()
        if (step + 1) % iters_to_accumulate == 0:
            scaler.step(optimizer)
            scaler.update()
            ema.update_parameters(model)
            scheduler.step()
            model.zero_grad()


@public("a notebook's recipe: cleared, then stepped", k=2, n=12, ragged="not_moved")
def cleared_then_stepped(model, optim, loader, lr_scheduler, iters_to_accumulate):
    for it, (x, y) in enumerate(loader):
        loss = mean(model(x), y)
        loss.backward()
        if (it + 1) % iters_to_accumulate == 0:
            optim.zero_grad()
            optim.step()
            lr_scheduler.step()


@public("slides as bags of tiles, clip after the last of them", k=8, n=11, norm=1.0,
        ragged="mean_of_means tail_divided_by_k")
def slides(model, optimizer, train_loader, scheduler, virtual_batch_size, max_norm, epochs):
    for _ in range(epochs):
        accumulated_loss = 0.0
        for batch_idx, (x, y) in enumerate(train_loader):
            loss = mean(model(x), y)
            loss = loss / virtual_batch_size
            loss.backward()
            accumulated_loss += loss.item()
            if ((batch_idx + 1) % virtual_batch_size == 0) or (batch_idx + 1 == len(train_loader)):
                clip(model.parameters(), max_norm)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                accumulated_loss = 0


@public("weights' gradients divided by hand at the step", k=4, n=11, norm=5.0,
        ragged="leaked_tail mean_of_means")
def by_hand(model, optimizer, train_loader, accumulation_steps, max_norm, epochs):
    total_n_accumulations = 0
    for _ in range(epochs):
        for i, (x, y) in enumerate(train_loader):
            mean(model(x), y).backward()
            if (i + 1) % accumulation_steps == 0:
                for param in model.parameters():
                    if param.grad is not None:
                        param.grad /= accumulation_steps
                clip(model.parameters(), max_norm)
                optimizer.step()
                optimizer.zero_grad()
                total_n_accumulations += 1


@public("text classification by a large model, evaluated in between", k=8, n=11, norm=1.0,
        ragged="leaked_tail mean_of_means")
def evaluated_between(
    model, optimizer, train_dataloader, lr_scheduler, gradient_accumulation_steps, max_norm, epochs
):
    completed_steps = 0
    model.train()
    for _ in range(epochs):
        for step, (x, y) in enumerate(train_dataloader, start=1):
            loss = mean(model(x), y)
            loss = loss / gradient_accumulation_steps
            loss.backward()
            if step % gradient_accumulation_steps == 0:
                clip(model.parameters(), max_norm)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
                completed_steps += 1
            if step % (2 * gradient_accumulation_steps) == 0:
                model.eval()
                with torch.no_grad():
                    total_loss = sum(mean(model(a), b) for a, b in train_dataloader)
                assert total_loss > 0
                model.train()
