"""The first half of the public loops: see the package."""
# ruff: noqa: SIM113 - counters are as their authors keep them
# fmt: off

import itertools
import math

import torch
from torch.nn import functional as F

from .shared import clip, mean, public, summed


@public("an exposure network (Learning to See in the Dark)", k=4, n=11, ragged="off_by_one mean_of_means")
def see_in_the_dark(model, optim, dl, accum_iter):
    optim.zero_grad()
    accum_steps = accum_iter
    for idx, (low, high) in enumerate(dl):
        if idx % accum_iter == 0 and idx + accum_iter >= len(dl):
            accum_steps = len(dl) - idx
        err = mean(model(low), high)
        err = err / accum_steps
        err.backward()
        if idx != 0 and (idx % accum_iter == 0 or idx == len(dl) - 1):
            optim.step()
            optim.zero_grad()


@public("an SGD that multiplies the batch size", k=3, n=11, ragged="leaked_tail mean_of_means")
def multiplying_sgd(model, batches, accumulation_steps, epochs):
    class SGD(torch.optim.SGD):
        batch_counter = 0

        @torch.no_grad()
        def step(self):
            self.batch_counter += 1
            if self.batch_counter % accumulation_steps == 0:
                self.batch_counter = 0
                for p in itertools.chain.from_iterable(g["params"] for g in self.param_groups):
                    p.grad.div_(accumulation_steps)
                super().step()
                self.zero_grad()

    optimizer = SGD(model.parameters(), lr=0.05)
    for _ in range(epochs):
        for x, y in batches:
            mean(model(x), y).backward()
            optimizer.step()


@public("jingyaogong/minimind, 2024, supervised fine-tuning", k=8, n=11, norm=1.0,
        ragged="mean_of_means tail_divided_by_k")
