"""Training loops as strangers write them, each with the faults that somebody who knows it would name.

Written from the meaning of the codes alone, without a look at how the checker comes to its diagnosis. A
micro-batch is ``(inputs, labels)``, the label -100 is ignored, and the right loss is the mean cross-entropy
over all labels of a window that are not ignored. The expectations are for the first standard case, where
micro-batches count 5, 1, 7, 2, 4, 3, 6, 8 labels, K is 3, and two are left for the last window.
"""

import copy
import itertools
import math
from collections import defaultdict, deque
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, parameters_to_vector
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, OneCycleLR
from torch.utils.checkpoint import checkpoint

from .shared import chunks, counted, right, wrong

# --- What several of them use


def total_counted(window):
    return sum(counted(labels) for _, labels in window)


sum_loss = partial(F.cross_entropy, reduction="sum", ignore_index=-100)
mean_loss = partial(F.cross_entropy, ignore_index=-100)


# --- Right ones


@right
def right_islice_windows_known_divisor(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        divisor = total_counted(window)
        for x, y in window:
            (sum_loss(model(x), y) / divisor).backward()
        optimizer.step()
        optimizer.zero_grad()


@right
def right_modulo_sums_then_divided_grads(model, optimizer, loader, accum_steps):
    seen = 0
    for i, (x, y) in enumerate(loader, start=1):
        sum_loss(model(x), y).backward()
        seen += counted(y)
        if i % accum_steps == 0 or i == len(loader):
            with torch.no_grad():
                for p in model.parameters():
                    p.grad /= seen
            optimizer.step()
            optimizer.zero_grad()
            seen = 0


@right
def right_running_mean_in_a_dict(net, opt, data, k):
    mean, weight = {}, 0
    for i, (x, y) in enumerate(data):
        n = counted(y)
        if n:
            weight += n
            names, params = zip(*net.named_parameters(), strict=True)
            for name, g in zip(names, torch.autograd.grad(mean_loss(net(x), y), params), strict=True):
                old = mean.get(name, torch.zeros_like(g))
                mean[name] = old + (g - old) * (n / weight)
        if (i + 1) % k == 0 or i + 1 == len(data):
            for name, p in net.named_parameters():
                p.grad = mean[name]
            opt.step()
            mean, weight = {}, 0


@right
def right_closure_does_the_whole_window(model, optimizer, batches, accumulation_steps):
    losses = []
    for window in chunks(batches, accumulation_steps):

        def closure(window=window):
            optimizer.zero_grad()
            value = torch.zeros(())
            for x, y in window:
                loss = sum_loss(model(x), y) / total_counted(window)
                loss.backward()
                value = value + loss.detach()
            return value

        losses.append(float(optimizer.step(closure)))
    return losses


@right
def right_joined_losses_one_backward(model, optimizer, batches, accumulation_steps):
    pending, count = [], 0
    for i, (x, y) in enumerate(batches):
        pending.append(sum_loss(model(x), y))
        count += counted(y)
        if len(pending) == accumulation_steps or i == len(batches) - 1:
            optimizer.zero_grad()
            (torch.stack(pending).sum() / count).backward()
            optimizer.step()
            pending, count = [], 0


@right
def right_joined_losses_all_epochs(model, optimizer, batches, accumulation_steps, epochs):
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            logits = torch.cat([model(x) for x, _ in window])
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(logits, torch.cat([y for _, y in window])).backward()
            optimizer.step()


@right
def right_concatenates_the_data(model, optimizer, batches, accumulation_steps):
    for start in range(0, len(batches), accumulation_steps):
        xs, ys = zip(*batches[start : start + accumulation_steps], strict=True)
        optimizer.zero_grad(set_to_none=False)
        mean_loss(model(torch.cat(xs)), torch.cat(ys)).backward()
        optimizer.step()


@right
def right_a_backward_for_every_row(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        n = total_counted(window)
        optimizer.zero_grad()
        for x, y in window:
            for row, label in zip(x, y, strict=True):
                if label != -100:
                    (-torch.log_softmax(model(row[None]), -1)[0, label] / n).backward()
        optimizer.step()


@right
def right_two_backwards_of_one_graph(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            loss = sum_loss(model(x), y) / total_counted(window)
            (0.25 * loss).backward(retain_graph=True)
            (0.75 * loss).backward()
        optimizer.step()
        optimizer.zero_grad()


@right
def right_gradients_by_halves(model, optimizer, batches, accumulation_steps):
    params = list(model.parameters())
    lower, upper = params[:3], params[3:]
    for window in chunks(batches, accumulation_steps):
        n = total_counted(window)
        for p in params:
            p.grad = torch.zeros_like(p)
        for x, y in window:
            loss = sum_loss(model(x), y)
            grads = torch.autograd.grad(loss, upper, retain_graph=True)
            for p, g in zip(upper, grads, strict=True):
                p.grad.add_(g, alpha=1 / n)
            for p, g in zip(lower, torch.autograd.grad(loss, lower), strict=True):
                p.grad.add_(g, alpha=1 / n)
        optimizer.step()


@right
def right_functional_call(model, optimizer, batches, accumulation_steps):
    def objective(weights, x, y):
        return sum_loss(torch.func.functional_call(model, weights, (x,)), y)

    for window in chunks(batches, accumulation_steps):
        weights = {name: p.detach() for name, p in model.named_parameters()}
        parts = [torch.func.grad(objective)(weights, x, y) for x, y in window]
        for name, p in model.named_parameters():
            p.grad = sum(part[name] for part in parts) / total_counted(window)
        optimizer.step()


@right
def right_own_adamw(model, batches, accumulation_steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for window in chunks(batches, accumulation_steps):
        n = total_counted(window)
        for x, y in window:
            sum_loss(model(x), y).div(n).backward()
        optimizer.step()
        optimizer.zero_grad()


@right
def right_two_optimizers(model, batches, accumulation_steps):
    matrices = torch.optim.SGD([p for p in model.parameters() if p.ndim > 1], lr=0.05, momentum=0.9)
    vectors = torch.optim.Adam([p for p in model.parameters() if p.ndim == 1], lr=1e-3)
    for window in chunks(batches, accumulation_steps):
        matrices.zero_grad()
        vectors.zero_grad()
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        matrices.step()
        vectors.step()


@right
def right_hooks_divide(model, optimizer, batches, accumulation_steps):
    divisor = [1]
    handles = [p.register_hook(lambda g: g / divisor[0]) for p in model.parameters()]
    try:
        for window in chunks(batches, accumulation_steps):
            divisor[0] = total_counted(window)
            for x, y in window:
                sum_loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    finally:
        for handle in handles:
            handle.remove()


@right
def right_means_times_counts_skips_empty(model, optimizer, batches, accumulation_steps):
    criterion = nn.CrossEntropyLoss()
    n_window = 0
    optimizer.zero_grad()
    for done, (x, y) in enumerate(batches, 1):
        if (n := counted(y)) > 0:
            (criterion(model(x), y) * n).backward()
            n_window += n
        if done % accumulation_steps == 0 or done == len(batches):
            for p in model.parameters():
                p.grad.mul_(1 / n_window)
            optimizer.step()
            optimizer.zero_grad()
            n_window = 0


@right
def right_foreach_buffers(model, optimizer, batches, accumulation_steps):
    params = [p for group in optimizer.param_groups for p in group["params"]]
    buffers = [torch.zeros_like(p) for p in params]
    for window in chunks(batches, accumulation_steps):
        torch._foreach_zero_(buffers)
        for x, y in window:
            torch._foreach_add_(buffers, torch.autograd.grad(sum_loss(model(x), y), params))
        torch._foreach_div_(buffers, float(total_counted(window)))
        for p, b in zip(params, buffers, strict=True):
            p.grad = b.clone()
        optimizer.step()


@right
def right_flat_vector_of_gradients(model, optimizer, batches, accumulation_steps):
    flat, n = 0.0, 0
    for i, (x, y) in enumerate(batches):
        model.zero_grad()
        sum_loss(model(x), y).backward()
        flat = flat + parameters_to_vector([p.grad for p in model.parameters()]).detach().clone()
        n += counted(y)
        if i % accumulation_steps == accumulation_steps - 1 or i == len(batches) - 1:
            pieces = (flat / n).split([p.numel() for p in model.parameters()])
            for p, piece in zip(model.parameters(), pieces, strict=True):
                p.grad.copy_(piece.view_as(p))
            optimizer.step()
            flat, n = 0.0, 0


@right
def right_scheduler_once_an_epoch(model, optimizer, batches, accumulation_steps, scheduler):
    losses = []
    for window in chunks(batches, accumulation_steps):
        total, n = 0.0, total_counted(window)
        for x, y in window:
            loss = sum_loss(model(x), y)
            (loss / n).backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total / n)
    scheduler.step()
    return losses


@right
def right_scheduler_ema_and_tensor_losses(model, optimizer, batches, accumulation_steps, scheduler, ema):
    losses = []
    for window in chunks(batches, accumulation_steps):
        parts = [sum_loss(model(x), y) / total_counted(window) for x, y in window]
        optimizer.zero_grad()
        torch.autograd.backward(parts)
        optimizer.step()
        scheduler.step()
        ema.update_parameters(model)
        losses.append(torch.stack(parts).sum().detach())
    return tuple(losses)


@right
def right_stochastic_weight_averaging(model, optimizer, batches, accumulation_steps, ema_model):
    """The average is taken once an epoch, which is what SWA is."""
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        optimizer.step()
        optimizer.zero_grad()
    ema_model.update_parameters(model)


@right
def right_clips_once(model, optimizer, batches, accumulation_steps, max_grad_norm):
    for window in chunks(batches, accumulation_steps):
        n = total_counted(window)
        for x, y in window:
            (sum_loss(model(x), y) / n).backward()
        if max_grad_norm is not None:
            clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()


@right
def right_clips_by_hand(model, optimizer, batches, accumulation_steps, clip_norm):
    params = list(model.parameters())
    for window in chunks(batches, accumulation_steps):
        sums = [torch.zeros_like(p) for p in params]
        for x, y in window:
            grads = torch.autograd.grad(sum_loss(model(x), y), params)
            sums = [s + g for s, g in zip(sums, grads, strict=True)]
        norm = math.sqrt(sum(float(s.square().sum()) for s in sums)) / total_counted(window)
        factor = 1.0 if clip_norm is None else min(1.0, clip_norm / norm)
        for p, s in zip(params, sums, strict=True):
            p.grad = s * (factor / total_counted(window))
        optimizer.step()


@right
def right_clips_by_hand_after_backward(model, optimizer, batches, accumulation_steps, max_norm):
    """The formula as it is in the papers, without the 1e-6 that PyTorch adds to the norm."""
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        if max_norm is not None and norm > max_norm:
            for p in model.parameters():
                p.grad.mul_(max_norm / norm)
        optimizer.step()
        optimizer.zero_grad()


@right
def right_value_clip_that_never_bites(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
            clip_grad_value_(model.parameters(), 1e3)
        optimizer.step()
        optimizer.zero_grad()


@right
def right_scaled_and_unscaled(model, optimizer, batches, accumulation_steps):
    """Loss scaling by hand, as GradScaler does it."""
    scale = 2.0**12
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (scale * sum_loss(model(x), y) / total_counted(window)).backward()
        with torch.no_grad():
            for p in model.parameters():
                p.grad.mul_(1 / scale)
        optimizer.step()
        optimizer.zero_grad()


@right
def right_grad_scaler(model, optimizer, batches, accumulation_steps):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            scaler.scale(sum_loss(model(x), y) / total_counted(window)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


@right
def right_zeroes_at_the_start_of_windows(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        if i % accumulation_steps == 0:
            for p in model.parameters():
                if p.grad is not None:
                    p.grad.detach_()
                    p.grad.zero_()
            n = total_counted(batches[i : i + accumulation_steps])
        sum_loss(model(x), y).div(n).backward()
        if (i + 1) % accumulation_steps == 0 or (i + 1) == len(batches):
            optimizer.step()


@right
def right_counter_lives_on_the_model(model, optimizer, batches, accumulation_steps):
    """The counter outlives the epoch, and the flush at the epoch's end resets it."""
    model.waiting = getattr(model, "waiting", 0)
    n = 0
    for i, (x, y) in enumerate(batches):
        sum_loss(model(x), y).backward()
        n += counted(y)
        model.waiting += 1
        if model.waiting == accumulation_steps or i == len(batches) - 1:
            for p in model.parameters():
                p.grad = p.grad / n
            optimizer.step()
            optimizer.zero_grad()
            model.waiting = n = 0


@right
def right_scheduler_made_inside(model, optimizer, batches, accumulation_steps, epochs):
    updates = epochs * -(-len(batches) // accumulation_steps)
    scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=updates + 1, cycle_momentum=False)
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            for x, y in window:
                (sum_loss(model(x), y) / total_counted(window)).backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()


@right
def right_looks_at_norms_and_validates(model, optimizer, batches, accumulation_steps):
    """Gradient norms of single micro-batches, and validation inside the window: both only look."""
    norms = []
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            loss = sum_loss(model(x), y) / total_counted(window)
            looked = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
            norms.append(torch.stack([g.norm() for g in looked]).norm().item())
            loss.backward()
            model.eval()
            with torch.no_grad():
                model(batches[0][0])
            model.train()
        optimizer.step()
        optimizer.zero_grad()


@right
def right_window_backwards(model, optimizer, batches, accumulation_steps):
    queue = deque()
    for i, batch in enumerate(batches):
        queue.appendleft(batch)
        if len(queue) < accumulation_steps and i < len(batches) - 1:
            continue
        n = total_counted(queue)
        for x, y in queue:
            sum_loss(model(x), y).backward(torch.tensor(1 / n, dtype=x.dtype))
        optimizer.step()
        optimizer.zero_grad()
        queue.clear()


@right
def right_gradients_moved_away_by_hooks(model, optimizer, batches, accumulation_steps):
    """As offloading does it: .grad is empty after each backward, the sums live elsewhere."""
    away = {}

    def move(p):
        away[p] = away[p] + p.grad if p in away else p.grad.clone()
        p.grad = None

    handles = [p.register_post_accumulate_grad_hook(move) for p in model.parameters()]
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        for p in model.parameters():
            p.grad = away.pop(p)
        optimizer.step()
        optimizer.zero_grad()
    for handle in handles:
        handle.remove()


@right
def right_checkpointed_through_a_function(model, optimizer, batches, accumulation_steps):
    def forward(x):
        return checkpoint(model, x, use_reentrant=False)

    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(forward(x), y) / total_counted(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


@right
def right_replicas_average(model, optimizer, batches, accumulation_steps):
    """Simulated data parallelism: each micro-batch has a copy of the model, gradients are gathered."""
    for window in chunks(batches, accumulation_steps):
        replicas = [copy.deepcopy(model) for _ in window]
        for replica, (x, y) in zip(replicas, window, strict=True):
            replica.zero_grad()
            sum_loss(replica(x), y).backward()
        for mine, *theirs in zip(model.parameters(), *(r.parameters() for r in replicas), strict=True):
            mine.grad = torch.stack([t.grad for t in theirs]).sum(0) / total_counted(window)
        optimizer.step()
        optimizer.zero_grad()


@right
def right_an_optimizer_for_each_parameter(model, batches, accumulation_steps):
    """Optimizer in the backward pass: each parameter steps as soon as its gradient is there."""
    optimizers = {p: torch.optim.SGD([p], lr=0.05) for p in model.parameters()}

    def update(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    handles = [p.register_post_accumulate_grad_hook(update) for p in model.parameters()]
    for window in chunks(batches, accumulation_steps):
        logits = torch.cat([model(x) for x, _ in window])
        mean_loss(logits, torch.cat([y for _, y in window])).backward()
    for handle in handles:
        handle.remove()


# --- Divisors and weights


@wrong("no_division")
def adds_mean_gradients_in_a_dict(model, optimizer, batches, accumulation_steps):
    buffer = defaultdict(float)
    for i, (x, y) in enumerate(batches):
        grads = torch.autograd.grad(mean_loss(model(x), y), list(model.parameters()))
        for (name, _), g in zip(model.named_parameters(), grads, strict=True):
            buffer[name] = buffer[name] + g
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            for name, p in model.named_parameters():
                p.grad = buffer[name]
            optimizer.step()
            buffer.clear()


@wrong("no_division")
def joins_means_by_addition(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        optimizer.zero_grad()
        sum(mean_loss(model(x), y) for x, y in window).backward()
        optimizer.step()


@wrong("no_division")
def no_division_own_rmsprop(model, batches, accumulation_steps):
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            criterion(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("mean_of_means")
def running_mean_of_gradients(model, optimizer, batches, accumulation_steps):
    params = list(model.parameters())
    for window in chunks(batches, accumulation_steps):
        mean = [torch.zeros_like(p) for p in params]
        for seen, (x, y) in enumerate(window, start=1):
            grads = torch.autograd.grad(mean_loss(model(x), y), params)
            for m, g in zip(mean, grads, strict=True):
                m.lerp_(g, 1 / seen)
        for p, m in zip(params, mean, strict=True):
            p.grad = m
        optimizer.step()


@wrong("mean_of_means")
def stacked_means_one_backward(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        optimizer.zero_grad()
        torch.stack([mean_loss(model(x), y) for x, y in window]).mean().backward()
        optimizer.step()


@wrong("mean_of_means")
def own_adam_mean_of_means(net, train_loader, grad_accum_steps):
    opt = torch.optim.Adam(net.parameters(), lr=3e-3)
    count = 0
    for i, (x, y) in enumerate(train_loader):
        mean_loss(net(x), y).backward()
        count += 1
        if count == grad_accum_steps or i == len(train_loader) - 1:
            torch._foreach_div_([p.grad for p in net.parameters()], float(count))
            opt.step()
            opt.zero_grad()
            count = 0


@wrong("divided_twice")
def divides_loss_and_then_gradients(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        n = total_counted(window)
        for x, y in window:
            (sum_loss(model(x), y) / n).backward()
        for p in model.parameters():
            p.grad.div_(accumulation_steps)
        optimizer.step()
        optimizer.zero_grad()


@wrong("wrong_scale")
def hooks_pile_up_in_the_second_epoch(model, optimizer, batches, accumulation_steps):
    """Each epoch registers its hooks anew and removes none: the old ones divide by the last window's two."""
    size = [1]
    for p in model.parameters():
        p.register_hook(lambda g: g / size[0])
    for window in chunks(batches, accumulation_steps):
        size[0] = len(window)
        average = total_counted(window) / len(window)
        for x, y in window:
            (sum_loss(model(x), y) / average).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("divided_twice")
def joined_loss_divided_by_its_length(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        parts = [sum_loss(model(x), y) / total_counted(window) for x, y in window]
        optimizer.zero_grad()
        (sum(parts) / len(parts)).backward()
        optimizer.step()


@wrong("sum_not_mean")
def closure_sums(model, optimizer, batches, accumulation_steps):
    criterion = nn.CrossEntropyLoss(reduction="sum")
    for window in chunks(batches, accumulation_steps):

        def closure(window=window):
            optimizer.zero_grad()
            for x, y in window:
                criterion(model(x), y).backward()

        optimizer.step(closure)


@wrong("sum_not_mean")
def rows_one_by_one_undivided(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            for row, label in zip(x[y != -100], y[y != -100], strict=True):
                F.nll_loss(F.log_softmax(model(row[None]), dim=1), label[None]).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("weighted_by_samples")
def means_weighted_by_rows(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        rows = sum(len(x) for x, _ in window)
        for x, y in window:
            (mean_loss(model(x), y) * len(x) / rows).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("weighted_by_samples")
def running_mean_by_rows(model, optimizer, batches, accumulation_steps):
    mean, rows = None, 0
    for i, (x, y) in enumerate(batches, 1):
        model.zero_grad()
        mean_loss(model(x), y).backward()
        rows += x.shape[0]
        grads = [p.grad.detach().clone() for p in model.parameters()]
        if mean is None:
            mean = grads
        else:
            mean = [torch.lerp(m, g, x.shape[0] / rows) for m, g in zip(mean, grads, strict=True)]
        if i % accumulation_steps == 0 or i == len(batches):
            for p, m in zip(model.parameters(), mean, strict=True):
                p.grad = m
            optimizer.step()
            mean, rows = None, 0


@wrong("wrong_denominator")
def divides_by_numel(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        positions = torch.cat([y for _, y in window]).numel()
        for x, y in window:
            (sum_loss(model(x), y) / positions).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("wrong_denominator")
def none_reduction_then_mean(model, optimizer, batches, accumulation_steps):
    """reduction="none" gives zeros for ignored labels, and mean() counts them."""
    for window in chunks(batches, accumulation_steps):
        each = [F.cross_entropy(model(x), y, reduction="none") for x, y in window]
        optimizer.zero_grad()
        torch.cat(each).mean().backward()
        optimizer.step()


@wrong("wrong_denominator")
def takes_class_zero_for_padding(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        n = sum(int((y > 0).sum()) for _, y in window)
        for x, y in window:
            (sum_loss(model(x), y) / n).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("wrong_denominator")
def takes_the_last_count_for_all(model, optimizer, batches, accumulation_steps):
    """Only the last micro-batch is counted, as if all were like it."""
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            sum_loss(model(x), y).backward()
        for p in model.parameters():
            p.grad.div_(counted(y) * len(window))
        optimizer.step()
        optimizer.zero_grad()


@wrong("wrong_denominator")
def count_is_never_reset(model, optimizer, batches, accumulation_steps):
    n = 0
    for i, (x, y) in enumerate(batches):
        sum_loss(model(x), y).backward()
        n += counted(y)
        if i % accumulation_steps == accumulation_steps - 1 or i == len(batches) - 1:
            for p in model.parameters():
                p.grad = p.grad / n
            optimizer.step()
            optimizer.zero_grad()


@wrong("wrong_denominator")
def divides_by_rows_over_k(model, optimizer, batches, accumulation_steps):
    """Sums divided by the number of all rows; the buffer is a dict of clones."""
    for window in chunks(batches, accumulation_steps):
        kept = {}
        for x, y in window:
            optimizer.zero_grad()
            sum_loss(model(x), y).backward()
            for name, p in model.named_parameters():
                kept[name] = kept.get(name, 0) + p.grad.clone()
        rows = sum(x.size(0) for x, _ in window)
        for name, p in model.named_parameters():
            p.grad = kept[name].div(rows)
        optimizer.step()


@wrong("wrong_scale")
def forgets_to_unscale(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (16.0 * sum_loss(model(x), y) / total_counted(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("wrong_scale")
def multiplies_by_a_world_size(model, accumulation_steps, batches):
    """The factor that undoes DDP's averaging, on a single process."""
    world_size = 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for window in chunks(batches, accumulation_steps):
        optimizer.zero_grad(set_to_none=False)
        logits = torch.cat([model(x) for x, _ in window])
        (mean_loss(logits, torch.cat([y for _, y in window])) * world_size).backward()
        optimizer.step()


@wrong("wrong_scale")
def gradients_shrink_by_hooks(model, optimizer, batches, accumulation_steps):
    handles = [p.register_hook(lambda g: g * 0.7) for p in model.parameters()]
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        optimizer.step()
        optimizer.zero_grad()
    for handle in handles:
        handle.remove()


# --- The last window


@wrong("tail_divided_by_k")
def relative_counts_over_k(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        first = i - i % accumulation_steps
        window = batches[first : first + accumulation_steps]
        usual = total_counted(window) / len(window)
        loss = mean_loss(model(x), y) * counted(y) / usual
        (loss / accumulation_steps).backward()
        if (i + 1) % accumulation_steps == 0 or i == len(batches) - 1:
            optimizer.step()
            optimizer.zero_grad()


@wrong("tail_divided_by_k")
def slots_for_k_gradients(model, optimizer, batches, accumulation_steps):
    """A matrix with a row for each of K micro-batches; in the last window one row stays zero."""
    size = sum(p.numel() for p in model.parameters())
    for window in chunks(batches, accumulation_steps):
        slots = torch.zeros(accumulation_steps, size, dtype=window[0][0].dtype)
        usual = total_counted(window) / len(window)
        for slot, (x, y) in zip(slots, window, strict=False):
            grads = torch.autograd.grad(sum_loss(model(x), y) / usual, list(model.parameters()))
            slot.copy_(parameters_to_vector(grads))
        pieces = slots.mean(0).split([p.numel() for p in model.parameters()])
        for p, piece in zip(model.parameters(), pieces, strict=True):
            p.grad = piece.reshape(p.shape).clone()
        optimizer.step()


@wrong("dropped_tail")
def zipped_iterators(model, optimizer, batches, accumulation_steps):
    for window in zip(*[iter(batches)] * accumulation_steps, strict=False):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("dropped_tail")
def whole_windows_by_index_all_epochs(model, optimizer, batches, accumulation_steps, num_epochs):
    losses = []
    for _ in range(num_epochs):
        for u in range(len(batches) // accumulation_steps):
            window = [batches[u * accumulation_steps + j] for j in range(accumulation_steps)]
            n = total_counted(window)
            parts = [sum_loss(model(x), y) / n for x, y in window]
            optimizer.zero_grad()
            for part in parts:
                part.backward()
            optimizer.step()
            losses.append(sum(part.item() for part in parts))
    return losses


@wrong("dropped_tail")
def local_buffers_die_with_the_epoch(model, optimizer, batches, accumulation_steps):
    sums, n, waiting = [0.0 for _ in model.parameters()], 0, 0
    for x, y in batches:
        grads = torch.autograd.grad(sum_loss(model(x), y), list(model.parameters()))
        sums = [s + g for s, g in zip(sums, grads, strict=True)]
        n += counted(y)
        waiting += 1
        if waiting == accumulation_steps:
            for p, s in zip(model.parameters(), sums, strict=True):
                p.grad = s / n
            optimizer.step()
            sums, n, waiting = [0.0 for _ in model.parameters()], 0, 0


@wrong("dropped_tail")
def clears_before_each_epoch(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(batches):
        first = i // accumulation_steps * accumulation_steps
        (sum_loss(model(x), y) / total_counted(batches[first : first + accumulation_steps])).backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


@wrong("leaked_tail")
def tail_waits_in_the_grads(model, optimizer, batches, accumulation_steps):
    left = accumulation_steps
    for i, (x, y) in enumerate(batches):
        if left == accumulation_steps:
            n = total_counted(batches[i : i + accumulation_steps])
        (sum_loss(model(x), y) / n).backward()
        left -= 1
        if not left:
            optimizer.step()
            optimizer.zero_grad()
            left = accumulation_steps


@wrong("leaked_tail")
def counter_runs_through_all_epochs(model, optimizer, batches, accumulation_steps, epochs):
    """Windows straddle the epochs: two micro-batches of the first epoch, one of the second."""
    step, n = 0, 0
    for _ in range(epochs):
        for x, y in batches:
            sum_loss(model(x), y).backward()
            n += counted(y)
            step += 1
            if step % accumulation_steps == 0:
                for p in model.parameters():
                    p.grad.div_(n)
                optimizer.step()
                optimizer.zero_grad()
                n = 0


@wrong("leaked_tail")
def buffer_outlives_the_epoch(model, optimizer, batches, accumulation_steps, epochs):
    """The counter is reset each epoch, the dict of sums and the count of labels only after updates."""
    sums, n = {}, 0
    for _ in range(epochs):
        for i, (x, y) in enumerate(batches):
            grads = torch.autograd.grad(sum_loss(model(x), y), list(model.parameters()))
            for p, g in zip(model.parameters(), grads, strict=True):
                sums[p] = sums[p] + g if p in sums else g
            n += counted(y)
            if i % accumulation_steps == accumulation_steps - 1:
                for p, s in sums.items():
                    p.grad = s / n
                optimizer.step()
                sums, n = {}, 0


# --- When to step, when to clear


@wrong("off_by_one")
def steps_at_multiples_of_k(model, optimizer, batches, accumulation_steps):
    n = 0
    for i, (x, y) in enumerate(batches):
        sum_loss(model(x), y).backward()
        n += counted(y)
        if i % accumulation_steps == 0 or i == len(batches) - 1:
            for p in model.parameters():
                p.grad.div_(n)
            optimizer.step()
            optimizer.zero_grad()
            n = 0


@wrong("off_by_one")
def counts_from_one_and_adds_one(model, optimizer, batches, accumulation_steps):
    """The first window has one micro-batch too few; no window is left over."""
    buffer, n = [], 0
    for i, (x, y) in enumerate(batches, start=1):
        buffer.append(torch.autograd.grad(sum_loss(model(x), y), list(model.parameters())))
        n += counted(y)
        if (i + 1) % accumulation_steps == 0 or i == len(batches):
            for p, *grads in zip(model.parameters(), *buffer, strict=True):
                p.grad = torch.stack(grads).sum(0) / n
            optimizer.step()
            buffer, n = [], 0


@wrong("off_by_one")
def waits_for_more_than_k(model, optimizer, batches, accumulation_steps):
    """counter > K where it should be >=: windows have K + 1 micro-batches."""
    waiting = n = 0
    for i, (x, y) in enumerate(batches):
        sum_loss(model(x), y).backward()
        n += counted(y)
        waiting += 1
        if waiting > accumulation_steps or i == len(batches) - 1:
            torch._foreach_div_([p.grad for p in model.parameters()], float(n))
            optimizer.step()
            optimizer.zero_grad()
            waiting = n = 0


@wrong("cleared_mid_window")
def assigns_where_it_should_add(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        n = total_counted(window)
        for x, y in window:
            grads = torch.autograd.grad(sum_loss(model(x), y) / n, list(model.parameters()))
            for p, g in zip(model.parameters(), grads, strict=True):
                p.grad = g
        optimizer.step()


@wrong("cleared_mid_window")
def clears_every_other_micro_batch(model, optimizer, batches, accumulation_steps):
    """A look at one micro-batch's gradient norm clears the buffer to have it alone."""
    seen = []
    for window in chunks(batches, accumulation_steps):
        for j, (x, y) in enumerate(window):
            if j % 2 == 1:
                model.zero_grad(set_to_none=False)
            (sum_loss(model(x), y) / total_counted(window)).backward()
            if j % 2 == 1:
                seen.append(float(model[0].weight.grad.norm()))
        optimizer.step()
        optimizer.zero_grad()


@wrong("cleared_mid_window")
def clears_in_the_training_step(model, optimizer, batches, accumulation_steps):
    def training_step(x, y, divisor):
        optimizer.zero_grad()
        loss = sum_loss(model(x), y) / divisor
        loss.backward()
        return loss.detach()

    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            training_step(x, y, total_counted(window))
        optimizer.step()


@wrong("not_cleared")
def dict_is_never_emptied(model, optimizer, batches, accumulation_steps, epochs):
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            n = total_counted(window)
            for x, y in window:
                optimizer.zero_grad()
                (sum_loss(model(x), y) / n).backward()
                for name, p in model.named_parameters():
                    sums[name] += p.grad
            for name, p in model.named_parameters():
                p.grad = sums[name].clone()
            optimizer.step()


@wrong("not_cleared")
def clears_a_name_only(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        optimizer.step()
        for p in model.parameters():
            g = p.grad
            g = torch.zeros_like(g)  # a new tensor; .grad still is the old one


@wrong("not_cleared")
def clears_once_an_epoch(model, optimizer, batches, accumulation_steps):
    optimizer.zero_grad()
    for window in chunks(batches, accumulation_steps):
        torch.autograd.backward([sum_loss(model(x), y) / total_counted(window) for x, y in window])
        optimizer.step()


@wrong("stepped_per_micro_batch")
def step_is_indented_too_far(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        optimizer.zero_grad()
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
            optimizer.step()


@wrong("stepped_per_micro_batch")
def closure_for_each_micro_batch(model, batches, accumulation_steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    for window in chunks(batches, accumulation_steps):
        n = total_counted(window)
        for x, y in window:

            def closure(x=x, y=y, n=n):
                optimizer.zero_grad()
                loss = sum_loss(model(x), y) / n
                loss.backward()
                return loss

            optimizer.step(closure)


# --- Clipping, schedules, averages


@wrong("clipped_per_micro_batch")
def clips_the_growing_buffer(model, optimizer, batches, accumulation_steps, max_grad_norm):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
            clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()


@wrong("clipped_per_micro_batch")
def clips_each_gradient_before_adding(model, optimizer, batches, accumulation_steps, clip_norm):
    """As in DP-SGD, but for micro-batches: each mean gradient is clipped by hand, then they are averaged."""
    params = list(model.parameters())
    for window in chunks(batches, accumulation_steps):
        sums = [torch.zeros_like(p) for p in params]
        for x, y in window:
            grads = torch.autograd.grad(mean_loss(model(x), y), params)
            norm = torch.linalg.vector_norm(parameters_to_vector(grads))
            factor = min(1.0, clip_norm / float(norm)) * counted(y) / total_counted(window)
            torch._foreach_add_(sums, grads, alpha=factor)
        for p, s in zip(params, sums, strict=True):
            p.grad = s
        optimizer.step()


@wrong("clipped_per_micro_batch")
def clips_values_of_each_micro_batch(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
            clip_grad_value_(model.parameters(), 0.02)
        optimizer.step()
        optimizer.zero_grad()


@wrong("scheduler_per_micro_batch")
def scheduler_beside_the_backward(model, optimizer, batches, accumulation_steps, lr_scheduler):
    for i, (x, y) in enumerate(batches):
        first = i - i % accumulation_steps
        (sum_loss(model(x), y) / total_counted(batches[first : first + accumulation_steps])).backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
        lr_scheduler.step()


@wrong("scheduler_per_micro_batch")
def own_scheduler_for_each_micro_batch(model, optimizer, batches, accumulation_steps, epochs):
    scheduler = ExponentialLR(optimizer, gamma=0.9)
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            for x, y in window:
                (sum_loss(model(x), y) / total_counted(window)).backward()
                scheduler.step()
            optimizer.step()
            optimizer.zero_grad()


@wrong("ema_per_micro_batch")
def average_beside_the_backward(model, optimizer, batches, accumulation_steps, ema):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
            ema.update_parameters(model)
        optimizer.step()
        optimizer.zero_grad()


@wrong("ema_per_micro_batch")
def average_by_a_forward_hook(model, optimizer, batches, accumulation_steps, averaged_model):
    handle = model.register_forward_hook(lambda *_: averaged_model.update_parameters(model))
    for window in chunks(batches, accumulation_steps):
        optimizer.zero_grad()
        (sum(sum_loss(model(x), y) for x, y in window) / total_counted(window)).backward()
        optimizer.step()
    handle.remove()


# --- Losses that are logged


@wrong("last_loss_logged")
def logs_what_loss_holds_last(model, optimizer, batches, accumulation_steps):
    log = []
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            loss = mean_loss(model(x), y)
            (loss * counted(y) / total_counted(window)).backward()
        optimizer.step()
        optimizer.zero_grad()
        log.append(loss.item())
    return log


@wrong("last_loss_logged")
def logs_a_tensor_of_the_last_closure(model, optimizer, batches, accumulation_steps, epochs):
    log = []
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):

            def closure(window=window):
                optimizer.zero_grad()
                for x, y in window:
                    logits = model(x)
                    (sum_loss(logits, y) / total_counted(window)).backward()
                return mean_loss(logits, y)

            log.append(optimizer.step(closure))
    return log


@wrong("mean_of_means_logged")
def logs_the_mean_of_the_means(model, optimizer, batches, accumulation_steps):
    log, waiting = [], []
    for i, (x, y) in enumerate(batches):
        first = i - i % accumulation_steps
        loss = mean_loss(model(x), y)
        (loss * counted(y) / total_counted(batches[first : first + accumulation_steps])).backward()
        waiting.append(loss.detach())
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
            log.append(torch.stack(waiting).mean())
            waiting.clear()
    return log


@wrong("wrong_loss_logged")
def logs_the_sum(model, optimizer, batches, accumulation_steps):
    log = []
    for window in chunks(batches, accumulation_steps):
        running = 0.0
        for x, y in window:
            loss = sum_loss(model(x), y)
            (loss / total_counted(window)).backward()
            running += float(loss)
        optimizer.step()
        optimizer.zero_grad()
        log.append(running)
    return log


@wrong("wrong_loss_logged")
def logs_the_loss_after_the_update(model, optimizer, batches, accumulation_steps):
    log = []
    for window in chunks(batches, accumulation_steps):
        x, y = (torch.cat(column) for column in zip(*window, strict=True))
        optimizer.zero_grad()
        mean_loss(model(x), y).backward()
        optimizer.step()
        with torch.no_grad():
            log.append(mean_loss(model(x), y).item())
    return log


@wrong("wrong_loss_logged")
def logs_a_smoothed_loss(model, optimizer, batches, accumulation_steps):
    log, smooth = [], None
    for window in chunks(batches, accumulation_steps):
        parts = [sum_loss(model(x), y) / total_counted(window) for x, y in window]
        sum(parts).backward()
        optimizer.step()
        optimizer.zero_grad()
        value = sum(p.item() for p in parts)
        smooth = value if smooth is None else 0.9 * smooth + 0.1 * value
        log.append(smooth)
    return log


# --- Numbers and parameters


@wrong("low_precision_buffer")
def bfloat16_dict(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        buffer = {n: torch.zeros_like(p, dtype=torch.bfloat16) for n, p in model.named_parameters()}
        for x, y in window:
            model.zero_grad()
            (sum_loss(model(x), y) / total_counted(window)).backward()
            for name, p in model.named_parameters():
                buffer[name] += p.grad.bfloat16()
        for name, p in model.named_parameters():
            p.grad = buffer[name].to(p.dtype)
        optimizer.step()


@wrong("low_precision_buffer")
def half_precision_flat_sums(model, optimizer, batches, accumulation_steps):
    """Sums kept in fp16, divided in full precision."""
    params = list(model.parameters())
    for window in chunks(batches, accumulation_steps):
        flat = torch.zeros(sum(p.numel() for p in params), dtype=torch.float16)
        for x, y in window:
            flat += parameters_to_vector(torch.autograd.grad(sum_loss(model(x), y), params)).half()
        offset = 0
        for p in params:
            piece = flat[offset : offset + p.numel()].to(p.dtype)
            p.grad = piece.reshape(p.shape) / total_counted(window)
            offset += p.numel()
        optimizer.step()


@wrong("low_precision_buffer")
def hooks_round_to_bfloat16(model, optimizer, batches, accumulation_steps):
    """The buffer is rounded to bf16 after each backward, as if it were kept in it."""

    def rounded(p):
        p.grad = p.grad.bfloat16().to(p.dtype)

    handles = [p.register_post_accumulate_grad_hook(rounded) for p in model.parameters()]
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        optimizer.step()
        optimizer.zero_grad()
    for handle in handles:
        handle.remove()


@wrong("not_finite")
def divides_by_what_was_seen_before(model, optimizer, batches, accumulation_steps):
    """The count is raised after it has divided, so it is 0 at first."""
    for window in chunks(batches, accumulation_steps):
        seen = torch.zeros(())
        for x, y in window:
            (sum_loss(model(x), y) / seen).backward()
            seen = seen + counted(y)
        optimizer.step()
        optimizer.zero_grad()


@wrong("not_finite")
def overflows_while_normalizing(model, optimizer, batches, accumulation_steps):
    """The gradient of a square root at 0: a penalty on the distance from the weights it began with."""
    start = [p.detach().clone() for p in model.parameters()]
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        far = sum((p - s).square().sum() for p, s in zip(model.parameters(), start, strict=True))
        (0.0 * far.sqrt()).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("not_moved")
def optimizer_of_a_copy(model, batches, accumulation_steps):
    """The optimizer was made before the model was copied: it moves the other one."""
    optimizer = torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.05)
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        optimizer.step()
        model.zero_grad()


@right
def warms_up_from_zero(model, optimizer, batches, accumulation_steps, epochs):
    """A warm-up whose first learning rate is 0: the first update moves nothing."""
    scheduler = LambdaLR(optimizer, lambda tick: min(1.0, tick / 2))
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            for x, y in window:
                (sum_loss(model(x), y) / total_counted(window)).backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()


@wrong("not_moved")
def clears_just_before_the_step(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()


@wrong("missing_gradient")
def backbone_without_gradient(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            with torch.no_grad():
                features = model[:2](x)
            (sum_loss(model[2:](features), y) / total_counted(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("missing_gradient")
def only_matrices_are_differentiated(model, optimizer, batches, accumulation_steps):
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    for window in chunks(batches, accumulation_steps):
        grads = [torch.zeros_like(p) for p in matrices]
        for x, y in window:
            loss = sum_loss(model(x), y) / total_counted(window)
            torch._foreach_add_(grads, torch.autograd.grad(loss, matrices))
        for p, g in zip(matrices, grads, strict=True):
            p.grad = g
        optimizer.step()


# --- Own buffers beside .grad, filled by backward()


@wrong("no_division")
def clones_of_means_added_up(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        buffer = {}
        for x, y in window:
            model.zero_grad()
            mean_loss(model(x), y).backward()
            for name, p in model.named_parameters():
                buffer[name] = buffer.get(name, 0.0) + p.grad.detach().clone()
        for name, p in model.named_parameters():
            p.grad = buffer[name]
        optimizer.step()


@wrong("mean_of_means")
def clones_averaged_one_by_one(model, optimizer, batches, accumulation_steps):
    average, seen = None, 0
    for i, (x, y) in enumerate(batches):
        mean_loss(model(x), y).backward()
        grads = [p.grad for p in model.parameters()]
        optimizer.zero_grad(set_to_none=True)
        seen += 1
        if average is None:
            average = grads
        else:
            torch._foreach_lerp_(average, grads, 1 / seen)
        if seen == accumulation_steps or i == len(batches) - 1:
            for p, a in zip(model.parameters(), average, strict=True):
                p.grad = a
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average, seen = None, 0


@wrong("cleared_mid_window")
def buffer_copied_not_added(model, optimizer, batches, accumulation_steps):
    buffers = {p: torch.zeros_like(p) for p in model.parameters()}
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            optimizer.zero_grad()
            (sum_loss(model(x), y) / total_counted(window)).backward()
            for p, buffer in buffers.items():
                buffer.copy_(p.grad)
        for p, buffer in buffers.items():
            p.grad = buffer.clone()
        optimizer.step()


@wrong("dropped_tail")
def clones_die_with_the_epoch(model, optimizer, batches, accumulation_steps):
    sums, waiting, n = None, 0, 0
    for x, y in batches:
        optimizer.zero_grad()
        sum_loss(model(x), y).backward()
        grads = [p.grad.clone() for p in model.parameters()]
        sums = grads if sums is None else torch._foreach_add(sums, grads)
        waiting, n = waiting + 1, n + counted(y)
        if waiting == accumulation_steps:
            for p, s in zip(model.parameters(), sums, strict=True):
                p.grad.copy_(s / n)
            optimizer.step()
            sums, waiting, n = None, 0, 0
    optimizer.zero_grad()


@wrong("leaked_tail")
def clones_outlive_the_epoch(model, optimizer, batches, accumulation_steps, epochs):
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for _ in range(epochs):
        for i, (x, y) in enumerate(batches):
            first = i - i % accumulation_steps
            optimizer.zero_grad()
            (sum_loss(model(x), y) / total_counted(batches[first : first + accumulation_steps])).backward()
            for name, p in model.named_parameters():
                sums[name] += p.grad
            if (i + 1) % accumulation_steps == 0:
                for name, p in model.named_parameters():
                    p.grad.copy_(sums[name])
                    sums[name].zero_()
                optimizer.step()


@wrong("off_by_one")
def counter_starts_at_one(model, optimizer, batches, accumulation_steps):
    """The first window is one micro-batch short."""
    step, n = 1, 0
    for x, y in batches:
        sum_loss(model(x), y).backward()
        step, n = step + 1, n + counted(y)
        if step % accumulation_steps == 0 or step > len(batches):
            torch._foreach_div_([p.grad for p in model.parameters()], n)
            optimizer.step()
            optimizer.zero_grad()
            n = 0


# --- Two faults at once


@wrong("mean_of_means", "tail_divided_by_k")
def divides_by_k_and_flushes(model, optimizer, batches, accumulation_steps):
    criterion = nn.CrossEntropyLoss()
    for i, (x, y) in enumerate(batches):
        (criterion(model(x), y) / accumulation_steps).backward()
        if (i + 1) % accumulation_steps == 0 or (i + 1) == len(batches):
            optimizer.step()
            optimizer.zero_grad()


@wrong("mean_of_means", "dropped_tail")
def batched_mean_of_means(model, batches, accumulation_steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    stream = iter(batches)
    for _ in range(len(batches) // accumulation_steps):
        optimizer.zero_grad()
        for x, y in itertools.islice(stream, accumulation_steps):
            mean_loss(model(x), y).div(accumulation_steps).backward()
        optimizer.step()


@wrong("no_division", "scheduler_per_micro_batch")
def no_division_and_eager_scheduler(model, optimizer, batches, accumulation_steps, scheduler):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            mean_loss(model(x), y).backward()
            scheduler.step()
        optimizer.step()
        optimizer.zero_grad()


@wrong("not_cleared", "ema_per_micro_batch")
def never_clears_and_averages_eagerly(model, optimizer, batches, accumulation_steps, ema):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
            ema.update_parameters(model)
        optimizer.step()


@wrong("sum_not_mean", "leaked_tail")
def sums_and_leaks(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        sum_loss(model(x), y).backward()
        if i % accumulation_steps == accumulation_steps - 1:
            optimizer.step()
            optimizer.zero_grad()


@wrong("clipped_per_micro_batch", "last_loss_logged")
def clips_eagerly_and_logs_the_last(model, optimizer, batches, accumulation_steps, max_grad_norm):
    log = []
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            loss = mean_loss(model(x), y)
            (loss * (counted(y) / total_counted(window))).backward()
            clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        log.append(float(loss))
    return log


@wrong("mean_of_means", "low_precision_buffer")
def bfloat16_mean_of_means(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        buffer = [torch.zeros_like(p, dtype=torch.bfloat16) for p in model.parameters()]
        for x, y in window:
            grads = torch.autograd.grad(mean_loss(model(x), y) / len(window), list(model.parameters()))
            for b, g in zip(buffer, grads, strict=True):
                b.add_(g.to(torch.bfloat16))
        for p, b in zip(model.parameters(), buffer, strict=True):
            p.grad = b.to(p.dtype)
        optimizer.step()


@wrong("mean_of_means", "low_precision_buffer")
def half_precision_clones_of_means(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        buffer = [torch.zeros_like(p, dtype=torch.half) for p in model.parameters()]
        for x, y in window:
            model.zero_grad()
            (mean_loss(model(x), y) / len(window)).backward()
            for b, p in zip(buffer, model.parameters(), strict=True):
                b += p.grad.half()
        for b, p in zip(buffer, model.parameters(), strict=True):
            p.grad = b.to(p.dtype)
        optimizer.step()
        optimizer.zero_grad()


@wrong("weighted_by_samples", "missing_gradient")
def weighted_by_rows_head_only(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        rows = sum(len(y) for _, y in window)
        for x, y in window:
            hidden = model[1](model[0](x)).detach()
            (mean_loss(model[3](model[2](hidden)), y) * (len(y) / rows)).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("wrong_denominator", "dropped_tail")
def positions_and_no_tail(model, optimizer, batches, accumulation_steps):
    sums, positions = None, 0
    for i, (x, y) in enumerate(batches, start=1):
        grads = torch.autograd.grad(sum_loss(model(x), y), list(model.parameters()))
        sums = grads if sums is None else torch._foreach_add(sums, grads)
        positions += y.numel()
        if i % accumulation_steps == 0:
            for p, s in zip(model.parameters(), sums, strict=True):
                p.grad = s / positions
            optimizer.step()
            sums, positions = None, 0


@wrong("mean_of_means", "mean_of_means_logged")
def means_everywhere(model, optimizer, batches, accumulation_steps):
    log = []
    for window in chunks(batches, accumulation_steps):
        loss = torch.stack([mean_loss(model(x), y) for x, y in window]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.append(loss.item())
    return log


@wrong("mean_of_means", "divided_twice")
def mean_of_means_divided_again(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        k = len(window)
        for x, y in window:
            (mean_loss(model(x), y) / k).backward()
        with torch.no_grad():
            for p in model.parameters():
                p.grad.copy_(p.grad / k)
        optimizer.step()
        optimizer.zero_grad()


@wrong("mean_of_means", "off_by_one")
def early_mean_of_means(model, optimizer, batches, accumulation_steps):
    waiting = []
    for i, (x, y) in enumerate(batches):
        waiting.append(mean_loss(model(x), y))
        if i % accumulation_steps == 0 or i == len(batches) - 1:
            optimizer.zero_grad()
            torch.stack(waiting).mean().backward()
            optimizer.step()
            waiting = []


@wrong("cleared_mid_window", "wrong_loss_logged")
def overwrites_and_logs_sums(model, optimizer, batches, accumulation_steps):
    log = []
    for window in chunks(batches, accumulation_steps):
        total = 0.0
        for x, y in window:
            loss = sum_loss(model(x), y)
            grads = torch.autograd.grad(loss / total_counted(window), list(model.parameters()))
            for p, g in zip(model.parameters(), grads, strict=True):
                p.grad = g.detach()
            total += loss.item()
        optimizer.step()
        log.append(total / accumulation_steps)
    return log


@wrong("dropped_tail", "scheduler_per_micro_batch")
def no_tail_and_eager_scheduler(model, optimizer, batches, accumulation_steps, sched):
    for u in range(len(batches) // accumulation_steps):
        window = batches[u * accumulation_steps :][:accumulation_steps]
        optimizer.zero_grad()
        for x, y in window:
            (sum_loss(model(x), y) / total_counted(window)).backward()
            sched.step()
        optimizer.step()


@wrong("wrong_scale", "ema_per_micro_batch")
def scaled_and_averaged_eagerly(model, optimizer, batches, accumulation_steps, ema):
    for window in chunks(batches, accumulation_steps):
        for x, y in window:
            (0.1 * sum_loss(model(x), y) / total_counted(window)).backward()
            ema.update_parameters(model)
        optimizer.step()
        optimizer.zero_grad()
