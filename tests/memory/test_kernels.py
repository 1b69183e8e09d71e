"""No kernel passes unknown: what the CPU's kernels hold for themselves, against the profiler and by hand."""

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kernel_zoo import NAMES, net
from memory_cases import error, peak_of_a_trace
from torch import Tensor, nn

from accum_lib.lessons.memory.measure import measure_apart
from accum_lib.losses import classification_loss_sum
from accum_lib.memory import cpu
from accum_lib.memory.cpu import CPU
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import TraceMismatchError, UntraceableError, storages
from accum_lib.memory.trace.shapes import rebuild, tensors_in, value_of
from accum_lib.memory.trace.update import trace_update
from accum_lib.memory.trial import tried
from accum_lib.memory.workloads import Workload, of_model

TOLERANCE = 0.01  # as in test_against_the_profiler
aten = torch.ops.aten


def off(name: str, length: int, width: int, m: int, k: int, how: Settings) -> float:
    """The relative error of a prediction."""
    workload = net(name, length, width)
    return error(predict(workload, how, "cpu").peak_bytes(m, k), measure_apart(workload, m, k, how))


def how(precision: str = "fp32", optimizer: str = "sgd") -> Settings:
    return Settings(optimizer=optimizer, implementation="for-loop", precision=precision)


THOROUGH = settings.get_current_profile_name() == "thorough"


@settings(
    max_examples=300 if THOROUGH else 3, deadline=None, derandomize=True, database=None,
    phases=(Phase.explicit, Phase.generate), suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(
    st.sampled_from(NAMES), st.integers(6, 40), st.integers(1, 8), st.integers(1, 100), st.integers(1, 3),
    st.sampled_from(("fp32", "bf16")), st.sampled_from(("sgd", "adamw")),
)  # fmt: skip
def test_a_drawn_model_is_predicted_or_refused(name, length, width, m, k, precision, optimizer) -> None:
    try:
        found = off(name, length, 8 * width, m, k, how(precision, optimizer))
    except (UntraceableError, TraceMismatchError):
        return
    assert abs(found) < TOLERANCE


KINDS = [
    ("bilinear", 32, 32, 64, 2, "fp32"),
    ("fft", 40, 64, 16, 2, "fp32"),
    ("topk", 15, 64, 5, 1, "bf16"),
    ("binary cross-entropy", 32, 48, 9, 2, "fp32"),
    ("binary cross-entropy", 33, 48, 9, 1, "bf16"),
    ("gru", 11, 16, 5, 2, "fp32"),
    ("gated", 25, 40, 3, 2, "bf16"),
    ("grouped queries", 37, 32, 2, 3, "fp32"),
    ("patches", 7, 48, 8, 1, "fp32"),
    ("pointwise convolution", 18, 40, 8, 2, "fp32"),
    ("rms norm", 32, 40, 3, 2, "fp32"),
    ("experts", 33, 128, 5, 1, "bf16"),
]
MORE = [(name, 13, 24, 9, 2, "fp32") for name in NAMES if name not in {kind for kind, *_ in KINDS}]


@pytest.mark.parametrize(
    ("name", "length", "width", "m", "k", "precision"),
    [*KINDS, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)],
)
def test_every_family_is_predicted(name, length, width, m, k, precision) -> None:
    assert abs(off(name, length, width, m, k, how(precision))) < TOLERANCE


def without_trials(monkeypatch) -> None:
    monkeypatch.setattr(CPU, "tried", lambda self, operator, args, kwargs: None)


def own_way_on_meta(monkeypatch) -> None:
    monkeypatch.setattr(cpu, "IN_ONE_KERNEL", {})


def watched(monkeypatch) -> None:
    monkeypatch.setattr(storages, "INTO_ZEROS", {})
    monkeypatch.setattr(storages, "WRITES_INTO_ITS_OWN", ("", ()))


def no_rows_for_experts(monkeypatch) -> None:
    monkeypatch.setattr(CPU, "_of_the_fullest", lambda self, *args: args)


SCRATCH_OF_BF16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="products of bfloat16 hold nothing here"
)


