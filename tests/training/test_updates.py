"""However B is cut into M and K, the parameters come out the same; and as by a loop written out by hand."""

import random

import pytest
import torch
from small_training import distance, made_data, make_trainer, parameters, small_model
from torch import nn
from torch.nn import functional as F

from accum_lib.training.data import Example, TextData
from accum_lib.training.data.tasks import Classification
from accum_lib.training.settings import TrainingSettings

# float64 rounds by 1e-16. Cutting a window otherwise adds its sums in another order; measured, the parameters
# differ by 4e-16 after six updates (MLM 1e-16). A mean of means moves MLM's by 0.1.
ROUNDING = 1e-13


@pytest.fixture(scope="module", params=["classification", "mlm"])
def runs(request):
    sizes = ((32, 1), (8, 4), (4, 8))
    trained = {}
    for m, k in sizes:
        trainer = make_trainer(task=request.param, dropout=0.0, micro_batch_size=m, accumulation_steps=k)
        trainer.run()
        trained[m, k] = parameters(trainer)
    return request.param, trained


def test_m_and_k_do_not_change_the_parameters(runs) -> None:
    task, trained = runs
    start = [p.detach() for p in small_model(task, 0.0).parameters()]
    assert distance(trained[32, 1], start) > 1e-2  # it moved
    for sizes in ((8, 4), (4, 8)):
        assert 0 < distance(trained[sizes], trained[32, 1]) < ROUNDING


def test_passes_by_tokens_are_fewer_and_change_no_parameter(runs) -> None:
    task, trained = runs
    updates = []
    how = {"micro_batch_size": 4, "accumulation_steps": 8, "by_tokens": True}
    trainer = make_trainer(task=task, dropout=0.0, on_update=updates.append, **how)
    trainer.run()
    assert 0 < distance(parameters(trainer), trained[32, 1]) < ROUNDING
    assert {u.accumulation_steps for u in updates} <= set(range(2, 8))
    for indices, _ in zip(trainer._epoch[1], updates, strict=False):
        parts = trainer.task.passes(indices, 4, by_tokens=True)
        assert max(len(part) * trainer.task.lengths[part[0]] for part in parts) <= 4 * trainer.task.longest


def test_a_mean_of_means_is_seen(runs, monkeypatch) -> None:
    """The deliberately wrong one: each micro-batch's mean loss, weighed alike."""
    task, trained = runs

    def mean_of_means(self, model, batch):
        logits, labels = self.predict(model, batch)
        return F.cross_entropy(logits, labels)

    monkeypatch.setattr("accum_lib.training.data.tasks.Task.loss_sum", mean_of_means)
    monkeypatch.setattr("accum_lib.training.data.tasks.Task.count", lambda self, batch: 1.0)
    wrong = make_trainer(task=task, dropout=0.0, micro_batch_size=4, accumulation_steps=8)
    wrong.run()
    assert distance(parameters(wrong), trained[32, 1]) > 1e4 * ROUNDING


def test_it_is_what_a_loop_written_out_by_hand_gives() -> None:
    trainer = make_trainer(dropout=0.0, length_pool=0, warmup=0.5, max_grad_norm=0.5, learning_rate=1e-3)
    trainer.run()
    assert distance(parameters(trainer), by_hand(trainer)) < ROUNDING


def by_hand(trainer) -> list[torch.Tensor]:
    """One padded batch for each update; AdamW, decay, clipping and schedule from their formulas."""
    model = small_model(dropout=0.0)
    parameters = dict(model.named_parameters())
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in parameters.items()}
    rates = [0.25, 0.5, 0.75, 1.0, 2 / 3, 1 / 3]  # of 6 updates: three rise, three fall
    for update, window in enumerate(windows_of(trainer), start=1):
        batch = trainer.task.batch(window)
        model.zero_grad()
        F.cross_entropy(model(batch["input_ids"], batch["attention_mask"]).logits, batch["labels"]).backward()
        norm = sum(float(p.grad.square().sum()) for p in parameters.values()) ** 0.5
        shrink = min(1.0, 0.5 / (norm + 1e-6))
        for name, p in parameters.items():
            decay = 0.0 if name.endswith("bias") or "LayerNorm" in name else 0.1
            adamw(p, p.grad * shrink, moments[name], 1e-3 * rates[update - 1], decay, update)
    return [p.detach() for p in parameters.values()]


def windows_of(trainer) -> list[list[int]]:
    from accum_lib.training.data.batches import epoch_windows

    return [w for epoch in range(2) for w in epoch_windows(trainer.task.lengths, 32, 0, 0, epoch)]


@torch.no_grad()
def adamw(p, gradient, moments, rate, decay, update) -> None:
    """Loshchilov and Hutter 2019, algorithm 2."""
    first, second = moments
    first += (1 - 0.9) * (gradient - first)
    second += (1 - 0.98) * (gradient.square() - second)
    step = (first / (1 - 0.9**update)) / ((second / (1 - 0.98**update)).sqrt() + 1e-6)
    p -= rate * (step + decay * p)


