"""The planner against brute force over every (M, K), and never over the card."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from kernel_zoo import Heads
from memory_cases import peak_of_a_trace, workload

from accum_lib.losses import classification_loss_sum
from accum_lib.machine import this_machine
from accum_lib.memory import planner
from accum_lib.memory.caching_allocator import replay
from accum_lib.memory.cards import CARDS, CONTEXT_BYTES, GIB, Card, find_card
from accum_lib.memory.cpu import CPU
from accum_lib.memory.cuda import CUDA
from accum_lib.memory.guard import RESERVE_BYTES, WouldNotFitError, guard
from accum_lib.memory.plan_text import describe, explain_plan
from accum_lib.memory.planner import plan, smallest_steps
from accum_lib.memory.prediction import Prediction, predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import UntraceableError
from accum_lib.memory.trace.update import trace_update
from accum_lib.memory.workloads import Workload, cnn_workload, mlp_workload, named, of_model

SGD = Settings(optimizer="sgd")
LEANEST = Settings(precision="bf16", checkpointing=True, trained="lora", weights="bf16")  # that is tried
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_backward.default


def brute_force(peak, takes, limit: float, batch: int) -> tuple[int, int] | None:
    """The smallest K, then the smallest M with M * K >= B, by trying all of them."""
    for k in range(1, batch + 1):
        for m in range(1, batch + 1):
            rest = batch - m * (k - 1)
            if m * k >= batch and rest > 0 and takes(m) and takes(rest) and peak(m, k) <= limit:
                return m, k
    return None


def limits(peak, batch: int) -> list[float]:
    """Just enough and just too little for many (M, K)."""
    peaks = sorted({peak(m, k) for m in range(1, batch + 1) for k in (1, 2, 3, batch)})
    return [x + d for x in peaks for d in (-1, 0)] + [0, 2 * peaks[-1]]


@pytest.mark.parametrize("family", ["MLP", "encoder"])
def test_m_and_k_are_those_of_brute_force_over_traces_of_their_own(family) -> None:
    batch, model, device = 6, workload(family), CUDA()
    pairs = [(m, k) for m in range(1, batch + 1) for k in range(1, batch + 1)]
    traced = {(m, k): peak_of_a_trace(model, m, k, SGD, device) for m, k in pairs}

    def peak(m: int, k: int) -> int:
        return traced[m, k]

    found = predict(model, SGD, CUDA())
    for limit in limits(peak, batch):
        for b in (1, 2, 5, batch):
            assert smallest_steps(found, limit, b) == brute_force(peak, lambda m: True, limit, b)


@pytest.mark.parametrize("family", ["CNN", "RoBERTa", "GPT-2", "T5"])
@pytest.mark.parametrize("how", [SGD, Settings(precision="bf16", checkpointing=True)])
def test_m_and_k_are_those_of_brute_force_for_larger_batches(family, how) -> None:
    if family == "CNN":
        how = replace(how, checkpointing=False)  # it has no blocks
    found = predict(workload(family), how, CUDA())
    answers = set()
    for batch in (7, 24):
        for limit in limits(found.peak_bytes, batch)[::5]:
            answer = smallest_steps(found, limit, batch)
            assert answer == brute_force(found.peak_bytes, found.takes, limit, batch)
            answers.add(answer)
    assert None in answers
    assert len(answers) > 3


def test_a_planner_that_forgets_the_second_buffer_is_noticed() -> None:
    """Chosen as if K = 1's peak were that of every K, M would not fit."""
    found = predict(workload("RoBERTa"), SGD, CUDA())
    limit = found.peak_bytes(8, 1)
    m = found.largest_micro_batch(limit, accumulation_steps=1)
    assert found.peak_bytes(m, 2) > limit
    assert brute_force(found.peak_bytes, found.takes, limit, 2 * m) != (m, 2)
    assert smallest_steps(found, limit, 2 * m) == brute_force(found.peak_bytes, found.takes, limit, 2 * m)


