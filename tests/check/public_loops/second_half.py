"""The second half of the public loops: see the package."""
# ruff: noqa: SIM113 - counters are as their authors keep them
# fmt: off

import itertools
import math

import torch
from torch.nn import functional as F

from .shared import clip, mean, public, summed


@public("facebookresearch/DPR, 2020, dense encoder", k=3, n=11, norm=0.2,
        ragged="clipped_per_micro_batch leaked_tail mean_of_means")
def dpr(model, optimizer, train_data, gradient_accumulation_steps, max_grad_norm, lr_scheduler):
    rolling = 0.0
    model.train()
    for i, (x, y) in enumerate(train_data):
        loss = mean(model(x), y)
        if gradient_accumulation_steps > 1:
            loss = loss / gradient_accumulation_steps
        rolling += loss.item()
        loss.backward()
        if max_grad_norm > 0:
            clip(model.parameters(), max_grad_norm)
        if (i + 1) % gradient_accumulation_steps == 0:
            optimizer.step()
            lr_scheduler.step()
            model.zero_grad()


@public("microsoft/DialoGPT, 2019", k=3, n=12, ragged="weighted_by_samples wrong_denominator", even="")
def dialo_gpt(model, optimizer, train_dataloader, gradient_accumulation_steps, epochs):
    train_batch_size = train_dataloader.batch_size * gradient_accumulation_steps
    step = 0
    for _ in range(epochs):
        for x, y in train_dataloader:
            loss = mean(model(x), y)
            loss = loss / (train_batch_size / x.shape[0])  # the last batch may be smaller
            loss.backward()
            step += 1
            if step % gradient_accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()


