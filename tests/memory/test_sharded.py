"""One card's memory under FSDP2 against real FSDP2: its peak as the profiler sees it, and what it keeps.

The processes are real ones over gloo, or one whose messages nobody sends: then it is the first of any number,
and nothing is measured but what FSDP2 and the model ask for.
"""

from dataclasses import replace

import pytest
import sharded_jobs as jobs
import torch
from memory_cases import config, workload

from accum_lib.distributed import launch
from accum_lib.losses import classification_loss_sum
from accum_lib.memory.cuda import CUDA
from accum_lib.memory.layers import from_a_few
from accum_lib.memory.plan_text import explain_plan
from accum_lib.memory.planner import plan
from accum_lib.memory.prediction import predict
from accum_lib.memory.pretrained import of_config
from accum_lib.memory.settings import MOST_CARDS, Settings
from accum_lib.memory.trace import UntraceableError, sharded
from accum_lib.memory.trace.storages import StorageFollower
from accum_lib.memory.trace.update import trace_update
from accum_lib.memory.workloads import Workload, mlp_workload, named, of_model

ONE_BY_ONE = Settings(implementation="for-loop", cards=2)
CASES = [("RoBERTa", 2, 2, ONE_BY_ONE)]
MODELS = [
    ("RoBERTa", 2, 1, 3),
    ("RoBERTa MLM", 4, 2, 8),
    ("GPT-2", 2, 2, 3),
    ("DistilBERT", 3, 3, 2),
    ("T5", 2, 2, 8),
]
WAYS = [
    {}, {"optimizer": "sgd"}, {"checkpointing": True}, {"precision": "bf16"}, {"implementation": "foreach"},
]  # fmt: skip
SLOW = [(*sizes, replace(ONE_BY_ONE, cards=n, **how)) for *sizes, n in MODELS for how in WAYS]
SLOW += [("GPT-2", 2, 2, replace(ONE_BY_ONE, trained="lora", weights="bf16", precision="bf16"))]
QUICK_AND_SLOW = CASES + [pytest.param(case, marks=pytest.mark.slow) for case in SLOW]
TOLERANCE = 0.003  # the generator's state, which checkpointing keeps for each layer, is not traced
SECOND = 0.002  # has a little less to keep than the first of two processes


@pytest.fixture(scope="module")
def peak() -> dict:
    found: dict = {}

    def of(*case) -> int:
        if case not in found:
            found[case] = launch(jobs.peak_alone, 1, *case)[0]
        return found[case]

    return of


@pytest.mark.parametrize(
    "case", CASES + [pytest.param(case, marks=pytest.mark.slow) for case in SLOW], ids=str
)
def test_the_peak_is_what_the_profiler_measures(case, peak) -> None:
    family, m, k, settings = case
    found = predict(workload(family), settings, "cpu").peak_bytes(m, k)
    assert found == pytest.approx(peak(*case), rel=TOLERANCE)


@pytest.mark.parametrize("wrong", ["cards", "kept after forward", "not prefetched"])
def test_a_wrong_sharding_would_be_noticed(wrong, peak, monkeypatch) -> None:
    family, m, k, settings = CASES[0]
    if wrong == "cards":
        settings = replace(settings, cards=3)
    if wrong == "kept after forward":
        monkeypatch.setattr(sharded.Sharded, "_leave", lambda *_: None)
    if wrong == "not prefetched":
        monkeypatch.setattr(sharded.Sharded, "turn_back", lambda self: None)
        monkeypatch.setattr(sharded.Sharded, "_gather", lambda self, unit: None)
    model = replace(workload(family), name=wrong)  # another one, so that nothing of it is cached
    found = predict(model, settings, "cpu").peak_bytes(m, k)
    assert found != pytest.approx(peak(*CASES[0]), rel=2 * TOLERANCE)


def test_two_processes_over_gloo_keep_as_much_and_need_no_less() -> None:
    found = predict(workload("RoBERTa"), ONE_BY_ONE, "cpu")
    first, second = launch(jobs.kept, 2, "RoBERTa", ONE_BY_ONE)
    assert first == found.resident_bytes()
    assert second <= first  # of one kind of token, the first has it
    peak = found.peak_bytes(*CASES[0][1:3])
    for measured in launch(jobs.peak_over_gloo, 2, *CASES[0]):  # gloo copies messages, and keeps them a while
        assert measured >= (1 - SECOND) * peak  # for how long is a matter of timing, so nothing bounds it


