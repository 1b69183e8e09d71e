"""Two traces give every M, a splice gives every K; what does not line up is refused."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from memory_cases import peak_of_a_trace, predicted, workload
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.losses import classification_loss_sum
from accum_lib.memory.cpu import CPU, in_onednn
from accum_lib.memory.cuda import CUDA
from accum_lib.memory.lines import envelope
from accum_lib.memory.prediction import FEW, Prediction, predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import TraceMismatchError, UntraceableError
from accum_lib.memory.trace.update import trace_update
from accum_lib.memory.workloads import Workload, encoder_workload, mlp_workload, of_model

SGD = Settings(optimizer="sgd")


@cache
def prediction(family: str, settings: Settings, device: type) -> Prediction:
    return predict(workload(family), settings, device())


@pytest.mark.parametrize("family", ["encoder", "RoBERTa", "T5", "GPT-2"])
@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize(
    ("m", "k"),
    [(1, 1), (40, 1), (11, 5), *(pytest.param(m, k, marks=pytest.mark.slow) for m, k in ((3, 2), (5, 3)))],
)
def test_lines_and_splices_give_what_a_trace_of_its_own_gives(family, device, m, k) -> None:
    """To the byte on a GPU, which rounds; on the CPU a loss has 4 bytes, and a sum of K losses 4 K."""
    for settings in (SGD, Settings(precision="bf16", checkpointing=True)):
        found = prediction(family, settings, device).peak_bytes(m, k)
        expected = peak_of_a_trace(workload(family), m, k, settings, device())
        layouts = device is CPU and settings.precision == "bf16" and in_onednn(torch.bfloat16)
        allowed = 0.006 * expected if layouts else 8 * k  # oneDNN's do not grow in a line
        assert abs(found - expected) <= (0 if device is CUDA else allowed)


def test_the_envelope_is_the_highest_line_everywhere() -> None:
    dice = np.random.default_rng(0)
    for _ in range(50):
        constant, slope = dice.integers(0, 100, 30).astype(float), dice.integers(0, 8, 30).astype(float)
        kept = envelope(constant, slope)
        for m in np.linspace(0, 60, 200):
            assert (kept[0] + kept[1] * m).max() == (constant + slope * m).max()
        assert np.all(np.diff(kept[1]) > 0)
        assert np.all(np.diff(-np.diff(kept[0]) / np.diff(kept[1])) > 0), (
            "no line is kept that is never alone on top"
        )


def test_the_envelopes_peak_is_the_predictions() -> None:
    prediction = predicted("RoBERTa", (), SGD)
    for k in (1, 2, 4):
        constant, slope = prediction.envelope(k)
        for m in (2, 9, 100):
            assert (constant + slope * m).max() == pytest.approx(prediction.peak_bytes(m, k), rel=1e-12)
        assert constant.max() == pytest.approx(prediction.floor_bytes(k), rel=1e-12)


def test_the_largest_micro_batch_is_the_largest() -> None:
    prediction = predicted("RoBERTa", (), SGD)
    for m in (1, 7, 64, 65):
        limit = prediction.peak_bytes(m, 2)
        assert prediction.largest_micro_batch(limit, 2) == m
        assert prediction.largest_micro_batch(limit - 1, 2) == m - 1


def test_the_timeline_has_the_peak_and_adds_up() -> None:
    prediction = predicted("RoBERTa", (), Settings())
    for m, k in ((4, 1), (4, 2), (4, 8), (64, 3)):
        line = prediction.timeline(m, k)
        assert line.peak_bytes == prediction.peak_bytes(m, k) == line.bytes_by_category.sum(axis=0).max()
        assert [name for name, _ in line.phases] == ["forward", "backward"] * k + ["update"]
        starts = [start for _, start in line.phases]
        assert starts == sorted(starts)
        assert np.all(np.diff(line.operators) > 0)


@pytest.mark.parametrize(("m", "k"), [(0, 1), (1, 0), (-1, 2)])
def test_m_and_k_start_at_one(m, k) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        predicted("MLP", (), SGD).peak_bytes(m, k)


# --- What cannot be predicted is said so


class Model(nn.Module):
    """A linear layer, and then whatever a test wants."""

    def __init__(self, then) -> None:
        super().__init__()
        self.linear, self.then = nn.Linear(64, 10), then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.linear(x))


def doing(then, loss_sum=classification_loss_sum) -> Workload:
    return of_model(Model(then), mlp_workload().make_batch, loss_sum)


def test_a_model_that_takes_another_way_for_another_m_is_refused() -> None:
    model = doing(lambda x: x.exp() if len(x) > 4 else x.tanh())
    with pytest.raises(TraceMismatchError, match=r"operator \d+ is aten.tanh.*at M = 2 and aten.exp.*M = 16"):
        predict(model, SGD, "cpu")


def test_one_that_does_so_only_in_between_is_refused_by_the_third_trace() -> None:
    model = doing(lambda x: x.exp() if 4 < len(x) < 10 else x.tanh())
    with pytest.raises(TraceMismatchError, match=r"aten.exp.*at M = 7"):
        predict(model, SGD, "cpu")


def test_storages_that_live_longer_for_another_m_are_refused() -> None:
    kept: list[Tensor] = []

    def keeps_some(x: Tensor) -> Tensor:
        y = x * 2
        kept.extend([y] if len(x) > 4 else [])
        return x.tanh()

    with pytest.raises(TraceMismatchError, match="live and die otherwise"):
        predict(doing(keeps_some), SGD, "cpu")


def test_sizes_that_are_no_straight_line_are_refused() -> None:
    """A contrastive loss compares every sample with every other: M x M numbers."""

    def contrastive(model: nn.Module, batch) -> Tensor:
        z = model(batch[0])
        return F.cross_entropy(z @ z.T, torch.arange(len(z), device=z.device), reduction="sum")

    with pytest.raises(TraceMismatchError, match=r"made by aten.mm.* 196 bytes at M = 7, where a"):
        predict(doing(nn.Identity(), contrastive), SGD, "cpu")


@pytest.mark.parametrize(
    ("then", "operator"),
    [
        (lambda x: x.exp() if x.sum() > 0 else x.tanh(), "_local_scalar_dense"),
        (lambda x: x * x.sum().item(), "_local_scalar_dense"),
        (lambda x: x[x[:, 0] > 0], "index"),
        (lambda x: x * float(x.detach().cpu().mean()), "_to_copy"),
    ],
)
def test_control_flow_on_data_is_named_with_its_place(then, operator) -> None:
    with pytest.raises(
        UntraceableError, match=rf"aten.{operator}.*test_lines.py:\d+.*[Ii]nstead|measure"
    ) as e:
        predict(doing(then), SGD, "cpu")
    assert operator in str(e.value)
    assert "test_lines.py:" in str(e.value)


def test_a_number_computed_from_inputs_alone_is_known() -> None:
    """Labels are whole numbers, so a branch on them takes the way it takes in reality."""

    def loss_sum(model: nn.Module, batch) -> Tensor:
        x = model(batch[0])
        return classification_loss_sum(lambda _: x.exp() if batch[1].sum() == 0 else x.tanh(), batch)

    tape = trace_update(doing(nn.Identity(), loss_sum), 2, 1, SGD, CPU())
    assert "aten.exp.default" in tape.operators
    assert "aten.tanh.default" not in tape.operators


@pytest.mark.parametrize("make", [lambda: nn.GRU(64, 8), lambda: nn.RNN(64, 8)])
def test_kernels_whose_memory_is_not_known_are_refused(make) -> None:
    layer = make()

    def loss_sum(model: nn.Module, batch) -> Tensor:
        return classification_loss_sum(lambda x: model(x)[0], batch)

    with pytest.raises(UntraceableError, match=r"aten\.(gru|rnn_tanh).input.*Measure it instead"):
        predict(of_model(layer, mlp_workload().make_batch, loss_sum), SGD, "cuda")


def test_a_refusal_leaves_no_trace() -> None:
    """Operators work as ever after a trace has failed in its midst."""
    with pytest.raises(UntraceableError):
        predict(doing(lambda x: x * x.sum().item()), Settings(precision="bf16"), "cuda")
    x = torch.ones(4, 4, requires_grad=True)
    F.dropout(x @ x, 0.5).sum().backward()
    assert x.grad is not None
    assert not torch._C._dispatch_has_kernel_for_dispatch_key("aten::dropout", "AutocastPrivateUse1")
    assert not torch.is_autocast_enabled("cpu")


def test_an_existing_model_is_predicted_without_being_touched() -> None:
    source = encoder_workload()
    model = source.make_model().train()
    before = [p.clone() for p in model.parameters()]
    found = predict(of_model(model, source.make_batch, source.loss_sum), SGD, "cpu")
    assert found.peak_bytes(8, 2) == predict(source, SGD, "cpu").peak_bytes(8, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, "optimizer must be one of sgd.*got 'lion'"),
        ({"precision": "fp8"}, "precision must be one of fp32.*got 'fp8'"),
        ({"implementation": "slow"}, "implementation must be one of foreach"),
        ({"attention": "sparse"}, "attention must be one of auto"),
        ({"optimizer": "adafactor", "implementation": "fused"}, "no fused implementation"),
    ],
)
def test_unknown_settings_are_named(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(ValueError, match="'cpu' or 'cuda'; got 'tpu'"):
        predict(mlp_workload(), SGD, "tpu")


def test_a_model_that_refuses_a_batch_of_one_is_predicted_for_all_others() -> None:
    found = predict(doing(nn.BatchNorm1d(10)), SGD, "cpu")
    assert found.peak_bytes(2, 1) > 0
    with pytest.raises(ValueError, match="does not take M = 1: Expected more than 1 value per channel"):
        found.peak_bytes(1, 1)
    assert found.largest_micro_batch(found.peak_bytes(5)) == 5
    assert found.largest_micro_batch(0) == 0


@pytest.mark.parametrize("bent", [False, True])
def test_over_an_octave_lines_are_taken_only_if_its_middle_is_on_them(bent) -> None:
    """Where scratch is no straight line over all M; with a middle that is off, each M is traced by itself."""
    traced, known = [], prediction("encoder", SGD, CPU)

    def own(m):
        traced.append(m)
        lines = known._own(m)
        if bent and m == 96:
            tape = replace(lines.tape, nbytes=lines.tape.nbytes + 100_000)
            return replace(lines, tape=tape)
        return lines

    curved = Prediction("", SGD, CPU(), replace(known.lines, straight=False), own)
    asked = [70, 127, 66, 80, 111, 65, 99, 101]
    assert [curved.peak_bytes(m, 2) for m in asked] == [known.peak_bytes(m, 2) for m in asked]
    assert set(traced) == ({*asked, 64, 96, 128} if bent else {*asked[:FEW], 64, 96, 128})
