"""The planner as a page: for a model, a way to train it and a card, the largest M, and the K of an update.

    python -m web.calculator MODEL FILE   computes one model's part, writes FILE as JSON

Every number is the planner's (``accum_lib.memory.planner.option``), for the leanest card of each size, with
its usual margin. Nothing is run: a model is its configuration.
"""

import itertools
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from accum_lib.machine import one_thread
from accum_lib.memory.cards import Card, find_card
from accum_lib.memory.planner import MARGIN, option
from accum_lib.memory.prediction import predict
from accum_lib.memory.pretrained import of_config
from accum_lib.memory.records import share_of
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import TraceMismatchError, UntraceableError
from accum_lib.memory.workloads import LARGE, ROBERTA, Workload

TOKENS, BATCH = 512, 256
SIZES = (8, 12, 16, 24, 40, 80)  # gigabytes, as cards are sold
NUMBERS = {  # weights and precision
    "fp32": {},
    "autocast": {"precision": "bf16"},
    "bf16": {"precision": "bf16", "weights": "bf16"},
}
TRAINED = {
    "all": {},
    "fused": {"implementation": "fused"},
    "lora": {"implementation": "fused", "trained": "lora"},
}
SWITCH = (False, True)
CARDS = (1, 8)
# In the order of a part's cells; fused beside the default, since both have the same passes, traced once.
AXES = ("numbers", "checkpointing", "chunked", "cards", "trained", "size")
LLAMA_1B = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True,
}  # fmt: skip
MODELS: dict[str, tuple[str, str, str, dict[str, Any]]] = {  # its name, family, head, configuration
    "bert-base": ("BERT-base", "bert", "classification", {}),
    "roberta-base": ("RoBERTa-base", "roberta", "classification", ROBERTA),
    "roberta-large": ("RoBERTa-large", "roberta", "classification", {**ROBERTA, **LARGE}),
    "gpt2": ("GPT-2", "gpt2", "causal", {"bos_token_id": 0, "eos_token_id": 0}),
    "llama-1b": ("Llama, 1 B", "llama", "causal", LLAMA_1B),
    "llama-7b": ("Llama, 7 B", "llama", "causal", {}),  # the family's defaults
}
Cell = list[int] | str  # largest M; M, K; peak and reserved bytes, or those of the smallest M. Or why not


def workload(model: str) -> Workload:
    import transformers

    name, family, head, config = MODELS[model]
    return of_config(transformers.AutoConfig.for_model(family, **config), head, TOKENS, name)


def ways(model: str) -> Iterator[Settings]:
    """Every setting of all axes but the size, the last one fastest; no chunks where there are no logits."""
    chunks = SWITCH if MODELS[model][2] == "causal" else SWITCH[:1]
    for numbers, again, chunked, cards, trained in itertools.product(NUMBERS, SWITCH, chunks, CARDS, TRAINED):
        how: dict[str, Any] = NUMBERS[numbers] | TRAINED[trained]
        yield Settings(checkpointing=again, chunked=chunked, cards=cards, **how)


def cell(model: Workload, settings: Settings, card: Card) -> Cell:
    """What one card takes of the update.

    Raises:
        UntraceableError, TraceMismatchError: as ``predict``.
    """
    found = predict(model, settings, card.device, card.hopper)
    best = option(found, card, card.limit_bytes(MARGIN), share_of(BATCH, settings.cards))
    return [
        best.largest_micro_batch, best.micro_batch_size, best.accumulation_steps, best.peak_bytes,
        best.reserved_bytes,
    ]  # fmt: skip


def part(model: str) -> dict[str, Any]:
    """One model's cells, in the order of ``AXES``."""
    found, cells, cards = workload(model), [], [find_card(f"{size}GB") for size in SIZES]
    for settings in ways(model):
        try:
            cells += [cell(found, settings, card) for card in cards]
        except (UntraceableError, TraceMismatchError) as error:
            cells += [str(error)] * len(SIZES)
    return {"name": MODELS[model][0], "chunked": MODELS[model][2] == "causal", "cells": cells}


def grid(parts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """All that the page reads; None without any model."""
    limits = [find_card(f"{size}GB").limit_bytes(MARGIN) for size in SIZES]
    about = {"axes": AXES, "sizes": SIZES, "limits": limits, "cards": CARDS, "batch": BATCH, "tokens": TOKENS}
    return {**about, "parts": parts} if parts else None


def main() -> int:
    model, file = sys.argv[1:]
    with one_thread():
        pathlib.Path(file).write_text(json.dumps(part(model), separators=(",", ":")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