@pytest.mark.parametrize(
    ("name", "length", "width", "m", "k", "precision", "leave_out"),
    [
        ("bilinear", 32, 32, 64, 2, "fp32", without_trials),
        ("fft", 40, 64, 16, 2, "fp32", without_trials),
        ("gated", 25, 40, 3, 2, "bf16", own_way_on_meta),
        ("topk", 15, 64, 5, 1, "bf16", watched),
        ("binary cross-entropy", 32, 48, 9, 2, "fp32", watched),
        ("binary cross-entropy", 33, 48, 9, 1, "fp32", watched),
        pytest.param("experts", 33, 128, 5, 1, "bf16", no_rows_for_experts, marks=SCRATCH_OF_BF16),
    ],
)
def test_what_is_left_out_is_noticed(name, length, width, m, k, precision, leave_out, monkeypatch) -> None:
    leave_out(monkeypatch)
    assert abs(off(name, length, width, m, k, how(precision))) > TOLERANCE


# --- What one trial says, by hand

LIBRARY = torch.library.Library("accum_tests", "DEF")
LIBRARY.define("spends(Tensor x) -> Tensor")
LIBRARY.define("refuses(Tensor x) -> Tensor")


def _spends(x: Tensor) -> Tensor:
    """Holds 900 x M x M numbers, then its output, then 1,000 numbers beside it."""
    before = torch.empty(30 * len(x), 30 * len(x))
    del before
    output = torch.empty_like(x)
    after = torch.empty(1000)
    del after
    return output


def _refuses(x: Tensor) -> Tensor:
    raise RuntimeError("no such luck\nand many lines more")


LIBRARY.impl("spends", _spends, "CPU")
LIBRARY.impl("refuses", _refuses, "CPU")
LIBRARY.impl("refuses", torch.empty_like, "Meta")


def test_a_trial_sees_what_a_kernel_holds_before_and_beside_its_output() -> None:
    found = tried(torch.ops.accum_tests.spends.default, (torch.empty(50, 7, device="meta"),), {})
    assert found[1:] == (3600 * 50**2, 4 * 1000)
    output = rebuild(found.outputs)
    assert output.is_meta
    assert output.shape == (50, 7)


class Custom(nn.Module):
    """A linear layer whose output goes through an operator without gradients, and around it."""

    def __init__(self, operator) -> None:
        super().__init__()
        self.linear, self.operator = nn.Linear(16, 10), operator

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return y + self.operator(y.detach())


def custom(name: str) -> Workload:
    operator = getattr(torch.ops.accum_tests, name).default

    def batch(m: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(m, 16), torch.zeros(m, dtype=torch.long)

    return Workload(name, lambda: Custom(operator), batch, classification_loss_sum)


def test_scratch_that_is_no_straight_line_is_tried_at_the_m_that_is_asked_for() -> None:
    found = predict(custom("spends"), how(), "cpu")
    for m in (3, 40):
        alone = trace_update(custom("spends"), m, 1, how(), CPU())
        held = [alone.nbytes[i] for i, operator in alone.tried if "spends" in operator]
        assert held == [3600 * m**2, 4 * 10 * m, 4 * 1000]
        assert found.peak_bytes(m) == pytest.approx(
            peak_of_a_trace(custom("spends"), m, 1, how(), CPU()), abs=8
        )
    assert found.largest_micro_batch(found.peak_bytes(40)) == 40


def test_a_kernel_that_cannot_be_tried_is_refused_by_name() -> None:
    with pytest.raises(
        UntraceableError, match=r"accum_tests.refuses.default.*\(no such luck\)\. Measure it"
    ) as e:
        predict(custom("refuses"), how(), "cpu")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "reduce",
    [torch.prod, lambda x: x.prod(1), lambda x: x.cumprod(1), torch.max, torch.min, torch.median],
)
def test_a_gradient_that_depends_on_values_is_refused(reduce) -> None:
    """A trace takes the way of tensors without values: it would be off by up to 90 %, without a word."""
    workload = of_model(nn.Linear(8, 8), lambda m: torch.ones(m, 8), lambda model, x: reduce(model(x)).sum())
    with pytest.raises(UntraceableError, match=r"aten\.\w+\..*depends on values.*Measure it instead"):
        predict(workload, Settings(), "cpu")
    frozen = of_model(
        nn.Linear(8, 8), lambda m: torch.ones(m, 8), lambda model, x: model(x).sum() * reduce(x).sum()
    )
    assert predict(frozen, Settings(), "cpu").peak_bytes(4, 2) > 0