@public("a trainer with a closure for the step", k=3, n=11, norm=1.0, ragged="mean_of_means")
def optimizer_step_inside(model, optimizer, loader, k, max_norm, scheduler, logger, epoch):
    accum_loss, micro_accum = 0.0, 0

    def optimizer_step(*, micro_count):
        nonlocal accum_loss, micro_accum
        for p in model.parameters():
            if p.grad is not None:
                p.grad.div_(micro_count)
        clip(model.parameters(), max_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        logger.log({"train/loss": accum_loss / micro_count, "epoch": epoch})
        accum_loss, micro_accum = 0.0, 0

    optimizer.zero_grad(set_to_none=True)
    for x, y in loader:
        loss = mean(model(x), y)
        loss.backward()
        accum_loss += loss.item()
        micro_accum += 1
        if micro_accum == k:
            optimizer_step(micro_count=k)
    if micro_accum > 0:
        optimizer_step(micro_count=micro_accum)


@public("microsoft/CodeBERT, 2020, GraphCodeBERT, clone detection", k=8, n=11, norm=0.2,
        ragged="clipped_per_micro_batch leaked_tail mean_of_means")
def graph_code_bert(model, optimizer, loader, gradient_accumulation_steps, max_grad_norm, scheduler):
    tr_num, train_loss = 0, 0.0
    for step, batch in enumerate(loader):
        x, y = [t.to("cpu") for t in batch]
        model.train()
        loss = mean(model(x), y)
        if gradient_accumulation_steps > 1:
            loss = loss / gradient_accumulation_steps
        loss.backward()
        clip(model.parameters(), max_grad_norm)
        tr_num += 1
        train_loss += loss.item()
        if (step + 1) % gradient_accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()


@public("huggingface/transformers, 2024, a subclassed trainer", k=8, n=11, norm=1.0)
def subclassed_trainer(model, optimizer, loader, gradient_accumulation_steps, max_grad_norm, lr_scheduler):
    def get_batch_samples(iterator, number):
        batch_samples = list(itertools.islice(iterator, number))
        return batch_samples, sum(int(y.ne(-100).sum()) for _, y in batch_samples)

    iterator, step = iter(loader), -1
    while True:
        batch_samples, num_items_in_batch = get_batch_samples(iterator, gradient_accumulation_steps)
        if not batch_samples:
            break
        for i, (x, y) in enumerate(batch_samples):
            step += 1
            do_sync = (step + 1) % gradient_accumulation_steps == 0 or step + 1 == len(loader)
            (summed(model(x), y) / num_items_in_batch).backward()
            if do_sync:
                assert i + 1 == len(batch_samples)
                clip(model.parameters(), max_grad_norm)
                optimizer.step()
                lr_scheduler.step()
                model.zero_grad()


@public("microsoft/CodeBERT, 2020, code to text", k=4, n=12, ragged="off_by_one mean_of_means")
def code_to_text(model, optimizer, loader, gradient_accumulation_steps, scheduler, epochs):
    nb_tr_steps, tr_loss, stream = 0, 0.0, itertools.cycle(loader)
    for _ in range(epochs * len(loader)):
        x, y = next(stream)
        loss = mean(model(x), y)
        if gradient_accumulation_steps > 1:
            loss = loss / gradient_accumulation_steps
        tr_loss += loss.item()
        nb_tr_steps += 1
        loss.backward()
        if (nb_tr_steps + 1) % gradient_accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()


@public("SafeAILab/EAGLE, 2023", k=3, n=11)
def eagle(model, optimizer, dataloader, gradient_accumulation_steps):
    training_iterator, number = iter(dataloader), len(dataloader)
    remainder = number % gradient_accumulation_steps
    remainder = remainder if remainder != 0 else gradient_accumulation_steps
    total_updates = math.ceil(number / gradient_accumulation_steps)
    losses = []
    for update_step in range(total_updates):
        samples, accum_loss = [], 0.0
        for _ in range(gradient_accumulation_steps if update_step != total_updates - 1 else remainder):
            samples += [next(training_iterator)]
        num_items_in_batch = sum([(y != -100).sum() for _, y in samples])
        for x, y in samples:
            loss = summed(model(x), y) / num_items_in_batch
            loss.backward()
            accum_loss += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(accum_loss)
    return losses


@public("WongKinYiu/yolov7, 2022", k=4, n=11, ragged="off_by_one weighted_by_samples no_division")
def yolov7(model, optimizer, dataloader, accumulation_steps, scaler, ema, epochs):
    nb = len(dataloader)
    for epoch in range(epochs):
        optimizer.zero_grad()
        for i, (imgs, targets) in enumerate(dataloader):
            ni = i + nb * epoch
            loss = mean(model(imgs), targets) * imgs.shape[0]
            scaler.scale(loss).backward()
            if ni % accumulation_steps == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                ema.update_parameters(model)


@public("hyperion-ml/hyperion, x-vectors", k=3, n=11, norm=5.0, ragged="dropped_tail mean_of_means")
def hyperion(model, optimizer, data_loader, accumulation_steps, scaler, grad_clip, lr_scheduler):
    for batch, (data, target) in enumerate(data_loader):
        if batch % accumulation_steps == 0:
            optimizer.zero_grad()
        loss = mean(model(data), target) / accumulation_steps
        scaler.scale(loss).backward()
        if (batch + 1) % accumulation_steps == 0:
            scaler.unscale_(optimizer)
            clip(model.parameters(), grad_clip)
            scaler.step(optimizer)
            scaler.update()
            lr_scheduler.step()


@public("lucidrains/x-transformers, 2020, enwik8", k=4, n=11, norm=0.5, ragged="leaked_tail mean_of_means")
def x_transformers(model, optim, train_loader, accum_steps, epochs, max_grad_norm):
    def cycle(loader):
        while True:
            yield from loader

    loader = cycle(train_loader)
    for _ in range(epochs * len(train_loader) // accum_steps):
        model.train()
        for _micro in range(accum_steps):
            x, y = next(loader)
            (mean(model(x), y) / accum_steps).backward()
        clip(model.parameters(), max_grad_norm)
        optim.step()
        optim.zero_grad()


@public("NVlabs/edm, 2022", k=4, n=12, ragged="wrong_denominator")
def edm(model, optimizer, loader, accumulation_steps, ema, epochs):
    dataset_iterator, cur_nimg = itertools.cycle(loader), 0
    batch_size = loader.batch_size * accumulation_steps
    for _ in range(epochs * len(loader) // accumulation_steps):
        optimizer.zero_grad(set_to_none=True)
        for _round in range(accumulation_steps):
            images, labels = next(dataset_iterator)
            loss = F.cross_entropy(model(images), labels, reduction="none", ignore_index=-100)
            loss.sum().mul(1.0 / batch_size).backward()
        for g in optimizer.param_groups:
            g["lr"] = 0.05 * min((cur_nimg + 9) / 100, 1)
        for param in model.parameters():
            if param.grad is not None:
                torch.nan_to_num(param.grad, nan=0, posinf=1e5, neginf=-1e5, out=param.grad)
        optimizer.step()
        ema.update_parameters(model)
        cur_nimg += batch_size


@public("karpathy/nanoGPT, 2022", k=4, n=12, norm=1.0, ragged="mean_of_means")
def nano_gpt(model, optimizer, batches, gradient_accumulation_steps, grad_clip, scaler, epochs):
    stream = itertools.cycle(batches)
    x, y = next(stream)
    for _ in range(epochs * len(batches) // gradient_accumulation_steps):
        for _micro in range(gradient_accumulation_steps):
            loss = mean(model(x), y) / gradient_accumulation_steps
            x, y = next(stream)
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip(model.parameters(), grad_clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)


@public("joeynmt/joeynmt, 2019", k=4, n=11, norm=5.0, ragged="mean_of_means dropped_tail")
def joey_nmt(model, optimizer, batches, accumulation_steps, scheduler, grad_clip):
    model.train()
    model.zero_grad()
    total_batch_loss = 0.0
    for i, (x, y) in enumerate(batches):
        batch_loss = summed(model(x), y)
        norm_batch_loss = batch_loss / int((y != -100).sum()) / accumulation_steps
        norm_batch_loss.backward()
        total_batch_loss += norm_batch_loss.item()
        if (i + 1) % accumulation_steps == 0:
            clip(model.parameters(), grad_clip)
            optimizer.step()
            scheduler.step()
            model.zero_grad()
            total_batch_loss = 0.0


@public("huggingface/pytorch-image-models, 2023", k=4, n=11, norm=1.0, ragged="mean_of_means")
def timm(model, optimizer, loader, accum_steps, clip_grad, scheduler):
    last_accum_steps = len(loader) % accum_steps
    last_batch_idx = len(loader) - 1
    last_batch_idx_to_accum = len(loader) - last_accum_steps
    optimizer.zero_grad()
    for batch_idx, (x, y) in enumerate(loader):
        need_update = batch_idx == last_batch_idx or (batch_idx + 1) % accum_steps == 0
        if batch_idx >= last_batch_idx_to_accum:
            accum_steps = last_accum_steps
        loss = mean(model(x), y)
        if accum_steps > 1:
            loss /= accum_steps
        loss.backward()
        if need_update:
            clip(model.parameters(), clip_grad)
            optimizer.step()
        if not need_update:
            continue
        optimizer.zero_grad()
        scheduler.step()


@public("thunlp/OpenPrompt, 2021, all tasks are generation", k=3, n=12, norm=1.0,
        ragged="off_by_one clipped_per_micro_batch no_division")
def open_prompt_tutorial(model, optimizer, loader, gradient_accumulation_steps, max_grad_norm, epochs):
    actual_step, glb_step = 0, 0
    for _ in range(epochs):
        for x, y in loader:
            loss = mean(model(x), y)
            loss.backward()
            actual_step += 1
            if actual_step % gradient_accumulation_steps == 0:
                clip(model.parameters(), max_grad_norm)
                glb_step += 1
                if glb_step % 2 == 0:  # meant for the progress bar; the lines below are indented too far
                    optimizer.step()
                    optimizer.zero_grad()


@public("speechbrain/speechbrain, 2021", k=4, n=11, norm=5.0, ragged="dropped_tail mean_of_means")
def speechbrain(model, optimizer, train_set, grad_accumulation_steps, max_grad_norm, scaler):
    def fit_batch(x, y):
        should_step = step % grad_accumulation_steps == 0
        scaled_loss = scaler.scale(mean(model(x), y) / grad_accumulation_steps)
        assert scaled_loss.isfinite()
        scaled_loss.backward()
        if should_step:
            scaler.unscale_(optimizer)
            clip(model.parameters(), max_grad_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

    step = 0
    optimizer.zero_grad()
    for x, y in train_set:
        step += 1
        fit_batch(x, y)
    optimizer.zero_grad(set_to_none=True)


@public("stanford-futuredata/ColBERT, 2020", k=3, n=11, norm=2.0, ragged="mean_of_means tail_divided_by_k")
def colbert(model, optimizer, reader, accum_steps, max_norm):
    def batch_steps():
        for start in range(0, len(reader), accum_steps):
            yield reader[start : start + accum_steps]

    train_loss = None
    for steps in batch_steps():
        this_batch_loss = 0.0
        for queries, scores in steps:
            loss = mean(model(queries), scores)
            loss = loss / accum_steps
            loss.backward()
            this_batch_loss += loss.item()
        train_loss = this_batch_loss if train_loss is None else 0.999 * train_loss + 0.001 * this_batch_loss
        clip(model.parameters(), max_norm)
        optimizer.step()
        optimizer.zero_grad()


@public("Project-MONAI/tutorials, 2021, fourth place in RANZCR", k=4, n=12,
        ragged="no_division scheduler_per_micro_batch off_by_one")
def ranzcr(model, optimizer, loader, accumulation_steps, scheduler, scaler, epoch):
    iteration = epoch  # each epoch begins with another number
    for x, y in loader:
        iteration += 1
        loss = mean(model(x), y)
        scaler.scale(loss).backward()
        if iteration % accumulation_steps == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        scheduler.step()


@public("hy-struggle/PRGC, 2021", k=2, n=11, ragged="leaked_tail mean_of_means")
def prgc(model, optimizer, loader, gradient_accumulation_steps):
    averages = []
    for step, batch in enumerate(loader):
        loss = mean(model(batch[0]), batch[1])
        if gradient_accumulation_steps > 1:
            loss = loss / gradient_accumulation_steps
        loss.backward()
        if (step + 1) % gradient_accumulation_steps == 0:
            optimizer.step()
            model.zero_grad()
        averages.append(loss.item() * gradient_accumulation_steps)


@public("jeonsworld/ViT-pytorch, 2020", k=2, n=11, norm=1.0, ragged="leaked_tail mean_of_means")
def vit_pytorch(model, optimizer, train_loader, gradient_accumulation_steps, max_grad_norm, scheduler, args):
    losses, global_step = [], 0
    for step, batch in enumerate(train_loader):
        x, y = tuple(t.to(args.device) for t in batch)
        loss = mean(model(x), y)
        if gradient_accumulation_steps > 1:
            loss = loss / gradient_accumulation_steps
        loss.backward()
        if (step + 1) % gradient_accumulation_steps == 0:
            losses.append(loss.item() * gradient_accumulation_steps)
            clip(model.parameters(), max_grad_norm)
            scheduler.step()
            optimizer.step()
            optimizer.zero_grad()
            global_step += 1


@public("zjunlp/DeepKE, 2021, few-shot relations", k=2, n=11, ragged="no_division")
def deepke_few_shot(model, optimizer, loader, accumulation_steps, scheduler):
    num_batch, gradient_accumulation = len(loader), 1  # two settings for one thing
    for index, (x, y) in enumerate(loader):
        loss = mean(model(x), y) / gradient_accumulation
        loss.backward()
        if (index + 1) % accumulation_steps == 0 or (index + 1) == num_batch:
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()


@public("namisan/mt-dnn, 2019", k=3, n=11, norm=2.0, ragged="leaked_tail mean_of_means")
def mt_dnn(model, optimizer, batches, accumulation_steps, max_grad_norm, scheduler, epochs):
    local_updates = 0

    def update(x, y):
        nonlocal local_updates
        loss = mean(model(x), y) / accumulation_steps
        loss.backward()
        local_updates += 1
        if local_updates % accumulation_steps == 0:
            if max_grad_norm > 0:
                clip(model.parameters(), max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()

    for _ in range(epochs):
        for x, y in batches:
            update(x, y)


@public("thunlp/OpenPrompt, 2021, its trainer", k=2, n=11, norm=1.0, ragged="dropped_tail mean_of_means")
def open_prompt_trainer(model, optimizer, loader, gradient_accumulation_steps, max_grad_norm, scheduler):
    optimizers, schedulers, sum_loss = [optimizer], [scheduler], 0.0
    model.zero_grad()
    for batch_idx, (x, y) in enumerate(loader):
        loss = mean(model(x), y)
        if gradient_accumulation_steps > 1:
            loss = loss / gradient_accumulation_steps
        sum_loss += loss.item()
        loss.backward()
        if (batch_idx + 1) % gradient_accumulation_steps == 0:
            if max_grad_norm > 0:
                clip(model.parameters(), max_grad_norm)
            for each in optimizers:
                each.step()
            for each in schedulers:
                each.step()
            for each in optimizers:
                each.zero_grad()
            sum_loss = 0.0


@public("OpenNMT/OpenNMT-py, 2017", k=4, n=11)
def open_nmt(model, optimizer, batches, accum):
    def accumulated(iterator):
        group, normalization = [], 0
        for batch in iterator:
            group.append(batch)
            normalization += int(batch[1].ne(-100).sum())
            if len(group) == accum:
                yield group, normalization
                group, normalization = [], 0
        if group:
            yield group, normalization

    for group, normalization in accumulated(batches):
        optimizer.zero_grad(set_to_none=True)
        for x, y in group:
            loss = summed(model(x), y)
            loss /= normalization
            loss.backward()
        optimizer.step()


@public("lucidrains/denoising-diffusion-pytorch, 2020", k=3, n=12, norm=1.0, ragged="mean_of_means")
def denoising_diffusion(model, opt, dl, accumulate_steps, epochs, max_grad_norm, ema):
    stream, step, total = itertools.cycle(dl), 0, epochs * len(dl) // accumulate_steps
    while step < total:
        total_loss = 0.0
        for _ in range(accumulate_steps):
            x, y = next(stream)
            loss = mean(model(x), y) / accumulate_steps
            total_loss += loss.item()
            loss.backward()
        clip(model.parameters(), max_grad_norm)
        opt.step()
        opt.zero_grad()
        step += 1
        ema.update_parameters(model)


@public("meta-llama/llama-cookbook, 2023", k=8, n=11, norm=1.0, ragged="mean_of_means tail_divided_by_k")
def llama_cookbook(model, train_dataloader, optimizer, lr_scheduler, gradient_accumulation_steps, max_norm):
    model.train()
    total_loss, steps = 0.0, len(train_dataloader)
    for step, (x, y) in enumerate(train_dataloader):
        loss = mean(model(x), y)
        total_loss += loss.detach().float()
        loss = loss / gradient_accumulation_steps
        loss.backward()
        if (step + 1) % gradient_accumulation_steps == 0 or step == steps - 1:
            clip(model.parameters(), max_norm)
            optimizer.step()
            optimizer.zero_grad()
    lr_scheduler.step()


@public("a language model's trainer, the rest stepped after the loop", k=8, n=11, norm=1.0,
        ragged="mean_of_means tail_divided_by_k")
def rest_after_the_loop(
    model, optimizer, train_dataloader, grad_accumulation_steps, max_grad_norm, scheduler
):
    total_loss, global_step = 0.0, 0
    for step, (x, y) in enumerate(train_dataloader):
        loss = mean(model(x), y) / grad_accumulation_steps
        loss.backward()
        total_loss += loss.item() * grad_accumulation_steps
        if (step + 1) % grad_accumulation_steps == 0:
            clip(model.parameters(), max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            global_step += 1
    remaining_steps = len(train_dataloader) % grad_accumulation_steps
    if remaining_steps != 0:
        clip(model.parameters(), max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        global_step += 1
    return {"train_loss": total_loss / len(train_dataloader), "global_step": global_step}


@public("wenet-e2e/wenet, 2020", k=4, n=11, norm=5.0, ragged="leaked_tail mean_of_means")
def wenet(model, optimizer, loader, accum, grad_clip, scheduler):
    info = {"accum_grad": accum}
    for batch_idx, (x, y) in enumerate(loader):
        info["loss"] = mean(model(x), y)
        scaled_loss = info["loss"] / info["accum_grad"]
        scaled_loss.backward()
        if (batch_idx + 1) % info["accum_grad"] == 0:
            grad_norm = clip(model.parameters(), grad_clip)
            if torch.isfinite(grad_norm):
                optimizer.step()
            optimizer.zero_grad()
            scheduler.step()


@public("coqui-ai/Trainer, 2021", k=4, n=11, norm=2.0, ragged="mean_of_means tail_divided_by_k")
def coqui(model, optimizer, loader, grad_accum_steps, grad_clip, scheduler, criterion):
    for step, (x, y) in enumerate(loader):
        step_optimizer = True
        if ((step + 1) % grad_accum_steps != 0) and (step + 1 != len(loader)):
            step_optimizer = False
        loss = criterion(model(x), y) / float(grad_accum_steps)
        loss.backward()
        if step_optimizer:
            clip(model.parameters(), grad_clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)


@public("Lightning-AI/litgpt, 2023, LoRA", k=4, n=11, ragged="leaked_tail mean_of_means")
def litgpt_lora(model, optimizer, dataloader, k, scheduler, epochs):
    iter_num, iterator = 0, iter(dataloader)
    while iter_num < epochs * len(dataloader):
        iter_num += 1
        batch = next(iterator, None)
        if batch is None:
            iterator = iter(dataloader)
            batch = next(iterator)
        x, y = batch
        is_accumulating = iter_num % k != 0
        logits = torch.cat(model(x).split(3))
        (mean(logits, y) / k).backward()
        if not is_accumulating:
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
