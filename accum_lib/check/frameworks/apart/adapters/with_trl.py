"""TRL: its Trainers on a tiny GPT-2, from texts on; the third argument is "sft", "dpo", "reward" or "kto"."""

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from adapter import Case, serve
from datasets import Dataset
from own_model import Rows, Watched
from torch import Tensor, nn
from torch.nn import functional as F
from trainers import EOS, WORDS, WindowShares, fit, text, tokenizer, words
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
from trl import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

BETA, MISMATCHED = 0.1, 8  # DPO's and KTO's own; KTO's default rows of a batch, whose answers it rotates
PROMPT, ANSWER, LENGTH = 4, 5, 16  # words
KIND = sys.argv[3]
TRAINERS = {
    "sft": (SFTTrainer, SFTConfig, GPT2LMHeadModel),
    "dpo": (DPOTrainer, DPOConfig, GPT2LMHeadModel),
    "reward": (RewardTrainer, RewardConfig, GPT2ForSequenceClassification),
    "kto": (KTOTrainer, KTOConfig, GPT2LMHeadModel),
}


@dataclass(frozen=True)
class Row:
    """Token ids, without the end's: a prompt, its answer, and another answer; is the first one wanted?"""

    prompt: list[int]
    answer: list[int]
    other: list[int]
    wanted: bool


def make_model() -> nn.Module:
    """Random, without dropout."""
    torch.manual_seed(0)
    return TRAINERS[KIND][2](
        GPT2Config(
            vocab_size=WORDS, n_positions=LENGTH, n_embd=4, n_layer=1, n_head=1, n_inner=4, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.5, pad_token_id=0, eos_token_id=EOS,
            bos_token_id=None, num_labels=1,
        )
    )  # fmt: skip


def rows(case: Case) -> list[Rows]:
    """Of each micro-batch its rows; the answers have equally many words, or 1 to 10."""
    made, ragged = [], "ragged" in case["name"]
    for inputs, labels in zip(case["inputs"], case["labels"], strict=True):
        lengths = [1 + 3 * y if ragged else ANSWER for y in labels]
        made.append([
            Row(words(x[:PROMPT]), words(x[PROMPT : PROMPT + n]), words(x[-2:]), y % 2 == 0)
            for x, y, n in zip(inputs, labels, lengths, strict=True)
        ])  # fmt: skip
    return made if KIND != "kto" else rotated(made)


def rotated(batches: list[Rows]) -> list[Rows]:
    """KTO's other answer is that of the row before, in groups of the data set that are its batches."""
    every = [row for batch in batches for row in batch]
    groups = [every[i : i + MISMATCHED] for i in range(0, len(every), MISMATCHED)]
    others = iter([row.answer for group in groups for row in [group[-1], *group[:-1]]])
    return [[replace(row, other=next(others)) for row in batch] for batch in batches]


def logs(model: nn.Module, prompt: list[int], answer: list[int]) -> Tensor:
    """The log probability of each token of an answer and its end."""
    ids = torch.tensor([[*prompt, *answer, EOS]])
    every = F.log_softmax(model(input_ids=ids).logits[0, :-1], dim=-1)
    return every[torch.arange(ids.shape[1] - 1), ids[0, 1:]][len(prompt) - 1 :]


def mean_loss(reference: nn.Module) -> Callable[[nn.Module, Rows], Tensor]:
    """Written out, row by row, and the mean over all tokens of answers (SFT) or over rows."""

    def ratio(model: nn.Module, prompt: list[int], answer: list[int]) -> Tensor:
        return logs(model, prompt, answer).sum() - logs(reference, prompt, answer).sum().detach()

    def score(model: nn.Module, prompt: list[int], answer: list[int]) -> Tensor:
        return model(input_ids=torch.tensor([[*prompt, *answer, EOS]])).logits[0, 0]

    def sft(model: nn.Module, batch: Rows) -> Tensor:
        return -torch.cat([logs(model, r.prompt, r.answer) for r in batch]).mean()

    def reward(model: nn.Module, batch: Rows) -> Tensor:
        margins = [score(model, r.prompt, r.answer) - score(model, r.prompt, r.other) for r in batch]
        return -F.logsigmoid(torch.stack(margins)).mean()

    def dpo(model: nn.Module, batch: Rows) -> Tensor:  # Rafailov et al. 2023, equation 7
        margins = [ratio(model, r.prompt, r.answer) - ratio(model, r.prompt, r.other) for r in batch]
        return -F.logsigmoid(BETA * torch.stack(margins)).mean()

    def kto(model: nn.Module, batch: Rows) -> Tensor:  # Ethayarajh et al. 2024, equation 8
        mismatched = [ratio(model, r.prompt, r.other).detach() for r in batch]
        kl = torch.stack(mismatched).mean().clamp(min=0)
        signs = torch.tensor([1.0 if r.wanted else -1.0 for r in batch])
        ratios = torch.stack([ratio(model, r.prompt, r.answer) for r in batch])
        return (1 - torch.sigmoid(BETA * signs * (ratios - kl))).mean()

    return {"sft": sft, "reward": reward, "dpo": dpo, "kto": kto}[KIND]


def as_data(row: Row) -> dict[str, Any]:
    """The columns that a Trainer takes."""
    prompt, answer, other = text(row.prompt), " " + text(row.answer), " " + text(row.other)
    if KIND in ("dpo", "reward"):
        return {"prompt": prompt, "chosen": answer, "rejected": other}
    return {"prompt": prompt, "completion": answer, **({"label": row.wanted} if KIND == "kto" else {})}


def train(case: Case, *mixed: type) -> dict[str, Any]:
    batches, model = rows(case), make_model()
    kind, arguments, _ = TRAINERS[KIND]
    reference = copy.deepcopy(model).double()
    counts = [sum(len(r.answer) + 1 for r in batch) if KIND == "sft" else len(batch) for batch in batches]
    watched = Watched(case, model, batches, mean_loss(reference), counts, joint=KIND == "kto")
    given = {"ref_model": copy.deepcopy(reference)} if KIND in ("dpo", "kto") else {}
    return fit(
        case, type(kind.__name__, (*mixed, kind), {}), arguments, watched, [len(batch) for batch in batches],
        options={"bf16": False, "gradient_checkpointing": False, "train_sampling_strategy": "sequential"},
        model=model, train_dataset=Dataset.from_list([as_data(row) for batch in batches for row in batch]),
        processing_class=tokenizer(LENGTH), **given,
    )  # fmt: skip


def documented(case: Case) -> dict[str, Any]:
    return train(case)


def mended(case: Case) -> dict[str, Any]:
    return train(case, WindowShares)


serve(documented, mended if KIND in ("dpo", "reward") else None)