def test_a_model_that_refuses_single_samples_gets_none() -> None:
    source = mlp_workload()
    model = torch.nn.Sequential(torch.nn.Linear(64, 10), torch.nn.BatchNorm1d(10))
    found = predict(of_model(model, source.make_batch, source.loss_sum), SGD, CPU())
    for batch in (1, 2, 5, 9):
        for m in range(2, 6):
            limit = found.peak_bytes(m, 2)
            assert smallest_steps(found, limit, batch) == brute_force(
                found.peak_bytes, found.takes, limit, batch
            )
    assert smallest_steps(found, 1e12, 1) is None


@cache
def with_logits() -> Prediction:
    """A small model with a large vocabulary: at its peak most of the memory is a few copies of the logits."""
    workload = named("roberta-base", "mlm", 128, num_hidden_layers=2, hidden_size=64, intermediate_size=128,
                     num_attention_heads=2, vocab_size=30_000)  # fmt: skip
    return predict(workload, Settings(precision="bf16"), CUDA())


@pytest.mark.parametrize("gib", [1, 2, 5])
def test_what_the_allocator_takes_in_pieces_has_to_fit_as_well(gib) -> None:
    """An H200 ran out of memory where the peak alone was looked at."""
    found, card_bytes = with_logits(), gib * GIB
    m, k = smallest_steps(found, 0.9 * card_bytes, 512, card_bytes)
    assert replay(found, m, k).reserved_bytes <= card_bytes
    alone, _ = smallest_steps(found, 0.9 * card_bytes, 512)
    assert replay(found, alone, 2).reserved_bytes > card_bytes
    assert alone > m


def test_brute_force_over_both_limits_agrees() -> None:
    found = with_logits()
    for card_bytes in (0.3 * GIB, 0.5 * GIB, GIB):

        def peak(m: int, k: int, most: float = card_bytes) -> float:
            fits = planner.reserved_bytes(found, m, k) <= most
            return found.peak_bytes(m, k) if fits else float("inf")

        for batch in (5, 24):
            expected = brute_force(peak, found.takes, 0.9 * card_bytes, batch)
            assert smallest_steps(found, 0.9 * card_bytes, batch, card_bytes) == expected


def test_inputs_of_further_micro_batches_are_counted() -> None:
    found = predict(cnn_workload(16, 224), SGD, CUDA())
    for k in (8, 64):
        assert planner.reserved_bytes(found, 8, k) == pytest.approx(
            replay(found, 8, k).reserved_bytes, rel=0.15
        )


def test_a_model_that_refuses_one_example_still_gets_two() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 10), torch.nn.BatchNorm1d(10))
    source = mlp_workload()
    found = predict(of_model(model, source.make_batch, source.loss_sum), SGD, CUDA())
    card_bytes = planner.reserved_bytes(found, 2, 2)
    for most in (3, 6, 7):
        limit = found.peak_bytes(most, 2)
        assert planner.largest_micro_batch(found, limit, card_bytes) >= 2
    assert (
        "refuses such batches"
        in plan(of_model(model, source.make_batch, source.loss_sum), card_with(4 * GIB), 1, SGD).verdict
    )


@pytest.mark.parametrize("k", [1, 2])
def test_between_powers_of_two_a_straight_line_is_close_or_above(k) -> None:
    """With K = 1 some sizes happen to fall into place: a third less is taken."""
    found = with_logits()
    for m in (3, 6, 11, 24, 48, 100, 200):
        exact = replay(found, m, k).reserved_bytes
        assert 0.95 < planner.reserved_bytes(found, m, k) / exact < (1.05 if k == 2 else 1.35)
    assert planner.reserved_bytes(found, 64, k) == replay(found, 64, k).reserved_bytes


@pytest.fixture(scope="module")
def small() -> Workload:
    """Two layers of the real width: on a card for less, the allocator's segments would be most of it."""
    return named("roberta-base", "classification", 64, num_hidden_layers=2)


def card_with(limit: float, margin: float = planner.MARGIN) -> Card:
    return Card("made up", 1, int(limit / (1 - margin)) + 1 + CONTEXT_BYTES, 10.0, "bf16", 40.0, hopper=False)