@pytest.mark.parametrize("family", ["bert", pytest.param("bart", marks=pytest.mark.slow)])
def test_a_few_layers_say_what_the_whole_model_says(family) -> None:
    deep = {"encoder_layers": 8, "decoder_layers": 8} if family == "bart" else {"num_hidden_layers": 9}
    model, settings = of_config(config(family, **deep), None, 32), Settings(cards=3)
    found, whole = from_a_few(model, 3, 2, settings, CUDA()), trace_update(model, 3, 2, settings, CUDA())
    assert (found.nbytes == whole.nbytes).all()
    assert (found.storage == whole.storage).all()
    assert found.operators == whole.operators


class Chain(torch.nn.Module):
    """Two layers, of 6 x 10 and 10 x 10."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(inputs, 10, bias=False) for inputs in widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def reading(model: torch.nn.Module, features: int) -> Workload:
    def batch(m: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(m, features), torch.zeros(m, dtype=torch.long)

    return of_model(model, batch, classification_loss_sum)


def test_a_layer_inside_another_is_part_of_it_and_none_is_shared() -> None:
    chain = Chain(10, 10)
    nested = torch.nn.Sequential(chain.layers[0], chain.layers[1])
    followed = sharded.Sharded(StorageFollower(CUDA()), nested, [nested, *chain.layers], 2)
    assert followed.root.parameters == []
    chain.layers[1].weight = chain.layers[0].weight
    with pytest.raises(UntraceableError, match="no parameter that two layers share"):
        predict(reading(chain, 10), Settings(cards=2))


def test_what_is_shared_out_by_hand() -> None:
    """A parameter of 10 rows over 4 cards: 3 rows, and AdamW's two numbers for each, and the gradient."""

    alone = reading(Chain(6, 10), 6)
    kept = predict(alone, Settings(optimizer="adamw", cards=4), "cpu").resident_bytes()
    steps = 2 * 4  # AdamW counts its steps for each parameter
    assert kept == 4 * (3 * 6 + 3 * 10) * 4 + steps


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (mlp_workload(), Settings(cards=2), "no list of layers for FSDP2"),
        (workload("RoBERTa"), Settings(optimizer="adafactor", cards=2), "what adafactor keeps of a shard"),
        (workload("RoBERTa"), Settings(cards=2, set_to_none=False), "gradients that are set to None"),
    ],
)  # fmt: skip
def test_what_cannot_be_sharded_here_says_why(model, settings, message) -> None:
    with pytest.raises(UntraceableError, match=message) as caught:
        predict(model, settings)
    assert "\n" not in str(caught.value)


def test_a_loss_in_chunks_runs_the_head_where_nothing_is_gathered() -> None:
    with pytest.raises(UntraceableError, match="for one card, or for the usual loss"):
        sharded.sharded_over(Settings(cards=2, chunked=True), None, None, [])


def test_a_number_is_no_parameter_for_fsdp2() -> None:
    with pytest.raises(UntraceableError, match=r"no parameter without a dimension: give it the shape \(1,\)"):
        sharded.shard_of(torch.nn.Parameter(torch.tensor(1.0)), 2)


@pytest.mark.parametrize("cards", [0, -1, 1.5, True, "2", 10**6])
def test_impossible_numbers_of_cards_are_refused(cards) -> None:
    with pytest.raises(ValueError, match=f"whole number from 1 to {MOST_CARDS:,}; got {cards!r}"):
        plan("roberta-base", "T4", 64, cards=cards)


def test_more_cards_than_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="65 cards cannot share 64 examples: take 64 cards or fewer"):
        plan("roberta-base", "T4", 64, cards=65)


def test_a_plan_over_cards_is_one_cards_share() -> None:
    model = named("roberta-base", "classification", 64, num_hidden_layers=2)
    one, four = plan(model, "2GB", 50, Settings("adamw")), plan(model, "2GB", 50, Settings("adamw"), cards=4)
    assert (one.cards, one.share, four.cards, four.share) == (1, 50, 4, 13)
    assert four.best.micro_batch_size * four.best.accumulation_steps >= 13
    assert (four.best.accumulation_steps - 1) * four.best.micro_batch_size < 13
    assert four.best.floor_bytes < one.best.floor_bytes if one.best else True
    text = explain_plan(four)
    assert "on 4 cards, each a card of 2 GB" in text
    assert "each of the 4 cards, which runs 13 of the examples" in text
    assert "NCCL" not in explain_plan(one)
