"""Weight decay where it belongs, and a schedule that ticks once per update."""

import pytest
import torch
from small_training import make_trainer, small_model
from torch import nn

from accum_lib.training.machinery import decay_groups, make_optimizer, make_schedule


def test_biases_and_layer_norms_are_not_decayed() -> None:
    model = small_model()
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, spared = ({names[id(p)] for p in group["params"]} for group in decay_groups(model, 0.1))
    norms = {
        f"{n}.{p}"
        for n, m in model.named_modules()
        if isinstance(m, nn.LayerNorm)
        for p in ("weight", "bias")
    }
    assert spared == norms | {name for name in names.values() if name.endswith("bias")}
    assert decayed == set(names.values()) - spared
    assert [group["weight_decay"] for group in decay_groups(model, 0.1)] == [0.1, 0.0]


def test_without_a_gradient_only_what_decays_moves() -> None:
    model = small_model()
    optimizer = make_optimizer(model, 0.5, 0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        factor = 0.95 if p.ndim >= 2 else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)


def test_frozen_parameters_are_left_out() -> None:
    model = small_model()
    for p in model.roberta.parameters():
        p.requires_grad = False
    assert sum(len(g["params"]) for g in make_optimizer(model, 0.1, 0.1).param_groups) == 4
    for p in model.parameters():
        p.requires_grad = False
    with pytest.raises(ValueError, match="nothing to train"):
        make_optimizer(model, 0.1, 0.1)


@pytest.mark.parametrize(
    ("updates", "warmup", "expected"),
    [
        (4, 0.0, [1, 0.75, 0.5, 0.25, 0]),
        (4, 0.5, [1 / 3, 2 / 3, 1, 0.5, 0]),
        (2, 1.0, [1 / 3, 2 / 3, 0]),
        (1, 0.06, [1, 0]),
    ],
)
def test_the_rate_rises_and_falls_in_lines(updates, warmup, expected) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, rates = make_schedule(optimizer, updates, warmup), []
    for _ in range(updates + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([2.0 * factor for factor in expected])


def test_it_ticks_per_update_not_per_micro_batch() -> None:
    seen: list = []
    make_trainer(on_update=seen.append, warmup=0.0, micro_batch_size=2, accumulation_steps=16).run()
    assert [u.learning_rate for u in seen] == pytest.approx([0.01 * (6 - i) / 6 for i in range(6)])