def test_no_option_exceeds_the_card_and_the_best_is_the_fastest(small) -> None:
    floor = predict(small, Settings(), CUDA(hopper=False)).floor_bytes(2)
    for factor in (0.5, 0.9, 1.01, 1.3, 2, 10):
        card = card_with(factor * floor)
        found = plan(small, card, 64)
        fits = [o for o in found.options if o.fits]
        for o in fits:
            assert o.peak_bytes <= found.limit_bytes <= card.usable_bytes
            assert o.peak_bytes <= o.reserved_bytes <= card.usable_bytes
            assert o.micro_batch_size * o.accumulation_steps >= 64
            assert (o.accumulation_steps - 1) * o.micro_batch_size < 64
        assert [o.seconds for o in fits] == sorted(o.seconds for o in fits)
        assert found.options[: len(fits)] == tuple(fits)
        assert (found.best is None) == (not fits)


def test_it_says_when_accumulation_is_not_needed_helps_or_cannot_help(small) -> None:
    found = predict(small, Settings(), CUDA(hopper=False))
    enough, floor = planner.reserved_bytes(found, 64, 1), found.floor_bytes(2)
    assert "the whole batch fits" in plan(small, card_with(enough), 64).verdict
    needed = plan(small, card_with(planner.reserved_bytes(found, 20, 2)), 64)
    assert "accumulation makes it fit, in 4 micro-batches" in needed.verdict
    assert found.peak_bytes(40, 1) > floor
    below = plan(small, card_with(0.9 * floor), 64)
    assert below.verdict.startswith("Accumulation cannot help fp32, AdamW")
    assert "It fits with" in below.verdict
    assert "cannot help" in next(o for o in below.options if "however small M is" in o.reason).reason
    none = plan(small, card_with(0.9 * predict(small, LEANEST, CUDA(hopper=False)).floor_bytes(2)), 64)
    assert none.best is None
    assert "Nothing fits." in explain_plan(none)


def test_sharding_is_proposed_where_nothing_leaner_fits(small) -> None:
    """The number of cards by hand: what is shared, over what is left beside what is not."""
    floor = predict(small, LEANEST, CUDA(hopper=False)).floor_bytes(2)
    verdict = plan(small, card_with(0.97 * floor), 64).verdict
    assert "over at least 2 cards" in verdict


def test_what_is_asked_for_is_what_is_planned(small) -> None:
    found = plan(small, card_with(2**30), 16, Settings(optimizer="sgd", precision="bf16"))
    assert {(o.optimizer, o.precision, o.checkpointing) for o in found.options} == {
        ("sgd", "bf16", False),
        ("sgd", "bf16", True),
    }


def test_the_explanation_has_every_option_and_what_to_take(small) -> None:
    enough = card_with(predict(small, Settings(), CUDA(hopper=False)).peak_bytes(20, 2))
    found = plan(small, enough, 50)
    text = explain_plan(found)
    for o in found.options:
        assert describe(o) in text
        assert o.reason in text
    best = found.best
    assert f"micro-batches of M = {best.micro_batch_size}" in text
    assert f"K = {best.accumulation_steps}" in text
    assert "estimates" in text


def test_arithmetic_is_counted_as_by_hand() -> None:
    """A linear layer: 2 m i o forward, as much for the weight's gradient, as much for its input's."""
    found = predict(mlp_workload(hidden=32, layers=2, dropout=0.0), SGD, CPU())
    for m, k in ((3, 1), (8, 4)):
        layers = 2 * m * k * np.array([64 * 32, 32 * 32, 32 * 10])
        assert found.flops(m, k) == 3 * layers.sum() - layers[0]  # nobody asks for the data's gradient


def test_recomputing_costs_a_forward_pass_and_small_kernels_cost_their_start(small) -> None:
    plain, again = (predict(small, Settings(checkpointing=c), CUDA()) for c in (False, True))
    assert 1.25 < again.flops(8) / plain.flops(8) < 1.34
    slow, fast = card_with(1), replace(card_with(1), tflops=1e9)
    assert planner.estimated_seconds(plain, slow, 512, 2) == pytest.approx(
        2 * plain.flops(512) / (10e12 * planner.UTILISATION)
    )
    assert planner.estimated_seconds(plain, fast, 8, 3) == 3 * (plain.operators() * planner.LAUNCH_SECONDS)
    assert planner.estimated_seconds(plain, replace(slow, tflops=None), 8, 1) is None


