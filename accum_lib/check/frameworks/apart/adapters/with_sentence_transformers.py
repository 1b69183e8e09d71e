"""sentence-transformers: its Trainer with a loss that is a mean over pairs, and with in-batch negatives.

The third argument says which: "pairs" or "in-batch".
"""

import sys
import tempfile
from typing import Any

import torch
from adapter import Case, serve, windows
from datasets import Dataset
from own_model import Rows, Watched
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import Tensor, nn
from torch.nn import functional as F
from trainers import WORDS, WindowShares, fit, text, tokenizer, words
from transformers import BertConfig, BertModel

MOST, SCALE = 12, 20.0  # pairs of a micro-batch; the in-batch loss's own scale
IN_BATCH = sys.argv[3] == "in-batch"


def make_model() -> SentenceTransformer:
    """A tiny BERT without dropout, random."""
    config = BertConfig(
        vocab_size=WORDS, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=10, type_vocab_size=1, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        tokenizer(10).save_pretrained(folder)
        return SentenceTransformer(modules=[Transformer(folder), Pooling(4)], device="cpu")


def pairs(case: Case) -> list[Rows]:
    """Of each row of a micro-batch two pairs, since one alone has no negatives: sentences, and a score."""
    return [
        [
            (words(x[i : i + 3]), words(x[i + 3 : i + 6]), y / 3)
            for x, y in zip(*batch, strict=True) for i in (0, 6)
        ]
        for batch in zip(case["inputs"], case["labels"], strict=True)
    ]  # fmt: skip


def mean_loss(model: nn.Module, rows: Rows) -> Tensor:
    """Written out: the squared error of the cosine, or each pair told from the others of the batch."""
    left, right = (_embedded(model, [row[side] for row in rows]) for side in (0, 1))
    if IN_BATCH:
        return F.cross_entropy(SCALE * left @ right.T, torch.arange(len(rows)))
    return ((left * right).sum(1) - torch.tensor([row[2] for row in rows])).pow(2).mean()


def _embedded(model: nn.Module, ids: list[list[int]]) -> Tensor:
    given = torch.tensor(ids)
    found = model({"input_ids": given, "attention_mask": torch.ones_like(given)})["sentence_embedding"]
    return F.normalize(found, dim=1)


def documented(case: Case) -> dict[str, Any]:
    kind = losses.MultipleNegativesRankingLoss if IN_BATCH else losses.CosineSimilarityLoss
    return train(case, SentenceTransformerTrainer, kind)


def mended(case: Case) -> dict[str, Any]:
    """In-batch negatives: a batch is the window, in K = 1, and the loss takes it in micro-batches."""
    if not IN_BATCH:
        return train(case, Shared, losses.CosineSimilarityLoss)
    return train(
        case, SentenceTransformerTrainer,
        lambda model: losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=MOST), True,
    )  # fmt: skip


class Shared(WindowShares, SentenceTransformerTrainer):
    """Each mean times its share."""


def train(case: Case, kind: Any, loss: Any, whole: bool = False) -> dict[str, Any]:
    batches, model = pairs(case), make_model()
    counts = [len(rows) for rows in batches]
    watched = Watched(case, model, batches, mean_loss, counts, joint=IN_BATCH)
    parts = windows(counts, case["accumulation_steps"]) if whole else [[n] for n in counts]
    widest: list[int] = []
    model[0].register_forward_hook(lambda _, given, __: widest.append(len(given[0]["input_ids"])))
    data = [{"left": text(left), "right": text(right), "score": y} for b in batches for left, right, y in b]
    found = fit(
        {**case, "accumulation_steps": 1 if whole else case["accumulation_steps"]}, kind, Arguments, watched,
        [sum(part) for part in parts], [len(part) for part in parts],
        model=model, train_dataset=Dataset.from_list(data).remove_columns(["score"] * IN_BATCH),
        loss=loss(model),
    )  # fmt: skip
    if max(widest) > MOST:
        raise ValueError(f"{max(widest)} pairs were embedded at once")
    return found


serve(documented, mended)