def test_the_trailing_window_is_an_update_of_its_own() -> None:
    seen = []
    make_trainer(on_update=seen.append).run()
    assert [u.count for u in seen] == [32, 32, 26, 32, 32, 26]
    assert [u.accumulation_steps for u in seen] == [4, 4, 4, 4, 4, 4]  # 26 = 8 + 8 + 8 + 2
    assert sum(u.tokens for u in seen[:3]) == sum(Classification(made_data().train, tokenizer()).lengths)


def tokenizer():
    from small_training import made_tokenizer

    return made_tokenizer()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_stay_near(precision) -> None:
    whole, half = (make_trainer(dropout=0.0, dtype=torch.float32, precision=p) for p in ("fp32", precision))
    whole.run()
    half.run()
    assert all(p.dtype == torch.float32 for p in half.model.parameters())
    assert 1e-8 < distance(parameters(half), parameters(whole)) < 0.2


def test_checkpointing_changes_no_bit_even_with_dropout() -> None:
    plain, recomputed = make_trainer(), make_trainer(checkpointing=True)
    plain.run()
    recomputed.run()
    assert all(torch.equal(a, b) for a, b in zip(parameters(plain), parameters(recomputed), strict=True))


def test_compiled_it_learns_the_same(monkeypatch) -> None:
    """With PyTorch's tracer alone: to generate code would take a minute."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **how: compile_(self, backend="eager", **how)
    )
    plain, compiled = (make_trainer(dropout=0.0, compile=c, max_updates=2) for c in (False, True))
    plain.run()
    compiled.run()
    assert compiled.model._compiled_call_impl is not None
    assert distance(parameters(compiled), parameters(plain)) < ROUNDING


@pytest.mark.parametrize("max_grad_norm", [1.0, None])
def test_the_norm_of_the_gradient_is_taken_once_in_each_update(monkeypatch, max_grad_norm) -> None:
    """It reads every gradient, and a GPU waits for it: the look for a NaN and the clipping share it."""
    take, taken = nn.utils.get_total_norm, []
    monkeypatch.setattr(nn.utils, "get_total_norm", lambda *a, **how: taken.append(1) or take(*a, **how))
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", None)  # would take another one
    done = make_trainer(max_grad_norm=max_grad_norm).run()
    assert len(taken) == done.updates == 6


def test_the_noise_scale_is_measured_without_a_difference() -> None:
    seen: list = []
    plain = make_trainer(epochs=6, dropout=0.0)  # which examples are together in a micro-batch, it changes
    watched = make_trainer(epochs=6, dropout=0.0, noise_scale=True, on_update=seen.append)
    assert plain.run().noise_scale is None
    assert watched.run().noise_scale == seen[-1].noise_scale > 0
    assert distance(parameters(watched), parameters(plain)) < ROUNDING


@pytest.mark.parametrize("sorted_by_length", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_noise_scale_is_that_of_random_micro_batches(monkeypatch, sorted_by_length) -> None:
    """Long texts have another label here. Sorted by length, the deliberately wrong one, micro-batches differ
    by more than chance, and the estimate is several times too large."""
    dice = random.Random(0)
    lengths = [dice.randint(1, 5) if i % 4 else dice.randint(8, 12) for i in range(160)]
    made = tuple(Example(" ".join(["sum"] * n), None, int(n > 6)) for n in lengths)
    data = TextData("long and short", made, made[:2], ("short", "long"))
    if sorted_by_length:
        monkeypatch.setattr(TrainingSettings, "order_pool", 1)
    seen: list = []
    trainer = make_trainer(
        data=data, dropout=0.0, noise_scale=True, learning_rate=1e-12, epochs=40, on_update=seen.append
    )
    exact = noise_scale_by_hand(trainer)
    trainer.run()
    assert (0.7 * exact < seen[-1].noise_scale < 1.4 * exact) == (not sorted_by_length)


def noise_scale_by_hand(trainer) -> float:
    """From the gradient of each example by itself: tr(covariance) / |mean|^2 (McCandlish et al. 2018)."""
    model, task, shares = trainer.model.train(), trainer.task, []
    for i in range(len(task)):
        model.zero_grad()
        task.loss_sum(model, task.batch([i])).backward()
        shares.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    model.zero_grad()
    gradients = torch.stack(shares)
    mean = gradients.mean(dim=0)
    return float((gradients - mean).square().sum(dim=1).mean() / mean.square().sum())


def test_windows_of_like_lengths_have_no_noise_scale() -> None:
    with pytest.raises(ValueError, match="a length_pool of 8 fills them with texts of like length"):
        TrainingSettings(noise_scale=True, length_pool=8)


def test_it_learns() -> None:
    done = make_trainer(epochs=8).run()
    assert done.updates == 24
    assert done.evaluations[-1].accuracy > 0.9
    assert done.evaluations[-1].loss < done.evaluations[0].loss