# --- Cards


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("T4", "T4"),
        ("nvidia tesla t4", "T4"),
        ("rtx4090", "RTX 4090"),
        ("RTX-3090", "RTX 3090"),
        ("A100 80GB", "A100 80GB"),
        ("a100-40gb", "A100 40GB"),
        ("H100", "H100"),
        ("h100 80GB", "H100"),
    ],
)
def test_a_card_is_found_by_any_of_its_spellings(said, meant) -> None:
    assert find_card(said).name == meant


def test_a_size_is_the_leanest_card_of_that_size() -> None:
    assert find_card("16GB").total_bytes == min(c.total_bytes for c in CARDS if c.gigabytes == 16)
    assert find_card("16").total_bytes == find_card("16 gb").total_bytes
    assert find_card("7GB").total_bytes == int(0.9 * 7 * GIB)
    assert find_card("15.5GiB").total_bytes == 15.5 * GIB
    for size in ("0GB", "9" * 400 + "GB"):
        with pytest.raises(ValueError, match="a card has 1 GB or more, and 100,000 GB at most") as caught:
            find_card(size)
        assert len(str(caught.value)) < 120


def test_the_table_is_plausible() -> None:
    """What is reported is a little less than what is sold, in GiB; and a process gets less again."""
    assert len(CARDS) >= 15
    for card in CARDS:
        assert 0.9 * card.gigabytes < card.total_bytes / GIB < card.gigabytes
        assert card.usable_bytes < card.total_bytes
        assert find_card(card.name) is card


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("T9", "no card 'T9' is known. There are RTX 4060.*'16GB'"),
        ("", "no card '' is known"),
        ("a100", "may be A100 40GB or A100 80GB"),
        ("0GB", "1 GB or more"),
    ],
)
def test_an_unknown_card_is_named_with_what_there_is(name, message) -> None:
    with pytest.raises(ValueError, match=message):
        find_card(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_here_without_a_gpu_says_so() -> None:
    with pytest.raises(ValueError, match="finds no GPU in this machine: name a card"):
        find_card("here")


@pytest.mark.parametrize("batch", [0, -3, 10**9, 2.5, True, "8"])
def test_impossible_batches_are_refused(batch, small) -> None:
    with pytest.raises(ValueError, match=r"effective batch B must be .*got"):
        plan(small, "T4", batch)


def test_an_impossible_margin_is_refused(small) -> None:
    with pytest.raises(ValueError, match=r"margin is a part.*got 1\.5"):
        plan(small, "T4", 8, margin=1.5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"model": "gpt5"}, "no model 'gpt5' is known; there are roberta-base"),
        ({"model": "gpt2", "head": "mlm"}, "gpt2 has no head 'mlm'; it has causal"),
        ({"model": "roberta-base", "tokens": 4000}, "reads 2 to 512 tokens; got 4000"),
    ],
)
def test_unknown_models_heads_and_lengths_are_named(how, message) -> None:
    with pytest.raises(ValueError, match=message):
        named(**how)


# --- One way that fails is one row


class Grouped(torch.nn.Module):
    """Attention with four heads of queries and two of keys and values, as in Llama 3, after an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.heads, self.classify = (
            torch.nn.Embedding(50, 32),
            Heads(32, True),
            torch.nn.Linear(32, 10),
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.classify(self.heads(self.embed(ids)).mean(1))


def reading(model: torch.nn.Module) -> Workload:
    def batch(m: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(m, 24, dtype=torch.long), torch.zeros(m, dtype=torch.long)

    return of_model(model, batch, classification_loss_sum)


class OnlyIn(torch.nn.Module):
    """A kernel that takes one type alone, and more layers than one."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.embed, self.dtype = torch.nn.Embedding(50, 32), dtype
        self.layers = torch.nn.ModuleList([torch.nn.Linear(32, 32), torch.nn.Linear(32, 10)])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids).mean(1)
        for layer in self.layers:
            x = layer(x)
            if x.dtype != self.dtype:
                raise RuntimeError(f"Expected inputs of {self.dtype} but got {x.dtype}\nand more lines")
        return x


