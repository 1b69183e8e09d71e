"""RoBERTa for sequence classification, built from its configuration: tiny for everyone, or full size.

Offline, the weights are **random** (untrained) and the text is real: docstrings of packages that are
installed anyway, classified by the package that they come from. Their lengths are ragged, as
text is. Each byte is one token, so no vocabulary has to be downloaded.
"""

import inspect
import random
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.extras import need
from accum_lib.words import _

PAD, START, END, FIRST_BYTE = 1, 0, 2, 4  # RoBERTa's own special ids; byte b becomes token 4 + b

SIZES: dict[str, dict[str, int]] = {
    "tiny": dict(
        vocab_size=FIRST_BYTE + 256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=130,
    ),
    "base": {},  # RobertaConfig's defaults, with the positions of the published checkpoint: 125 M parameters
}  # fmt: skip


def make_roberta(size: str = "tiny", num_labels: int = 2, dropout: float = 0.1, seed: int = 0) -> nn.Module:
    """An untrained ``RobertaForSequenceClassification``; the global random state is left alone.

    Args:
        size: "tiny" (about 0.1 M parameters) or "base" (125 M).
        num_labels: classes.
        dropout: probability everywhere; 0 makes accumulation exact.
        seed: draws the weights.

    Raises:
        ValueError: the size is not known.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {sorted(SIZES)}; got {size!r}")
    need("RoBERTa", "train", "transformers")
    from transformers import RobertaConfig, RobertaForSequenceClassification  # takes seconds to import

    shape: dict[str, Any] = {
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        **SIZES[size],
    }
    config = RobertaConfig(
        **shape,
        num_labels=num_labels,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RobertaForSequenceClassification(config).train()


def summaries(module: ModuleType, limit: int) -> list[str]:
    """The first paragraphs of up to ``limit`` docstrings of a module's public callables, in fixed order."""
    members = (getattr(module, name) for name in dir(module) if not name.startswith("_"))
    docs = (inspect.getdoc(member) or "" for member in members if callable(member))
    return sorted({" ".join(doc.split("\n\n")[0].split()) for doc in docs if len(doc) > 20})[:limit]


def encode(text: str, max_tokens: int) -> list[int]:
    """Byte tokens between RoBERTa's start and end marks, cut to ``max_tokens``."""
    body = [FIRST_BYTE + byte for byte in text.encode()[: max_tokens - 2]]
    return [START, *body, END]


class Roberta:
    """Tell docstrings of torch from those of NumPy with RoBERTa; labels by package.

    Args:
        size: "tiny" or "base".
        num_samples: N, half from each package.
        max_tokens: longer docstrings are cut to this.
        dropout: probability; 0 (the default here) makes accumulation exact.
        seed: shuffles the samples.
    """

    default_learning_rate = 0.1

    def __init__(
        self, size: str = "tiny", num_samples: int = 256, max_tokens: int = 128, dropout: float = 0.0,
        seed: int = 0,
    ) -> None:  # fmt: skip
        import numpy

        if not 3 <= max_tokens <= 512:
            raise ValueError(f"max_tokens must be between 3 and 512; got {max_tokens}")
        if size == "tiny" and max_tokens > 128:
            raise ValueError(f"tiny RoBERTa reads at most 128 tokens; got max_tokens={max_tokens}")
        texts = [summaries(module, limit=(num_samples + 1) // 2) for module in (torch, numpy)]
        samples = [(encode(t, max_tokens), label) for label, group in enumerate(texts) for t in group]
        random.Random(seed).shuffle(samples)
        if not 1 <= num_samples <= len(samples):
            raise ValueError(f"num_samples must be between 1 and {len(samples)}; got {num_samples}")
        self.tokens = [tokens for tokens, _ in samples[:num_samples]]
        self.labels = torch.tensor([label for _, label in samples[:num_samples]])  # (N,)
        self.name = _("RoBERTa ({size}, untrained) on docstrings", size=size)
        self.num_samples = num_samples
        self._size, self._dropout = size, dropout

    def make_model(self, seed: int = 0) -> nn.Module:
        return make_roberta(self._size, dropout=self._dropout, seed=seed)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask`` (micro_batch, longest), ``labels`` (micro_batch,)."""
        rows = [torch.tensor(self.tokens[i]) for i in indices.tolist()]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
        return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": self.labels[indices]}

    def loss_sum(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        inputs: dict[str, Any] = {k: v for k, v in batch.items() if k != "labels"}
        return F.cross_entropy(model(**inputs).logits, batch["labels"], reduction="sum")

    def count(self, batch: dict[str, Tensor]) -> int:
        return len(batch["labels"])