class Bags(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.bags, self.head = nn.EmbeddingBag(500, 48, mode=mode), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bags(x))


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_a_kernel_that_counts_values_inside_is_refused_and_its_neighbour_is_predicted(mode) -> None:
    """Of maxima, the backward pass copies what is of bags that are not empty: on zeros, nothing (-1.7 %)."""

    def batch(m: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(m, 33, dtype=torch.long), torch.zeros(m, dtype=torch.long)

    workload = Workload(mode, lambda: Bags(mode), batch, classification_loss_sum)
    if mode == "mean":
        found = predict(workload, how(), "cpu").peak_bytes(9, 2)
        assert abs(error(found, measure_apart(workload, 9, 2, how()))) < TOLERANCE
    else:
        with pytest.raises(UntraceableError, match=r"aten\._embedding_bag.* depends on values. Measure it"):
            predict(workload, how(), "cpu")


def test_a_gradient_that_takes_another_way_while_it_is_traced_is_refused() -> None:
    """Of a Cholesky factor it was predicted at -8 %."""

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return torch.linalg.cholesky(model(x).mT @ model(x) + torch.eye(8, device=x.device)).sum()

    workload = of_model(nn.Linear(8, 8), lambda m: torch.ones(m, 5, 8), loss)
    with pytest.raises(UntraceableError, match=r"linalg_cholesky_ex.*otherwise while it is traced. Measure"):
        predict(workload, Settings(), "cpu")


@pytest.mark.parametrize("each", [1, 2, 3])
def test_the_fullest_expert_has_a_row_of_every_token_or_all_rows_of_a_choice_that_is_unknown(each) -> None:
    x, weights, ends = (torch.empty(n, device="meta") for n in ((24, 8), (4, 8, 16), (4,)))
    device, scores = CPU(), torch.empty(24 // each, 4, device="meta")
    for most in (24, 24 // each):
        rows, expert, end = device._of_the_fullest(x, weights, ends)
        assert (len(rows), len(expert), value_of(end).tolist()) == (most, 1, [most])
        turned, others, end = device._of_the_fullest(x.t(), x, ends)  # the gradient of the weights
        assert (turned.shape[1], len(others), value_of(end).tolist()) == (most, most, [most])
        device.tried(aten.topk.default, (scores, each), {})


def test_arguments_that_are_too_large_are_not_tried() -> None:
    with pytest.raises(UntraceableError, match=r"aten.sort.*too large to try.*Measure it"):
        tried(aten.sort.default, (torch.empty(10**11, device="meta"),), {})


def test_a_trial_leaves_random_numbers_and_threads_alone() -> None:
    torch.manual_seed(0)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(0)
    tried(aten.rrelu_with_noise.default, (*[torch.empty(9, device="meta")] * 2, 0.1, 0.3, True), {})
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


# --- What is said to hold nothing holds nothing


def samples(dtype: torch.dtype) -> list[tuple]:
    """Every operator that is known without a trial, with arguments that it takes."""
    x, y = (torch.empty(40, 6, 50, dtype=dtype, device="meta") for _ in range(2))
    flat, vector = (
        torch.empty(240, 50, dtype=dtype, device="meta"),
        torch.empty(50, dtype=dtype, device="meta"),
    )
    image, channels = (
        torch.empty(8, 6, 20, 20, dtype=dtype, device="meta"),
        torch.empty(6, dtype=dtype, device="meta"),
    )
    labels, mask = (
        torch.zeros(240, dtype=torch.long, device="meta"),
        torch.zeros(40, 6, 50, dtype=torch.bool, device="meta"),
    )
    weight = torch.empty(90, 50, dtype=dtype, device="meta")
    number = torch.empty((), dtype=dtype, device="meta")
    halved = torch.zeros(8, 6, 10, 10, dtype=torch.long, device="meta")
    return [
        (aten.add.Tensor, x, y),
        (aten.mul.Tensor, x, y),
        (aten.gelu.default, x),
        (aten.tanh_backward.default, x, y),
        (aten.clone.default, x.mT),
        (aten.copy_.default, x.mT, y.mT),
        (aten._to_copy.default, x.mT),
        (aten.masked_fill.Scalar, x, mask, 0),
        (aten.bernoulli_.float, x.mT, 0.5),
        (aten.zeros_like.default, x.mT),
        (aten._log_softmax.default, x, 2, False),
        (aten._log_softmax_backward_data.default, x, y, 2, dtype),
        (aten._softmax.default, x, 2, False),
        (aten._softmax_backward_data.default, x, y, 2, dtype),
        (aten.all.default, mask),
        (aten.any.default, mask),
        (aten.argmax.default, x, 1),
        (aten.argmin.default, x, 1),
        (aten.amax.default, x, [1]),
        (aten.amin.default, x, [1]),
        (aten.cat.default, [x, y], 1),
        (aten.stack.default, [x, y], 1),
        (aten.constant_pad_nd.default, x, [1, 1]),
        (aten.embedding.default, weight, labels),
        (aten.embedding_dense_backward.default, flat, labels, 90, -1, False),
        (aten.linalg_vector_norm.default, x),
        (aten.max_pool2d_with_indices.default, image, [2, 2], [2, 2]),
        (aten.max_pool2d_with_indices_backward.default, image[..., ::2, ::2].clone(), image,
         [2, 2], [2, 2], [0, 0], [1, 1], False, halved),
        (aten.native_batch_norm.default, image, channels, channels, channels, channels, True, 0.1, 1e-5),
        (aten.native_layer_norm.default, x, [50], vector, vector, 1e-5),
        (aten.nll_loss_forward.default, flat, labels, None, 2, -100),
        (aten.nll_loss_backward.default, number, flat, labels, None, 2, -100, number),
        (aten.select_backward.default, flat, [3, 240, 50], 0, 1),
        (aten.slice_backward.default, x, [40, 6, 99], 2, 0, 50, 1),
        (aten.sum.dim_IntList, x, [0]),
        (aten.sum.dim_IntList, x, [2]),
        (aten.tril.default, flat),
        (aten.triu.default, flat),
        (aten.mm.default, flat, weight.t()),
        (aten.addmm.default, weight[:, 0].clone(), flat, weight.t()),
        (aten.bmm.default, x, y.mT),
        (aten._foreach_mul.List, [x, y], [y, x]),
        (aten._foreach_lerp_.Scalar, [x], [y], 0.5),
        (aten._foreach_sqrt.default, [x, y]),
    ]  # fmt: skip


def scratch(operator, args) -> int:
    found = tried(operator, args, {})
    nbytes = sum(t.untyped_storage().nbytes() for t in tensors_in(rebuild(found.outputs)))
    return max(found.after, found.before - nbytes)


PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default)
SMALL = 300  # bytes: numbers for each channel


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_said_to_hold_nothing_holds_nothing(dtype) -> None:
    for operator, *args in samples(dtype):
        if operator in PRODUCTS and cpu.in_onednn(dtype):  # this processor's way, and always tried
            assert not cpu._is_known(operator, tuple(args)), operator
            continue
        assert cpu._is_known(operator, tuple(args)), operator
        said = max(
            CPU().hidden_bytes(operator, tuple(args), rebuild(tried(operator, tuple(args), {}).outputs))
        )
        assert abs(scratch(operator, tuple(args)) - said) <= SMALL, operator


@pytest.mark.parametrize(
    ("operator", "args"),
    [
        (aten.mean.dim, lambda x: (x.bfloat16(), [1])),
        (aten.add.Tensor, lambda x: (x, x.bfloat16())),
        (
            aten.embedding_dense_backward.default,
            lambda x: (x.mT, torch.zeros(40, 50, dtype=torch.long), 90, -1, False),
        ),
        (aten.bmm.default, lambda x: (x[:, :, ::2], x[:, :, ::2].mT)),
        (aten.isinf.default, lambda x: (x,)),
        (aten.native_dropout.default, lambda x: (x, 0.1, True)),
        (aten.gather.default, lambda x: (x.bfloat16(), 1, torch.zeros(40, 6, 50, dtype=torch.long))),
    ],
)
def test_what_holds_something_is_not_said_to_hold_nothing(operator, args) -> None:
    given = args(torch.empty(40, 6, 50, device="meta"))
    assert scratch(operator, given) > SMALL
    assert not cpu._is_known(operator, given)
