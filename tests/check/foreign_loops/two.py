"""Training loops by a second stranger, in the styles of real projects, with the codes that each deserves.

Written without sight of the checker's rules or of other loops. The codes of a loop are what its meaning
makes one expect on ``standard_cases()[0]``, where micro-batches count 5, 1, 7, 2, 4, 3, 6 and 8
tokens, K = 3, and there are two epochs. Loops with no codes are right, and must be ok on all standard cases.
"""

import copy
import itertools
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim.lr_scheduler import LambdaLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from .shared import IGNORED, chunks, counted, right, wrong


def tokens(batch: Any) -> int:
    return counted(batch[1])


def summed(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], ignore_index=IGNORED, reduction="sum")


def mean(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], ignore_index=IGNORED)


def multiply_grads(model: nn.Module, factor: float | Tensor) -> None:
    for p in model.parameters():
        if p.grad is not None:
            p.grad.mul_(factor)


# ---------------------------------------------------------------- a class with state, as in HF's Trainer


@dataclass
class TrainerState:
    global_step: int = 0
    log_history: list[float] = field(default_factory=list)


class Trainer:
    """The newer one: it fetches a whole window, counts its labels, and hands the number to the loss."""

    def __init__(self, model: nn.Module, optimizer: Any, accumulation: int, scheduler: Any = None) -> None:
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.accumulation, self.state = accumulation, TrainerState()

    def get_batch_samples(self, iterator: Iterator[Any], number: int) -> tuple[list[Any], Tensor]:
        samples = list(itertools.islice(iterator, number))
        return samples, self.num_items(samples)

    def num_items(self, samples: list[Any]) -> Tensor:
        return torch.stack([labels.ne(IGNORED).sum() for _, labels in samples]).sum()

    def compute_loss(self, inputs: Any, num_items: Tensor) -> Tensor:
        return summed(self.model, inputs) / num_items

    def training_step(self, inputs: Any, num_items: Tensor) -> Tensor:
        self.model.train()
        loss = self.compute_loss(inputs, num_items)
        loss.backward()
        return loss.detach()

    def train_epoch(self, loader: list[Any]) -> None:
        updates, remainder = divmod(len(loader), self.accumulation)
        iterator = iter(loader)
        for update in range(updates + (remainder > 0)):
            number = self.accumulation if update < updates else remainder
            samples, num_items = self.get_batch_samples(iterator, number)
            total = torch.zeros((), dtype=torch.float64)
            for inputs in samples:
                total += self.training_step(inputs, num_items)
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            self.model.zero_grad()
            self.state.global_step += 1
            self.state.log_history.append(total.item())


@right
def hf_trainer(model, optimizer, loader, gradient_accumulation_steps, lr_scheduler, epochs):
    trainer = Trainer(model, optimizer, gradient_accumulation_steps, lr_scheduler)
    for _ in range(epochs):
        trainer.train_epoch(loader)
    return trainer.state.log_history


@wrong("wrong_denominator")
def hf_trainer_counts_padding(model, optimizer, loader, gradient_accumulation_steps):
    class Padded(Trainer):
        def num_items(self, samples):
            return torch.tensor(sum(labels.numel() for _, labels in samples))

    Padded(model, optimizer, gradient_accumulation_steps).train_epoch(loader)


@wrong("divided_twice")
def hf_trainer_items_and_steps(model, optimizer, loader, gradient_accumulation_steps):
    """Normalised by the window's items, and then by its length once more."""

    class Twice(Trainer):
        def get_batch_samples(self, iterator, number):
            self.current = number
            return super().get_batch_samples(iterator, number)

        def compute_loss(self, inputs, num_items):
            return super().compute_loss(inputs, num_items) / self.current

    Twice(model, optimizer, gradient_accumulation_steps).train_epoch(loader)


@wrong("no_division")
def hf_trainer_model_ignores_num_items(model, optimizer, loader, gradient_accumulation_steps):
    """The trainer trusts the model to normalise, but the model returns its micro-batch's mean."""

    class Trusting(Trainer):
        def compute_loss(self, inputs, num_items):
            return mean(self.model, inputs)

    Trusting(model, optimizer, gradient_accumulation_steps).train_epoch(loader)


@wrong("mean_of_means", "leaked_tail")
def hf_trainer_of_old(model, optimizer, loader, gradient_accumulation_steps, epochs):
    """`total_batched_samples` counts on from one epoch into the next."""
    total_batched_samples = 0
    model.zero_grad()
    for _ in range(epochs):
        for inputs in loader:
            total_batched_samples += 1
            loss = mean(model, inputs)
            if gradient_accumulation_steps > 1:
                loss = loss / gradient_accumulation_steps
            loss.backward()
            if total_batched_samples % gradient_accumulation_steps == 0:
                optimizer.step()
                model.zero_grad()


@wrong("wrong_scale")
def hf_trainer_world_size(model, optimizer, loader, gradient_accumulation_steps):
    """Multiplied by the number of devices, for an all-reduce that never happens."""

    class Distributed(Trainer):
        def compute_loss(self, inputs, num_items):
            return super().compute_loss(inputs, num_items) * 4

    Distributed(model, optimizer, gradient_accumulation_steps).train_epoch(loader)


# ---------------------------------------------------------------- closures, as in Lightning


@right
def lightning_closure_over_window(module, optim, train_loader, accumulation):
    logged = []
    for window in chunks(train_loader, accumulation):
        items = sum(map(tokens, window))

        def closure(window: list[Any] = window, items: int = items) -> Tensor:
            optim.zero_grad()
            total = torch.zeros((), dtype=torch.float64)
            for batch in window:
                loss = summed(module, batch) / items
                loss.backward()
                total += loss.detach()
            return total

        logged.append(optim.step(closure))
    return logged