def test_groups_of_heads_take_the_kernels_that_take_groups() -> None:
    operators = {
        precision: trace_update(
            reading(Grouped()), 2, 1, Settings("sgd", precision=precision), CUDA()
        ).operators
        for precision in ("fp32", "bf16")
    }
    assert not [o for o in operators["fp32"] if "efficient" in o or "flash" in o]
    assert "aten._scaled_dot_product_flash_attention_backward.default" in operators["bf16"]
    found = plan(reading(Grouped()), "A100 40GB", 64)
    assert all(o.predicted and o.fits for o in found.options)
    with pytest.raises(ValueError, match=r"as many heads of keys as of queries.*attention='math'"):
        predict(reading(Grouped()), replace(SGD, attention="efficient"), CUDA("efficient"))


def test_flash_adds_up_the_gradients_of_shared_keys() -> None:
    def scratch(heads: int) -> int:
        query, key = (torch.empty(3, h, 40, 16, dtype=torch.bfloat16, device="meta") for h in (4, heads))
        return CUDA().hidden_bytes(FLASH_BACKWARD, (query, query, key, key), ())[1]

    assert scratch(2) - scratch(4) == 2 * 3 * 4 * 40 * 16 * 2  # of keys and values, for every head of queries


def test_what_cannot_be_predicted_is_a_row_with_its_reason() -> None:
    found = plan(reading(OnlyIn(torch.float32)), "A100 40GB", 64)
    assert found.best.precision == "fp32"
    rows = {(o.precision, o.checkpointing): o for o in found.options}
    assert len(rows) == 4
    for refused in (rows["bf16", False], rows["bf16", True]):
        assert not refused.predicted
        assert not refused.fits
        assert "Expected inputs of torch.float32 but got torch.bfloat16" in refused.reason
        assert "more lines" not in refused.reason
    text = explain_plan(found)
    assert text.count("it cannot be predicted") == 2
    other = plan(reading(OnlyIn(torch.bfloat16)), "A100 40GB", 64)
    assert other.verdict.startswith("fp32, AdamW: it cannot be predicted")
    assert "What fits: bf16, AdamW" in other.verdict


def test_a_model_of_which_no_way_can_be_predicted_ends_in_one_sentence() -> None:
    with pytest.raises(UntraceableError, match=r"OnlyIn cannot be traced in fp32.*Expected inputs") as e:
        plan(reading(OnlyIn(None)), "T4", 8)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "sizes", [{"hidden_size": -8}, {"hidden_size": 2**62}, {"vocab_size": 2**62}, {"num_attention_heads": 7}]
)
def test_absurd_sizes_end_in_one_sentence(sizes) -> None:
    with pytest.raises(UntraceableError, match=r"roberta-base.* cannot be traced") as e:
        plan(named("roberta-base", tokens=8, **sizes), "T4", 8)
    assert "\n" not in str(e.value)


# --- The guard


def test_the_guard_lets_through_what_fits_and_stops_what_does_not() -> None:
    model, here = mlp_workload(), this_machine()
    found = guard(model, 8, 2, machine=here)
    need = found.peak_bytes(8, 2)
    exactly = replace(here, free_bytes=need + RESERVE_BYTES)
    assert guard(model, 8, 2, machine=exactly).peak_bytes(8, 2) == need
    with pytest.raises(WouldNotFitError, match=r"M = 8, K = 2 is predicted to need .* Take M = 7 or less"):
        guard(model, 8, 2, machine=replace(exactly, free_bytes=need + RESERVE_BYTES - 1))
    with pytest.raises(WouldNotFitError, match="No M is small enough"):
        guard(model, 8, 2, machine=replace(here, free_bytes=0))


def test_the_guard_stops_a_full_size_model_here_before_anything_is_allocated() -> None:
    with pytest.raises(WouldNotFitError, match="roberta-large"):
        guard(named("roberta-large", tokens=512), 64, machine=replace(this_machine(), free_bytes=8 * GIB))


def test_its_loss_can_be_anyones() -> None:
    model = torch.nn.Linear(64, 10)
    own = of_model(model, mlp_workload().make_batch, classification_loss_sum)
    assert plan(own, "T4", 100).best.accumulation_steps == 1