def minimind_sft(model, optimizer, loader, args, scaler, epoch, grad_clip):
    for step, (x, y) in enumerate(loader, start=1):
        rate = 0.05 * (1 - 0.4 * (epoch * len(loader) + step) / (2 * len(loader)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        scaler.scale(mean(model(x), y) / args.accumulation_steps).backward()
        if step % args.accumulation_steps == 0:
            scaler.unscale_(optimizer)
            clip(model.parameters(), grad_clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
    if step % args.accumulation_steps != 0:
        clip(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@public("huggingface/pytorch-image-models, 2023, batches of several sizes", k=3, n=12,
        ragged="weighted_by_samples wrong_denominator", even="")
def timm_scaled(model, optimizer, loader, accum_steps):
    reference = len(loader[0][0])
    optimizer.zero_grad()
    for batch_idx, (x, y) in enumerate(loader):
        loss = mean(model(x), y)
        if accum_steps > 1:
            loss = loss / accum_steps
        local_scale = x.shape[0] / reference
        (local_scale * loss).backward()
        if (batch_idx + 1) % accum_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


@public("flairNLP/flair, 2018", k=3, n=11, norm=5.0, ragged="sum_not_mean")
def flair(model, optimizer, loader, k, max_grad_norm, scaler):
    def forward_loss(batch):
        x, y = batch
        return summed(model(x), y), int((y != -100).sum())

    for start in range(0, len(loader), k):
        model.zero_grad()
        batch_train_loss, batch_train_samples = 0.0, 0
        for batch_step in loader[start : start + k]:
            loss, datapoint_count = forward_loss(batch_step)
            batch_train_samples += datapoint_count
            batch_train_loss += loss.item()
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip(model.parameters(), max_grad_norm)
        scaler.step(optimizer)
        scaler.update()


@public("microsoft/Cream, 2022, MiniViT", k=4, n=11, norm=0.5,
        ragged="clipped_per_micro_batch mean_of_means dropped_tail")
def mini_swin(model, optimizer, data_loader, accumulation_steps, criterion, max_norm):
    optimizer.zero_grad()
    for idx, (samples, targets) in enumerate(data_loader):
        loss = criterion(model(samples), targets)
        loss = loss / accumulation_steps
        loss.backward()
        grad_norm = clip(model.parameters(), max_norm)
        if (idx + 1) % accumulation_steps == 0:
            assert grad_norm.isfinite()
            optimizer.step()
            optimizer.zero_grad()


@public("yangjianxin1/GPT2-chitchat, 2019", k=4, n=12, norm=0.3,
        ragged="clipped_per_micro_batch mean_of_means")
def gpt2_chitchat(model, optimizer, loader, gradient_accumulation_steps, max_grad_norm, scheduler):
    model.train()
    for batch_idx, (x, y) in enumerate(loader):
        try:
            loss = mean(model(x), y)
            if gradient_accumulation_steps > 1:
                loss = loss / gradient_accumulation_steps
            loss.backward()
            clip(model.parameters(), max_grad_norm)
            if (batch_idx + 1) % gradient_accumulation_steps == 0:
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        except RuntimeError as exception:
            if "out of memory" not in str(exception):
                raise


@public("nlpyang/PreSumm, 2019", k=4, n=12, ragged="sum_not_mean")
def pre_summ(model, optimizer, batches, accum_steps, epochs):
    def gradient_accumulation(true_batches):
        model.zero_grad()
        for x, y in true_batches:
            loss = F.cross_entropy(model(x), y, reduction="none", ignore_index=-100)
            loss = (loss * (y != -100)).sum()
            (loss / loss.numel()).backward()  # of a number: 1
        optimizer.step()

    true_batches = []
    for batch in itertools.chain.from_iterable([batches] * epochs):
        true_batches.append(batch)
        if len(true_batches) == accum_steps:
            gradient_accumulation(true_batches)
            true_batches = []


@public("zjunlp/DeepKE, 2021, document-level relations", k=3, n=12, norm=5.0,
        ragged="off_by_one mean_of_means")
def deepke_document(model, optimizer, loader, gradient_accumulation_steps, max_grad_norm, scheduler):
    total_loss = 0.0
    optimizer.zero_grad()
    for step, (x, y) in enumerate(loader):
        loss = mean(model(x), y) / gradient_accumulation_steps
        total_loss += loss.item()
        loss.backward()
        if step % gradient_accumulation_steps == 0:
            clip(model.parameters(), max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()


@public("microsoft/SimMIM, 2021", k=3, n=12, norm=0.3, ragged="clipped_per_micro_batch mean_of_means")
def simmim(model, optimizer, data_loader, accumulation_steps, scaler, max_norm, scheduler):
    optimizer.zero_grad()
    for idx, (img, mask) in enumerate(data_loader):
        loss = mean(model(img), mask)
        loss = loss / accumulation_steps
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip(model.parameters(), max_norm)
        if (idx + 1) % accumulation_steps == 0:
            scaler.step(optimizer)
            optimizer.zero_grad()
            scaler.update()
            scheduler.step()


@public("microsoft/unilm, 2021, AdaLM, named entities", k=8, n=11, norm=1.0,
        ragged="leaked_tail mean_of_means")
def adalm(model, optimizer, train_dataloader, gradient_accumulation_steps, max_grad_norm, scheduler, epochs):
    tr_loss, global_step = 0.0, 0
    model.zero_grad()
    for _ in range(int(epochs)):
        for step, batch in enumerate(train_dataloader):
            model.train()
            inputs = {"input": batch[0]}
            loss = mean(model(**inputs), batch[1])
            if gradient_accumulation_steps > 1:
                loss = loss / gradient_accumulation_steps
            loss.backward()
            tr_loss += loss.item()
            if (step + 1) % gradient_accumulation_steps == 0:
                if max_grad_norm > 0:
                    clip(model.parameters(), max_grad_norm)
                optimizer.step()
                scheduler.step()
                model.zero_grad()
                global_step += 1


@public("rasbt/LLMs-from-scratch, 2024, chapter 6", k=3, n=11, ragged="mean_of_means tail_divided_by_k")
def llms_from_scratch(model, optimizer, train_loader, accumulation_steps, device):
    examples_seen, global_step = 0, -1
    for batch_idx, (input_batch, target_batch) in enumerate(train_loader):
        loss = mean(model(input_batch.to(device)), target_batch.to(device))
        loss /= accumulation_steps
        loss.backward()
        is_update_step = (batch_idx + 1) % accumulation_steps == 0 or (batch_idx + 1) == len(train_loader)
        if is_update_step:
            optimizer.step()
            optimizer.zero_grad()
        examples_seen += input_batch.shape[0]
        global_step += 1


@public("facebookresearch/ConvNeXt, 2022", k=4, n=11, ragged="dropped_tail mean_of_means")
def convnext(model, criterion, data_loader, optimizer, device, update_freq, epoch, ema):
    steps_per_epoch = len(data_loader) // update_freq
    optimizer.zero_grad()
    for data_iter_step, (samples, targets) in enumerate(data_loader):
        step = data_iter_step // update_freq
        if step >= steps_per_epoch:
            continue
        if data_iter_step % update_freq == 0:
            for group in optimizer.param_groups:
                group["lr"] = 0.05 / (1 + epoch * steps_per_epoch + step)
        loss = criterion(model(samples.to(device)), targets.to(device))
        assert math.isfinite(loss.item())
        loss /= update_freq
        loss.backward()
        if (data_iter_step + 1) % update_freq == 0:
            optimizer.step()
            optimizer.zero_grad()
            ema.update_parameters(model)


@public("allenai/allennlp, 2020", k=3, n=11, norm=1.0, ragged="mean_of_means")
def allen_nlp(model, optimizer, data_loader, accumulation_steps, max_grad_norm, scheduler):
    iterator = iter(data_loader)
    groups = iter(lambda: list(itertools.islice(iterator, accumulation_steps)), [])
    losses = []
    for group in groups:
        optimizer.zero_grad()
        batch_loss = 0.0
        for x, y in group:
            loss = mean(model(x), y) / len(group)
            batch_loss += loss.item()
            loss.backward()
        losses.append(batch_loss)
        clip(model.parameters(), max_grad_norm)
        optimizer.step()
        scheduler.step()
    return sum(losses), len(losses)


@public("allenai/OLMo, 2024", k=4, n=11, ragged="wrong_denominator")
def olmo(model, optimizer, loader, accumulation_steps, scheduler):
    def train_step(micro_batches):
        optimizer.zero_grad(set_to_none=True)
        batch_size_in_tokens = sum(y.numel() for _, y in micro_batches)
        for x, y in micro_batches:
            ce_loss = summed(model(x), y)
            ce_loss = ce_loss / batch_size_in_tokens
            ce_loss.backward()
        optimizer.step()
        scheduler.step()

    for start in range(0, len(loader), accumulation_steps):
        train_step(loader[start : start + accumulation_steps])


@public("huawei-noah/Pretrained-Language-Model, 2021, AutoTinyBERT", k=4, n=12,
        ragged="wrong_scale mean_of_means")
def auto_tiny_bert(model, optimizer, loader, gradient_accumulation_steps):
    for step, (x, y) in enumerate(loader):
        for _sampled in range(2):  # a sub-model each time; all of them share the weights
            loss = mean(model(x), y)
            if gradient_accumulation_steps > 1:
                loss = loss / gradient_accumulation_steps
            loss.backward(retain_graph=True)
        if (step + 1) % gradient_accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


@public("KellerJordan/modded-nanogpt, 2024", k=2, n=12, ragged="mean_of_means")
def modded_nanogpt(model, optimizer, loader, accumulation_steps, scheduler, epochs):
    stream = itertools.cycle(loader)
    x, y = next(stream)
    for _ in range(epochs * len(loader) // accumulation_steps):
        for i in range(1, accumulation_steps + 1):
            loss = mean(model(x), y)
            x, y = next(stream)
            if i < accumulation_steps:
                loss.backward()  # without synchronizing, where there are several processes
            else:
                loss.backward()
        for p in model.parameters():
            p.grad /= accumulation_steps
        optimizer.step()
        scheduler.step()
        model.zero_grad(set_to_none=True)


@public("microsoft/CodeBERT, 2022, CodeReviewer", k=2, n=11, ragged="leaked_tail mean_of_means")
def code_reviewer(model, optimizer, loader, gradient_accumulation_steps, scheduler, epochs):
    for _ in range(1, epochs + 1):
        nb_tr_examples, nb_tr_steps, tr_loss = 0, 0, 0.0
        for x, y in loader:
            loss = mean(model(x), y)
            if gradient_accumulation_steps > 1:
                loss = loss / gradient_accumulation_steps
            tr_loss += loss.item()
            nb_tr_examples += x.size(0)
            nb_tr_steps += 1
            loss.backward()
            if nb_tr_steps % gradient_accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()


@public("eriklindernoren/PyTorch-YOLOv3, 2018", k=2, n=12, ragged="off_by_one no_division")
def pytorch_yolov3(model, optimizer, dataloader, k, epoch):
    for batch_i, (imgs, targets) in enumerate(dataloader):
        batches_done = len(dataloader) * epoch + batch_i
        loss = mean(model(imgs), targets)
        loss.backward()
        if batches_done % k == 0:
            lr = 0.05
            if batches_done < 5:
                lr *= (batches_done + 1) / 5
            for g in optimizer.param_groups:
                g["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()


@public("dbiir/UER-py, 2019", k=3, n=11, ragged="leaked_tail mean_of_means")
def uer(model, optimizer, loader, accumulation_steps, scheduler, epochs):
    def forward_propagation(batch):
        return mean(model(batch[0]), batch[1]) / accumulation_steps

    model.train()
    current_step, loader_iter = 1, itertools.cycle(loader)
    while current_step != epochs * len(loader) + 1:
        loss = forward_propagation(next(loader_iter))
        loss.backward()
        if current_step % accumulation_steps == 0:
            optimizer.step()
            scheduler.step()
            model.zero_grad()
        current_step += 1


@public("karpathy/nanochat, 2025, supervised fine-tuning", k=3, n=11, ragged="leaked_tail mean_of_means")
def nanochat(model, optimizer, loader, grad_accum_steps, epochs):
    stream, progress = itertools.cycle(loader), 0.0
    x, y = next(stream)
    total = epochs * len(loader) // grad_accum_steps
    for step in range(total):
        for _ in range(grad_accum_steps):
            loss = mean(model(x), y)
            loss = loss / grad_accum_steps
            loss.backward()
            x, y = next(stream)
            progress = max(progress, step / total)
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - 0.8 * progress)
        optimizer.step()
        model.zero_grad(set_to_none=True)


@public("microsoft/Swin-Transformer, 2021", k=2, n=11, norm=5.0, ragged="mean_of_means dropped_tail")
def swin(model, optimizer, data_loader, accumulation_steps, scheduler, criterion, max_norm):
    def native_scaler(loss, update_grad):
        loss.backward()
        if update_grad:
            clip(model.parameters(), max_norm)
            optimizer.step()

    model.train()
    optimizer.zero_grad()
    for idx, (samples, targets) in enumerate(data_loader):
        loss = criterion(model(samples), targets) / accumulation_steps
        native_scaler(loss, update_grad=(idx + 1) % accumulation_steps == 0)
        if (idx + 1) % accumulation_steps == 0:
            optimizer.zero_grad()
            scheduler.step()


@public("eth-sri/sven, 2023", k=2, n=12, norm=0.5, ragged="clipped_per_micro_batch mean_of_means")
def sven(model, optimizer, train_dataloader, accumulation_steps, max_grad_norm, scheduler, args, epochs):
    for _ in range(epochs):
        for step, batch in enumerate(train_dataloader):
            loss = mean(model(batch[0]), batch[1])
            loss /= accumulation_steps
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            if (step + 1) % accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()


@public("Tianxiaomo/pytorch-YOLOv4, 2020", k=4, n=11, ragged="no_division leaked_tail")
def pytorch_yolov4(model, optimizer, train_loader, k, scheduler, criterion, epochs):
    global_step = 0
    model.train()
    for _ in range(epochs):
        epoch_loss = 0.0
        for images, boxes in train_loader:
            global_step += 1
            loss = criterion(model(images), boxes)
            loss.backward()
            epoch_loss += loss.item()
            if global_step % k == 0:
                optimizer.step()
                scheduler.step()
                model.zero_grad()


@public("facebookresearch/ParlAI, 2017", k=4, n=11, norm=1.0, ragged="leaked_tail mean_of_means")
def parlai(model, optimizer, batches, update_freq, max_norm, epochs):
    number_grad_accum = 0
    for _ in range(epochs):
        for x, y in batches:
            if number_grad_accum == 0:
                optimizer.zero_grad()
            loss = mean(model(x), y)
            if update_freq > 1:
                loss = loss / update_freq
                number_grad_accum = (number_grad_accum + 1) % update_freq
            loss.backward()
            if update_freq > 1 and number_grad_accum != 0:
                continue
            clip(model.parameters(), max_norm)
            optimizer.step()


@public("salesforce/LAVIS, 2022", k=2, n=11, ragged="leaked_tail mean_of_means")
def lavis(model, optimizer, loader, k, scaler, epoch):
    for i, (x, y) in enumerate(loader):
        for group in optimizer.param_groups:  # by progress, in each iteration
            group["lr"] = 0.05 * 0.9 ** (epoch + i / len(loader))
        loss = mean(model(x), y)
        loss /= k
        scaler.scale(loss).backward()
        if (i + 1) % k == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()


@public("huawei-noah/Pretrained-Language-Model, 2021, BinaryBERT", k=4, n=11,
        ragged="leaked_tail mean_of_means")
def binary_bert(model, optimizer, train_dataloader, gradient_accumulation_steps, epochs):
    global_step, best = 0, math.inf
    for _ in range(epochs):
        for step, (x, y) in enumerate(train_dataloader):
            model.train()
            loss = mean(model(x), y)
            if gradient_accumulation_steps > 1:
                loss = loss / gradient_accumulation_steps
            loss.backward()
            if global_step % 5 == 0:
                model.eval()
                with torch.no_grad():
                    best = min(best, sum(float(mean(model(a), b)) for a, b in train_dataloader))
                model.train()
            if (step + 1) % gradient_accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()
            global_step += 1


@public("fast.ai, an AccumulateStep callback", k=4, n=12, ragged="off_by_one mean_of_means")
def accumulate_step_callback(model, optimizer, batches, k):
    def divide_and_step(count):
        for p in model.parameters():
            if p.requires_grad and p.grad is not None:
                p.grad.div_(count)
        optimizer.step()
        optimizer.zero_grad()

    acc_batches = 0
    for x, y in batches:
        acc_batches += 1
        mean(model(x), y).backward()
        if (acc_batches % k) == k - 1:
            divide_and_step(acc_batches)
            acc_batches = 0
    if acc_batches > 0:
        divide_and_step(acc_batches)


@public("Morizeyao/GPT2-Chinese, 2019", k=2, n=11, norm=0.5,
        ragged="clipped_per_micro_batch leaked_tail mean_of_means")
def gpt2_chinese(model, optimizer, loader, gradient_accumulation_steps, max_grad_norm, scheduler, epochs):
    overall_step, running_loss = 0, 0.0
    for _ in range(epochs):
        for x, y in loader:
            loss = mean(model(x), y)
            if gradient_accumulation_steps > 1:
                loss = loss / gradient_accumulation_steps
            loss.backward()
            clip(model.parameters(), max_grad_norm)
            if (overall_step + 1) % gradient_accumulation_steps == 0:
                running_loss += loss.item()
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
            overall_step += 1


@public("jzhang38/TinyLlama, 2023", k=2, n=12, norm=1.0, ragged="mean_of_means")
def tiny_llama(model, optimizer, train_dataloader, gradient_accumulation_steps, grad_clip, epochs):
    state, most = {"iter_num": 0, "step_count": 0}, epochs * len(train_dataloader)
    for x, y in itertools.chain.from_iterable(itertools.repeat(train_dataloader, epochs)):
        lr = 0.05 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * state["iter_num"] / most)))
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr
        is_accumulating = (state["iter_num"] + 1) % gradient_accumulation_steps != 0
        (mean(model(x), y) / gradient_accumulation_steps).backward()
        if not is_accumulating:
            clip(model.parameters(), grad_clip)
            optimizer.step()
            optimizer.zero_grad()
            state["step_count"] += 1
        state["iter_num"] += 1