@wrong("cleared_mid_window")
def lightning_closure_clears(module, optim, train_loader, accumulation):
    """Every batch's closure clears the gradient first; the step comes with the last one's."""
    for window in chunks(train_loader, accumulation):
        items = sum(map(tokens, window))
        for j, batch in enumerate(window):

            def closure(batch: Any = batch, items: int = items) -> Tensor:
                optim.zero_grad()
                loss = summed(module, batch) / items
                loss.backward()
                return loss

            if j + 1 < len(window):
                closure()
            else:
                optim.step(closure)


@wrong("mean_of_means", "tail_divided_by_k")
def lightning_automatic(module, optim, train_loader, accumulation):
    for batch_idx, batch in enumerate(train_loader):
        is_last_batch = batch_idx + 1 == len(train_loader)
        if batch_idx % accumulation == 0:
            optim.zero_grad()
        closure_loss = mean(module, batch) / accumulation
        closure_loss.backward()
        if (batch_idx + 1) % accumulation == 0 or is_last_batch:
            optim.step()


# ---------------------------------------------------------------- callbacks, as in fastai


class CancelBatchError(Exception):
    """Leave the batch here."""


class Callback:
    learn: "Learner"

    def __call__(self, event: str) -> None:
        getattr(self, event, lambda: None)()


class Learner:
    def __init__(self, model: nn.Module, opt: Any, cbs: list[Callback]) -> None:
        self.model, self.opt, self.cbs = model, opt, cbs
        for cb in cbs:
            cb.learn = self

    def __call__(self, event: str) -> None:
        for cb in self.cbs:
            cb(event)

    def update(self) -> None:
        self("before_step")
        self.opt.step()
        self("after_step")
        self.opt.zero_grad()

    def one_batch(self, batch: Any) -> None:
        self.batch = batch
        try:
            self("before_batch")
            self.loss = summed(self.model, batch)
            self("after_loss")
            self.loss.backward()
            self("after_backward")
            self.update()
        except CancelBatchError:
            pass

    def fit(self, batches: list[Any]) -> None:
        for batch in batches:
            self.one_batch(batch)
        self("after_epoch")


class Accumulation(Callback):
    flushes = True

    def __init__(self, n_acc: int) -> None:
        self.n_acc, self.seen, self.count = n_acc, 0, 0

    def measure(self, batch: Any) -> int:
        return tokens(batch)

    def after_backward(self) -> None:
        self.seen += 1
        self.count += self.measure(self.learn.batch)
        if self.seen < self.n_acc:
            raise CancelBatchError

    def before_step(self) -> None:
        multiply_grads(self.learn.model, 1 / self.count)

    def after_step(self) -> None:
        self.seen = self.count = 0

    def after_epoch(self) -> None:
        if self.flushes and self.seen:
            self.learn.update()


@right
def fastai_callback(model, opt, data, accum):
    Learner(model, opt, [Accumulation(accum)]).fit(data)


@wrong("leaked_tail")
def fastai_callback_without_flush(model, opt, data, accum, num_epochs):
    """The count of micro-batches starts anew with the epoch; gradient and number of tokens stay."""

    class Forgetful(Accumulation):
        flushes = False

        def after_epoch(self):
            self.seen = 0

    learner = Learner(model, opt, [Forgetful(accum)])
    for _ in range(num_epochs):
        learner.fit(data)


@wrong("weighted_by_samples")
def fastai_batch_size(model, opt, data, accum):
    """fastai's own rule: a batch's mean loss times its size, over the size of all."""

    class BySize(Accumulation):
        def measure(self, batch):
            return len(batch[0])

        def after_loss(self):
            batch = self.learn.batch
            self.learn.loss = self.learn.loss / tokens(batch) * len(batch[0])

    Learner(model, opt, [BySize(accum)]).fit(data)


@wrong("clipped")
def fastai_gradient_clip(model, opt, data, accum):
    class Clip(Callback):
        def before_step(self):
            clip_grad_norm_(self.learn.model.parameters(), 0.01)

    Learner(model, opt, [Accumulation(accum), Clip()]).fit(data)


@wrong("clipped_per_micro_batch")
def fastai_gradient_clip_too_early(model, opt, data, accum):
    class Clip(Callback):
        def after_backward(self):
            clip_grad_norm_(self.learn.model.parameters(), 0.01)

    Learner(model, opt, [Clip(), Accumulation(accum)]).fit(data)


# ---------------------------------------------------------------- global counters, as in yolov5


@right
def yolov5_with_last_batch(model, optimizer, train_loader, accumulate_steps, num_epochs):
    nb, last_opt_step, n_items = len(train_loader), -1, 0
    optimizer.zero_grad()
    for epoch in range(num_epochs):
        for i, batch in enumerate(train_loader):
            ni = i + nb * epoch
            summed(model, batch).backward()
            n_items += tokens(batch)
            if ni - last_opt_step >= accumulate_steps or i == nb - 1:
                multiply_grads(model, 1 / n_items)
                optimizer.step()
                optimizer.zero_grad()
                last_opt_step, n_items = ni, 0


@wrong("no_division", "leaked_tail")
def yolov5_as_it_is(model, optimizer, train_loader, accumulate_steps, num_epochs):
    nb, last_opt_step = len(train_loader), -1
    optimizer.zero_grad()
    for epoch in range(num_epochs):
        for i, batch in enumerate(train_loader):
            ni = i + nb * epoch
            mean(model, batch).backward()
            if ni - last_opt_step >= accumulate_steps:
                optimizer.step()
                optimizer.zero_grad()
                last_opt_step = ni


@wrong("leaked_tail")
def yolov5_modulo_over_epochs(model, optimizer, train_loader, accumulate_steps, num_epochs):
    """Rightly normalised over whatever is in the window, but windows reach over the epoch's end."""
    n_items, ni = 0, 0
    optimizer.zero_grad()
    for _ in range(num_epochs):
        for batch in train_loader:
            ni += 1
            summed(model, batch).backward()
            n_items += tokens(batch)
            if ni % accumulate_steps == 0:
                multiply_grads(model, 1 / n_items)
                optimizer.step()
                optimizer.zero_grad()
                n_items = 0


@wrong("off_by_one")
def yolov5_ni_from_zero(model, optimizer, train_loader, accumulate_steps):
    n_items = 0
    for i, batch in enumerate(train_loader):
        summed(model, batch).backward()
        n_items += tokens(batch)
        if i % accumulate_steps == 0 or i == len(train_loader) - 1:
            multiply_grads(model, 1 / n_items)
            optimizer.step()
            optimizer.zero_grad()
            n_items = 0


# ---------------------------------------------------------------- a batch prefetched, as in nanoGPT


@right
def nanogpt(model, optimizer, batches, gradient_accumulation_steps):
    stream, left, lossf = iter(batches), len(batches), []
    x, y = next(stream)
    while left:
        micro_steps, items, running = min(gradient_accumulation_steps, left), 0, 0.0
        for _ in range(micro_steps):
            loss = F.cross_entropy(model(x), y, ignore_index=-100, reduction="sum")
            items += int((y >= 0).sum())
            x, y = next(stream, (None, None))  # asynchronously, while the device works on the other
            loss.backward()
            running += loss.item()
        multiply_grads(model, 1 / items)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        lossf.append(running / items)
        left -= micro_steps
    return lossf


@wrong("mean_of_means", "dropped_tail")
def nanogpt_whole_iterations(model, optimizer, batches, gradient_accumulation_steps):
    stream = iter(batches)
    batch = next(stream)
    for _ in range(len(batches) // gradient_accumulation_steps):
        for _ in range(gradient_accumulation_steps):
            loss = mean(model, batch) / gradient_accumulation_steps
            batch = next(stream, None)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@wrong("reordered")
def nanogpt_prefetches_before_use(model, optimizer, batches, gradient_accumulation_steps):
    """The next batch is fetched before this one was used, so an epoch starts with the second."""
    stream = itertools.cycle(batches)
    batch = next(stream)
    left = len(batches)
    while left:
        micro_steps, items = min(gradient_accumulation_steps, left), 0
        for _ in range(micro_steps):
            batch = next(stream)
            summed(model, batch).backward()
            items += tokens(batch)
        multiply_grads(model, 1 / items)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        left -= micro_steps


@wrong("last_loss_logged")
def nanogpt_logs_what_is_at_hand(model, optimizer, batches, gradient_accumulation_steps):
    logged = []
    for window in chunks(batches, gradient_accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            loss = mean(model, batch)
            (loss * tokens(batch) / items).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        logged.append(loss.item())
    return logged


# ---------------------------------------------------------------- update_freq, as in fairseq


class FairseqTrainer:
    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self.model, self.optimizer = model, optimizer

    def sample_size(self, sample: Any) -> int:
        return tokens(sample)

    def normalise(self, sample_size: int) -> None:
        multiply_grads(self.model, 1.0 / max(sample_size, 1))

    def train_step(self, samples: list[Any]) -> None:
        self.model.train()
        self.optimizer.zero_grad()
        sample_size = 0
        for i, sample in enumerate(samples):
            with nullcontext() if i == len(samples) - 1 else self.no_sync():
                summed(self.model, sample).backward()
            sample_size += self.sample_size(sample)
        self.normalise(sample_size)
        self.optimizer.step()

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        yield


@right
def fairseq_update_freq(model, optimizer, batches, accumulation_steps):
    trainer = FairseqTrainer(model, optimizer)
    for samples in chunks(batches, accumulation_steps):
        trainer.train_step(samples)


@wrong("wrong_denominator")
def fairseq_sentence_avg(model, optimizer, batches, accumulation_steps):
    class SentenceAverage(FairseqTrainer):
        def sample_size(self, sample):
            return sample[0].size(0)

    trainer = SentenceAverage(model, optimizer)
    for samples in chunks(batches, accumulation_steps):
        trainer.train_step(samples)


@wrong("sum_not_mean")
def fairseq_without_multiply_grads(model, optimizer, batches, accumulation_steps):
    class Raw(FairseqTrainer):
        def normalise(self, sample_size):
            pass

    trainer = Raw(model, optimizer)
    for samples in chunks(batches, accumulation_steps):
        trainer.train_step(samples)


@wrong("dropped_tail")
def fairseq_grouped_drop_last(model, optimizer, batches, accumulation_steps):
    trainer = FairseqTrainer(model, optimizer)
    for samples in zip(*[iter(batches)] * accumulation_steps, strict=False):
        trainer.train_step(list(samples))


@wrong("reordered")
def fairseq_sorted_by_length(model, optimizer, batches, accumulation_steps):
    trainer = FairseqTrainer(model, optimizer)
    for samples in chunks(sorted(batches, key=lambda b: len(b[0])), accumulation_steps):
        trainer.train_step(samples)


# ---------------------------------------------------------------- an engine that counts, as in DeepSpeed


class Engine:
    """Counts micro-steps itself; backward() and step() are called for every micro-batch."""

    def __init__(self, model: nn.Module, optimizer: Any, steps: int, divides: bool = False) -> None:
        self.module, self.optimizer, self.steps, self.divides = model, optimizer, steps, divides
        self.micro_steps, self.window_tokens, self.boundary = 0, 0, None

    def __call__(self, inputs: Tensor) -> Tensor:
        return self.module(inputs)

    def set_gradient_accumulation_boundary(self, is_boundary: bool | None) -> None:
        self.boundary = is_boundary

    def is_gradient_accumulation_boundary(self) -> bool:
        return (self.micro_steps + 1) % self.steps == 0 if self.boundary is None else self.boundary

    def backward(self, loss: Tensor, counted: int = 0) -> None:
        (loss / self.steps if self.divides else loss).backward()
        self.window_tokens += counted

    def step(self) -> None:
        if self.is_gradient_accumulation_boundary():
            if self.window_tokens:
                multiply_grads(self.module, 1 / self.window_tokens)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.window_tokens = 0
        self.micro_steps += 1


@right
def deepspeed_engine(model, optimizer, batches, accumulation_steps):
    engine = Engine(model, optimizer, accumulation_steps)
    for i, (x, y) in enumerate(batches):
        at_end = True if i + 1 == len(batches) else None
        engine.set_gradient_accumulation_boundary(at_end)
        loss = F.cross_entropy(engine(x), y, reduction="sum")
        engine.backward(loss, int((y != -100).sum()))
        engine.step()


@wrong("mean_of_means", "divided_twice")
def deepspeed_user_divides_too(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        engine = Engine(model, optimizer, len(window), divides=True)
        for batch in window:
            engine.backward(mean(model, batch) / len(window))
            engine.step()


@wrong("cleared_mid_window")
def deepspeed_user_clears_too(model, optimizer, batches, accumulation_steps):
    engine = Engine(model, optimizer, accumulation_steps)
    for i, batch in enumerate(batches):
        model.zero_grad()
        engine.set_gradient_accumulation_boundary(True if i + 1 == len(batches) else None)
        engine.backward(summed(model, batch), tokens(batch))
        engine.step()


@wrong("mean_of_means", "leaked_tail")
def deepspeed_over_epochs(model, optimizer, batches, accumulation_steps, epochs):
    engine = Engine(model, optimizer, accumulation_steps, divides=True)
    for _ in range(epochs):
        for batch in batches:
            engine.backward(mean(model, batch))
            engine.step()


# ---------------------------------------------------------------- scaled losses, as in Apex and amp


class Amp:
    scale = 1024.0

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @contextmanager
    def scale_loss(self, loss: Tensor, delay_unscale: bool = False) -> Iterator[Tensor]:
        yield loss * self.scale
        if not delay_unscale:
            multiply_grads(self.model, 1 / self.scale)


@right
def apex_delay_unscale(model, optimizer, batches, accumulation_steps):
    amp = Amp(model)
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for j, batch in enumerate(window):
            with amp.scale_loss(summed(model, batch) / items, delay_unscale=j < len(window) - 1) as scaled:
                scaled.backward()
        optimizer.step()
        optimizer.zero_grad()


@right
def torch_grad_scaler(model, optimizer, batches, accumulation_steps, max_grad_norm):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            scaler.scale(summed(model, batch) / items).backward()
        scaler.unscale_(optimizer)
        if max_grad_norm:
            clip_grad_norm_(model.parameters(), max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)


@wrong("wrong_scale")
def apex_never_unscaled(model, optimizer, batches, accumulation_steps):
    amp = Amp(model)
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            with amp.scale_loss(summed(model, batch) / items, delay_unscale=True) as scaled:
                scaled.backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("clipped")
def apex_clips_before_unscaling(model, optimizer, batches, accumulation_steps):
    """The norm of 1.0 is meant for the true gradient; the one that is clipped is 1024 times as long."""
    amp = Amp(model)
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            with amp.scale_loss(summed(model, batch) / items, delay_unscale=True) as scaled:
                scaled.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        multiply_grads(model, 1 / amp.scale)
        optimizer.step()
        optimizer.zero_grad()


@wrong("unexplained")
def apex_scale_grows_inside_window(model, optimizer, batches, accumulation_steps):
    """The scale doubles with each micro-batch, and the last one's is taken out: weights 1/4, 1/2, 1."""
    for window in chunks(batches, accumulation_steps):
        items, scale = sum(map(tokens, window)), 512.0
        for batch in window:
            scale *= 2
            (summed(model, batch) / items * scale).backward()
        multiply_grads(model, 1 / scale)
        optimizer.step()
        optimizer.zero_grad()


# ---------------------------------------------------------------- an optimizer that accumulates, as in Keras


class AccumulatingOptimizer(torch.optim.Optimizer):
    """Its step() is called for each micro-batch, and steps the optimizer inside it once in K times."""

    clears = True

    def __init__(self, inner: torch.optim.Optimizer, every: int) -> None:
        super().__init__([p for g in inner.param_groups for p in g["params"]], {})
        self.inner, self.every, self.seen, self.weight = inner, every, 0, 0.0
        self.held = [torch.zeros_like(p) for g in self.param_groups for p in g["params"]]

    def every_parameter(self) -> list[Tensor]:
        return [p for g in self.param_groups for p in g["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None, weight: float = 1.0) -> None:
        for held, p in zip(self.held, self.every_parameter(), strict=True):
            held += p.grad
            p.grad = None
        self.seen, self.weight = self.seen + 1, self.weight + weight
        if self.seen == self.every:
            self.flush()

    @torch.no_grad()
    def flush(self) -> None:
        if not self.seen:
            return
        for held, p in zip(self.held, self.every_parameter(), strict=True):
            p.grad = held / self.weight
        self.inner.step()
        self.inner.zero_grad()
        if self.clears:
            self.held = [torch.zeros_like(h) for h in self.held]
        self.seen, self.weight = 0, 0.0


@right
def keras_accumulating_optimizer(model, optimizer, batches, accumulation_steps):
    wrapped = AccumulatingOptimizer(optimizer, accumulation_steps)
    for batch in batches:
        summed(model, batch).backward()
        wrapped.step(weight=tokens(batch))
    wrapped.flush()


@wrong("mean_of_means", "dropped_tail")
def keras_compiled_anew_each_epoch(model, optimizer, batches, accumulation_steps):
    """What the wrapper of the last epoch still held is thrown away with it."""
    wrapped = AccumulatingOptimizer(optimizer, accumulation_steps)
    for batch in batches:
        mean(model, batch).backward()
        wrapped.step()


@wrong("not_cleared")
def keras_never_resets(model, optimizer, batches, accumulation_steps, epochs):
    class Sticky(AccumulatingOptimizer):
        clears = False

    wrapped = Sticky(optimizer, accumulation_steps)
    for _ in range(epochs):
        for batch in batches:
            summed(model, batch).backward()
            wrapped.step(weight=tokens(batch))
        wrapped.flush()


@wrong("leaked_tail")
def keras_wrapper_over_epochs(model, optimizer, batches, accumulation_steps, epochs):
    wrapped = AccumulatingOptimizer(optimizer, accumulation_steps)
    for _ in range(epochs):
        for batch in batches:
            summed(model, batch).backward()
            wrapped.step(weight=tokens(batch))


# ---------------------------------------------------------------- running means, as in optax.MultiSteps


def value_and_grad(model: nn.Module, batch: Any) -> tuple[dict[str, Tensor], Tensor]:
    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss_fn(values: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(model, values, (batch[0],)), batch[1], reduction="sum")

    return grad_and_value(loss_fn)(params)


def apply_updates(model: nn.Module, optimizer: Any, grads: dict[str, Tensor]) -> None:
    for name, p in model.named_parameters():
        p.grad = grads[name]
    optimizer.step()
    optimizer.zero_grad()


@right
def optax_multisteps_weighted(model, optimizer, batches, accumulation_steps):
    """A running mean, in which each micro-batch's mean counts as its tokens do."""
    logged = []
    for window in chunks(batches, accumulation_steps):
        acc, seen, value = {n: torch.zeros_like(p) for n, p in model.named_parameters()}, 0, 0.0
        for batch in filter(tokens, window):
            grads, loss = value_and_grad(model, batch)
            n = tokens(batch)
            seen += n
            value += (float(loss) / n - value) * n / seen
            acc = {k: a + (grads[k] / n - a) * (n / seen) for k, a in acc.items()}
        apply_updates(model, optimizer, acc)
        logged.append(value)
    return logged


@wrong("mean_of_means")
def optax_multisteps(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        acc = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
        for mini_step, batch in enumerate(window):
            grads, _ = value_and_grad(model, batch)
            acc = {k: a + (grads[k] / tokens(batch) - a) / (mini_step + 1) for k, a in acc.items()}
        apply_updates(model, optimizer, acc)


@wrong("no_optimizer")
def jax_sgd_by_hand(model, optimizer, batches, accumulation_steps):
    rate = optimizer.param_groups[0]["lr"]
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            (summed(model, batch) / items).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= rate * p.grad
                p.grad = None


# ---------------------------------------------------------------- normalised by tokens, as in torchtune


@right
def torchtune(model, optimizer, dataloader, accum_steps):
    num_tokens, running_loss, logged = 0, 0.0, []
    for idx, (inputs, labels) in enumerate(dataloader):
        current_num_tokens = (labels != -100).sum()
        num_tokens = num_tokens + current_num_tokens
        current_loss = F.cross_entropy(model(inputs), labels, reduction="sum")
        running_loss = running_loss + current_loss.detach()
        current_loss.backward()
        if (idx + 1) % accum_steps == 0 or idx + 1 == len(dataloader):
            multiply_grads(model, 1 / num_tokens.double())
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            logged.append(running_loss / num_tokens)
            num_tokens, running_loss = 0, 0.0
    return logged


@wrong("wrong_denominator")
def torchtune_never_resets_num_tokens(model, optimizer, dataloader, accum_steps):
    num_tokens = 0
    for idx, batch in enumerate(dataloader):
        num_tokens += tokens(batch)
        summed(model, batch).backward()
        if (idx + 1) % accum_steps == 0 or idx + 1 == len(dataloader):
            multiply_grads(model, 1 / num_tokens)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


@wrong("not_finite")
def torchtune_resets_too_early(model, optimizer, dataloader, accum_steps):
    """The number of tokens is set to 0 before the gradient is divided by it."""
    num_tokens = torch.zeros((), dtype=torch.float64)
    for idx, batch in enumerate(dataloader):
        num_tokens += tokens(batch)
        summed(model, batch).backward()
        if (idx + 1) % accum_steps == 0 or idx + 1 == len(dataloader):
            num_tokens.zero_()
            multiply_grads(model, 1 / num_tokens)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


@wrong("wrong_loss_logged")
def torchtune_logs_per_row(model, optimizer, dataloader, accum_steps):
    logged = []
    for window in chunks(dataloader, accum_steps):
        items, rows, running = sum(map(tokens, window)), 0, 0.0
        for batch in window:
            loss = summed(model, batch)
            (loss / items).backward()
            running, rows = running + loss.item(), rows + len(batch[0])
        optimizer.step()
        optimizer.zero_grad()
        logged.append(running / rows)
    return logged


@wrong("mean_of_means_logged")
def torchtune_logs_average_of_losses(model, optimizer, dataloader, accum_steps):
    logged = []
    for window in chunks(dataloader, accum_steps):
        items, losses = sum(map(tokens, window)), []
        for batch in window:
            loss = mean(model, batch)
            losses.append(loss.detach())
            (loss * (tokens(batch) / items)).backward()
        optimizer.step()
        optimizer.zero_grad()
        logged.append(torch.stack(losses).mean())
    return logged


@wrong("wrong_denominator")
def grpo_constant_length(model, optimizer, dataloader, accum_steps):
    """Sums divided by the longest length that there could be, times the micro-batches of the window."""
    for window in chunks(dataloader, accum_steps):
        for batch in window:
            (summed(model, batch) / (10 * len(window))).backward()
        optimizer.step()
        optimizer.zero_grad()


# ---------------------------------------------------------------- context managers, as in accelerate


class AcceleratedOptimizer(torch.optim.Optimizer):
    """Does nothing unless gradients are synchronised; as there, it doesn't call its parent's __init__."""

    def __init__(self, optimizer: torch.optim.Optimizer, accelerator: "Accelerator") -> None:
        self.optimizer, self.accelerator = optimizer, accelerator

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.accelerator.sync_gradients:
            self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> None:
        if self.accelerator.sync_gradients:
            self.optimizer.step(closure)


class Accelerator:
    def __init__(self, gradient_accumulation_steps: int) -> None:
        self.steps, self.step, self.end_of_dataloader, self.sync_gradients = (
            gradient_accumulation_steps,
            0,
            False,
            True,
        )

    def prepare(self, batches: list[Any]) -> Iterator[Any]:
        for i, batch in enumerate(batches):
            self.end_of_dataloader = i + 1 == len(batches)
            yield batch

    @contextmanager
    def accumulate(self, model: nn.Module) -> Iterator[None]:
        if self.end_of_dataloader:
            self.step, self.sync_gradients = 0, True
        else:
            self.step += 1
            self.sync_gradients = self.step % self.steps == 0
        yield

    def backward(self, loss: Tensor) -> None:
        (loss / self.steps).backward()


def window_tokens(batches: list[Any], steps: int) -> Iterator[int]:
    for window in chunks(batches, steps):
        yield from [sum(map(tokens, window))] * len(window)


@right
def accelerate_by_tokens(model, optimizer, batches, accumulation_steps):
    """As its guide has it: times K, since the accelerator divides by K."""
    accelerator = Accelerator(accumulation_steps)
    prepared = AcceleratedOptimizer(optimizer, accelerator)
    num_items = window_tokens(batches, accumulation_steps)
    for batch in accelerator.prepare(batches):
        with accelerator.accumulate(model):
            loss = summed(model, batch) * accumulation_steps / next(num_items)
            accelerator.backward(loss)
            prepared.step()
            prepared.zero_grad()


@wrong("stepped_per_micro_batch")
def accelerate_raw_optimizer(model, optimizer, batches, accumulation_steps):
    """The optimizer that was not prepared makes a step each time."""
    accelerator = Accelerator(accumulation_steps)
    prepared = AcceleratedOptimizer(optimizer, accelerator)
    num_items = window_tokens(batches, accumulation_steps)
    for batch in accelerator.prepare(batches):
        with accelerator.accumulate(model):
            accelerator.backward(summed(model, batch) * accumulation_steps / next(num_items))
            optimizer.step()
            prepared.zero_grad()


@wrong("scheduler_per_micro_batch")
def accelerate_raw_scheduler(model, optimizer, batches, accumulation_steps, scheduler):
    accelerator = Accelerator(accumulation_steps)
    prepared = AcceleratedOptimizer(optimizer, accelerator)
    num_items = window_tokens(batches, accumulation_steps)
    for batch in accelerator.prepare(batches):
        with accelerator.accumulate(model):
            accelerator.backward(summed(model, batch) * accumulation_steps / next(num_items))
            prepared.step()
            scheduler.step()
            prepared.zero_grad()


@wrong("mean_of_means", "divided_twice", "tail_divided_by_k")
def accelerate_divided_by_hand_too(model, optimizer, batches, accumulation_steps):
    accelerator = Accelerator(accumulation_steps)
    prepared = AcceleratedOptimizer(optimizer, accelerator)
    for batch in accelerator.prepare(batches):
        with accelerator.accumulate(model):
            accelerator.backward(mean(model, batch) / accumulation_steps)
            prepared.step()
            prepared.zero_grad()


# ---------------------------------------------------------------- the rest: right


@right
def generator_of_windows(model, optimizer, batches, accumulation_steps):
    def windows() -> Iterator[tuple[int, list[Any]]]:
        held: list[Any] = []
        for batch in batches:
            held.append(batch)
            if len(held) == accumulation_steps:
                yield sum(map(tokens, held)), held
                held = []
        if held:
            yield sum(map(tokens, held)), held

    for items, window in windows():
        model.zero_grad(set_to_none=False)
        while window:
            (summed(model, window.pop(0)) / items).backward()
        optimizer.step()


@right
def skips_nan_micro_batches(model, optimizer, batches, accumulation_steps):
    """A micro-batch of nothing but ignored labels has a mean of NaN; it is left out, as it should be."""
    for window in chunks(batches, accumulation_steps):
        items = 0
        for batch in window:
            loss = mean(model, batch)
            if not torch.isfinite(loss):
                continue
            items += tokens(batch)
            (loss * tokens(batch)).backward()
        multiply_grads(model, 1 / items)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


@right
def checkpointed(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for x, y in window:
            logits = checkpoint(model, x, use_reentrant=False)
            (F.cross_entropy(logits, y, reduction="sum") / items).backward()
        optimizer.step()
        optimizer.zero_grad()


@right
def checkpointed_reentrant(model, optimizer, batches, accumulation_steps):
    """The old kind, with the input made to require a gradient, without which nothing would get one."""
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for x, y in window:
            logits = checkpoint(model, x.clone().requires_grad_(), use_reentrant=True)
            (F.cross_entropy(logits, y, reduction="sum") / items).backward()
        optimizer.step()
        optimizer.zero_grad()


@right
def param_groups_of_its_own(model, batches, accumulation_steps, epochs, optimizer):
    decay = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    adamw = torch.optim.AdamW(
        [{"params": decay, "lr": 1e-2, "weight_decay": 0.1}, {"params": others, "lr": 3e-3}], weight_decay=0.0
    )
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            items = sum(map(tokens, window))
            for batch in window:
                (summed(model, batch) / items).backward()
            adamw.step()
            adamw.zero_grad()


@right
def two_optimizers(model, optimizer, batches, accumulation_steps, epochs):
    """One for matrices and one for all else, as Muon's users have."""
    first = torch.optim.SGD([p for p in model.parameters() if p.ndim > 1], lr=0.02, momentum=0.9)
    second = torch.optim.Adam([p for p in model.parameters() if p.ndim < 2], lr=1e-3)
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            items = sum(map(tokens, window))
            for batch in window:
                (summed(model, batch) / items).backward()
            for each in (first, second):
                each.step()
            model.zero_grad()


@right
def warm_up_made_inside(model, optimizer, batches, accumulation_steps, epochs):
    warm_up = LambdaLR(optimizer, lambda step: min(1.0, step / 2))
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            items = sum(map(tokens, window))
            for batch in window:
                (summed(model, batch) / items).backward()
            optimizer.step()
            warm_up.step()
            optimizer.zero_grad()


@right
def sequential_schedule_with_momentum(model, optimizer, batches, accumulation_steps, epochs):
    optimizer.param_groups[0].update(momentum=0.9, weight_decay=0.01, nesterov=True)
    parts = [LinearLR(optimizer, 0.1, 1.0, 2), LinearLR(optimizer, 1.0, 0.1, 4)]
    schedule = SequentialLR(optimizer, parts, milestones=[2])
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            optimizer.zero_grad(set_to_none=False)
            items = sum(map(tokens, window))
            for batch in window:
                (summed(model, batch) / items).backward()
            optimizer.step()
            schedule.step()


@right
def swa_made_inside(model, optimizer, batches, accumulation_steps, epochs):
    swa_model, updates = AveragedModel(model), 0
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            items = sum(map(tokens, window))
            for batch in window:
                (summed(model, batch) / items).backward()
            optimizer.step()
            optimizer.zero_grad()
            updates += 1
            if updates >= 2:
                swa_model.update_parameters(model)


@right
def evaluates_with_the_average(model, optimizer, batches, accumulation_steps, ema):
    """After each update the average's weights go into the model for an evaluation, and out again."""
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            (summed(model, batch) / items).backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update_parameters(model)
        kept = copy.deepcopy(model.state_dict())
        model.load_state_dict(ema.module.state_dict())
        model.eval()
        with torch.no_grad():
            mean(model, batches[0])
        model.train()
        model.load_state_dict(kept)


@right
def megatron_main_grad(model, optimizer, batches, accumulation_steps):
    """Hooks move every gradient into a buffer beside the parameter; .grad stays empty until the update."""

    def into_main_grad(p: Tensor) -> None:
        p.main_grad.add_(p.grad)
        p.grad = None

    handles = []
    for p in model.parameters():
        p.main_grad = torch.zeros_like(p)
        handles.append(p.register_post_accumulate_grad_hook(into_main_grad))
    for window in chunks(batches, accumulation_steps):
        for batch in window:
            summed(model, batch).backward()
        items = sum(map(tokens, window))
        for p in model.parameters():
            p.grad = p.main_grad / items
        optimizer.step()
        for p in model.parameters():
            p.main_grad.zero_()
            p.grad = None
    for handle in handles:
        handle.remove()


@right
def last_in_first_out(model, optimizer, batches, accumulation_steps):
    """Inside a window the order is of no account."""
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        stack = list(window)
        while stack:
            (summed(model, stack.pop()) / items).backward()
        optimizer.step()
        optimizer.zero_grad()


@right
def probes_for_memory_first(model, optimizer, batches, accumulation_steps):
    """The largest micro-batch goes through once, to see if it fits; its gradient is thrown away."""
    largest = max(batches, key=lambda b: b[0].numel())
    summed(model, largest).backward()
    optimizer.zero_grad()
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            (summed(model, batch) / items).backward()
        optimizer.step()
        optimizer.zero_grad()


@right
def divides_in_a_step_hook(model, optimizer, batches, accumulation_steps):
    count = SimpleNamespace(tokens=0)

    def divide(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        multiply_grads(model, 1 / count.tokens)

    def clear(optimizer: Any, _args: Any, _kwargs: Any) -> None:
        optimizer.zero_grad()
        count.tokens = 0

    hooks = [optimizer.register_step_pre_hook(divide), optimizer.register_step_post_hook(clear)]
    for window in chunks(batches, accumulation_steps):
        for batch in window:
            summed(model, batch).backward()
            count.tokens += tokens(batch)
        optimizer.step()
    for hook in hooks:
        hook.remove()


@right
def backward_of_a_list(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        torch.autograd.backward([summed(model, batch) / items for batch in window])
        optimizer.step()
        optimizer.zero_grad()


@right
def loader_in_a_thread(model, optimizer, batches, accumulation_steps):
    ready: queue.Queue[Any] = queue.Queue(maxsize=2)

    def load() -> None:
        for window in chunks(batches, accumulation_steps):
            ready.put((sum(map(tokens, window)), window))
        ready.put(None)

    worker = threading.Thread(target=load)
    worker.start()
    while (item := ready.get()) is not None:
        items, window = item
        for batch in window:
            (summed(model, batch) / items).backward()
        optimizer.step()
        optimizer.zero_grad()
    worker.join()


@right
def row_by_row(model, optimizer, batches, accumulation_steps):
    """Each micro-batch is cut up into rows once more."""
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for x, y in window:
            for row in zip(x.split(1), y.split(1), strict=True):
                (summed(model, row) / items).backward()
        optimizer.step()
        optimizer.zero_grad()


# ---------------------------------------------------------------- the rest: wrong


@wrong("missing_gradient")
def checkpointed_reentrant_bare_input(model, optimizer, batches, accumulation_steps):
    """No input of the checkpoint requires a gradient, so the layers inside get none."""
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for x, y in window:
            hidden = checkpoint(model[:2], x, use_reentrant=True)
            (F.cross_entropy(model[2:](hidden), y, reduction="sum") / items).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("low_precision_buffer")
def main_grad_in_bfloat16(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        main = [torch.zeros_like(p, dtype=torch.bfloat16) for p in model.parameters()]
        for batch in window:
            (summed(model, batch) / items).backward()
            for buffer, p in zip(main, model.parameters(), strict=True):
                buffer += p.grad.bfloat16()
                p.grad = None
        for buffer, p in zip(main, model.parameters(), strict=True):
            p.grad = buffer.to(p.dtype)
        optimizer.step()
        optimizer.zero_grad()


@wrong("not_cleared")
def head_is_never_cleared(model, optimizer, batches, accumulation_steps, epochs):
    """Two optimizers, both make their steps, and only one of them clears its gradients."""
    body = torch.optim.SGD(model[:2].parameters(), lr=0.05)
    head = torch.optim.SGD(model[2:].parameters(), lr=0.01)
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            items = sum(map(tokens, window))
            for batch in window:
                (summed(model, batch) / items).backward()
            body.step()
            head.step()
            body.zero_grad()


@wrong("not_cleared")
def clears_a_copy(model, optimizer, batches, accumulation_steps):
    """The model whose gradients are cleared is not the one that is trained."""
    twin = copy.deepcopy(model)
    for window in chunks(batches, accumulation_steps):
        twin.zero_grad()
        items = sum(map(tokens, window))
        for batch in window:
            (summed(model, batch) / items).backward()
        optimizer.step()


@wrong("not_moved")
def clears_before_the_step(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            (summed(model, batch) / items).backward()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()


@wrong("not_moved")
def warm_up_that_never_ends(model, optimizer, batches, accumulation_steps, epochs):
    """Whole numbers are divided, so that the learning rate stays at 0."""
    warm_up = LambdaLR(optimizer, lambda step: min(1, step // 1000))
    for _ in range(epochs):
        for window in chunks(batches, accumulation_steps):
            items = sum(map(tokens, window))
            for batch in window:
                (summed(model, batch) / items).backward()
            optimizer.step()
            warm_up.step()
            optimizer.zero_grad()


@wrong("stepped_per_micro_batch")
def accumulation_not_indented(model, optimizer, batches, accumulation_steps):
    """The step stands one level too far to the left, outside of the `if` that it belongs to."""
    for i, batch in enumerate(batches):
        (summed(model, batch) / tokens(batch)).backward()
        if (i + 1) % accumulation_steps == 0:
            pass  # the update was meant to be made here
        optimizer.step()
        optimizer.zero_grad()


@wrong("ema_per_micro_batch")
def timm_ema(model, optimizer, batches, accumulation_steps, ema):
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for j, batch in enumerate(window):
            (summed(model, batch) / items).backward()
            if j + 1 == len(window):
                optimizer.step()
                optimizer.zero_grad()
            ema.update_parameters(model)


@wrong("ema_per_micro_batch", "last_loss_logged")
def timm_ema_and_meter(model, optimizer, batches, accumulation_steps, ema):
    logged = []
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            loss = mean(model, batch)
            (loss * tokens(batch) / items).backward()
            if batch is window[-1]:
                optimizer.step()
                optimizer.zero_grad()
                logged.append(loss.item())
            ema.update_parameters(model)
    return logged


@wrong("mean_of_means", "tail_divided_by_k", "scheduler_per_micro_batch")
def diffusers_script(model, optimizer, batches, accumulation_steps, lr_scheduler):
    for i, batch in enumerate(batches):
        (mean(model, batch) / accumulation_steps).backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
        lr_scheduler.step()


@wrong("clipped_per_micro_batch")
def opacus_like(model, optimizer, batches, accumulation_steps):
    """Each micro-batch's own gradient is cut to length before it is added up."""
    parameters = list(model.parameters())
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        held = [torch.zeros_like(p) for p in parameters]
        for batch in window:
            (summed(model, batch) / items).backward()
            clip_grad_norm_(parameters, 0.01)
            for h, p in zip(held, parameters, strict=True):
                h += p.grad
            optimizer.zero_grad()
        for h, p in zip(held, parameters, strict=True):
            p.grad = h
        optimizer.step()
        optimizer.zero_grad()


@wrong("clipped")
def clips_values(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            (summed(model, batch) / items).backward()
        clip_grad_value_(model.parameters(), 0.005)
        optimizer.step()
        optimizer.zero_grad()


@wrong("unexplained")
def penalty_in_the_loss(model, optimizer, batches, accumulation_steps):
    """A ridge penalty is added to every micro-batch's loss, and is no part of the right loss."""
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for batch in window:
            ridge = sum((p**2).sum() for p in model.parameters())
            (summed(model, batch) / items + 0.05 * ridge).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("unexplained")
def label_smoothing(model, optimizer, batches, accumulation_steps):
    for window in chunks(batches, accumulation_steps):
        items = sum(map(tokens, window))
        for x, y in window:
            loss = F.cross_entropy(model(x), y, reduction="sum", label_smoothing=0.1)
            (loss / items).backward()
        optimizer.step()
        optimizer.zero_grad()


@wrong("unexplained")
def backward_of_the_running_loss(model, optimizer, batches, accumulation_steps):
    """The sum so far goes backward each time, so the first micro-batch counts three times, the last once."""
    for window in chunks(batches, accumulation_steps):
        items, running = sum(map(tokens, window)), 0.0
        for batch in window:
            running = running + summed(model, batch) / items
            running.backward(retain_graph=True)
        optimizer.step()
        optimizer.zero_grad()


@wrong("sum_not_mean", "dropped_tail")
def reduction_sum_and_whole_windows(model, optimizer, batches, accumulation_steps):
    for start in range(0, len(batches) - accumulation_steps + 1, accumulation_steps):
        optimizer.zero_grad()
        for batch in batches[start : start + accumulation_steps]:
            summed(model, batch).backward()
        optimizer.step()


@wrong("mean_of_means", "last_loss_logged")
def progress_bar(model, optimizer, batches, accumulation_steps):
    """Divided by the true length of the window, but alike; the bar shows the last micro-batch's loss."""
    shown = []
    for window in chunks(batches, accumulation_steps):
        for batch in window:
            loss = mean(model, batch)
            (loss / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()
        shown.append(float(loss))
    return shown
