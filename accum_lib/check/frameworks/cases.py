"""What the frameworks are tried on: RoBERTa's heads, a causal language model, digits; tiny and ragged.

Each case has eight micro-batches and K = 3, so the last window holds two, and a twin whose epoch is shorter
than K. The token ids are random: what is compared is arithmetic, not learning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import Count
from accum_lib.check import Case
from accum_lib.losses import IGNORE_INDEX, count_next_tokens, count_samples, count_tokens, sum_of_mean
from accum_lib.problems.digits import Digits
from accum_lib.words import _

VOCABULARY, PAD, FIRST, CLASSES = 40, 1, 4, 3
ROWS, MICRO_BATCHES, STEPS = 3, 8, 3
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class FrameworkCase:
    """A case, and the mean loss that a user of a framework would write for it."""

    case: Case
    mean_loss: Callable[[nn.Module, Any], Tensor]
    head: str  # the class of the model

    def short_epoch(self) -> "FrameworkCase":
        """The same with an epoch of two micro-batches, fewer than K."""
        short = replace(
            self.case, name=_("{case}, short epoch", case=self.case.name), batches=self.case.batches[:2]
        )
        return replace(self, case=short)


def framework_cases() -> list[FrameworkCase]:
    """Digits, and four heads; the cheapest first."""
    return [digits(), sequence_classification(), token_classification(), masked_lm(), causal_lm()]


def digits() -> FrameworkCase:
    """An MLP; micro-batches of equal size, so that nothing but the trailing window is uneven."""
    problem = Digits("mlp", num_samples=MICRO_BATCHES * ROWS)
    case = replace(Case.of_problem(problem, ROWS, STEPS), name=_("digits"))
    return FrameworkCase(case, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), "MLP")


def sequence_classification() -> FrameworkCase:
    """One label for each sequence: the count is that of sequences, however long they are."""
    batches = [text(i) for i in range(MICRO_BATCHES)]
    for i, batch in enumerate(batches):
        batch["labels"] = torch.randint(CLASSES, (ROWS,), generator=torch.Generator().manual_seed(i))
    return _subject(_("sequence classification"), "RobertaForSequenceClassification", batches, count_samples)


def token_classification() -> FrameworkCase:
    """A label for each token; padding is ignored."""
    batches = [text(i) for i in range(MICRO_BATCHES)]
    for i, batch in enumerate(batches):
        labels = torch.randint(CLASSES, batch["input_ids"].shape, generator=torch.Generator().manual_seed(i))
        batch["labels"] = labels.masked_fill(batch["attention_mask"] == 0, IGNORE_INDEX)
    return _subject(_("token classification"), "RobertaForTokenClassification", batches, count_tokens)


def masked_lm() -> FrameworkCase:
    """Some tokens are to be guessed; how many differs from sequence to sequence."""
    batches = [text(i) for i in range(MICRO_BATCHES)]
    for i, batch in enumerate(batches):
        chosen = torch.rand(batch["input_ids"].shape, generator=torch.Generator().manual_seed(i)) < 0.4
        chosen[:, 0] = True
        chosen &= batch["attention_mask"] == 1
        batch["labels"] = batch["input_ids"].masked_fill(~chosen, IGNORE_INDEX)
    return _subject(_("masked LM"), "RobertaForMaskedLM", batches, count_tokens)


def causal_lm(head: str = "GPT2LMHeadModel") -> FrameworkCase:
    """Each token is to be guessed from those before it; the first of a sequence predicts nothing."""
    batches = [text(i) for i in range(MICRO_BATCHES)]
    for batch in batches:
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE_INDEX)
    return _subject(_("causal LM"), head, batches, count_next_tokens)


def text(seed: int) -> Batch:
    """Three sequences of 3 to 11 random tokens, padded to the longest: ``input_ids``, ``attention_mask``."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 12, (ROWS,), generator=generator).tolist()
    rows = [torch.randint(FIRST, VOCABULARY, (n,), generator=generator) for n in lengths]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def _subject(name: str, head: str, batches: list[Batch], count: Count) -> FrameworkCase:
    def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
        arguments: dict[str, Any] = dict(batch)
        return model(**arguments).loss

    case = Case(
        name=name,
        make_model=lambda: make_model(head),
        batches=batches,
        accumulation_steps=STEPS,
        loss_sum=sum_of_mean(mean_loss, count),
        count=count,
        join=lambda numbers: _join([batches[i] for i in numbers]),
    )
    return FrameworkCase(case, mean_loss, head)


def make_model(head: str) -> nn.Module:
    """A tiny, untrained Transformers model without dropout, by its class's name; the same each time."""
    import transformers

    tiny: dict[str, Any]
    if head.startswith("GPT2"):
        tiny = dict(n_positions=32, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
                    attn_pdrop=0.0, bos_token_id=0, eos_token_id=2, pad_token_id=PAD)  # fmt: skip
        config: Any = transformers.GPT2Config(vocab_size=VOCABULARY, **tiny)
    elif head.startswith("Llama"):
        tiny = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                    num_key_value_heads=2, max_position_embeddings=32, pad_token_id=PAD)  # fmt: skip
        config = transformers.LlamaConfig(vocab_size=VOCABULARY, **tiny)
    else:
        tiny = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                    max_position_embeddings=34, type_vocab_size=1, hidden_dropout_prob=0.0,
                    attention_probs_dropout_prob=0.0, pad_token_id=PAD, num_labels=CLASSES)  # fmt: skip
        config = transformers.RobertaConfig(vocab_size=VOCABULARY, **tiny)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(transformers, head)(config)


def _join(batches: Sequence[Batch]) -> Batch:
    """One batch of several, padded to the longest."""
    longest = max(batch["input_ids"].shape[1] for batch in batches)
    filling = {"input_ids": PAD, "attention_mask": 0, "labels": IGNORE_INDEX}
    joined = {}
    for key, value in filling.items():
        parts = [b[key] for b in batches]
        if parts[0].ndim == 2:
            parts = [F.pad(p, (0, longest - p.shape[1]), value=value) for p in parts]
        joined[key] = torch.cat(parts)
    return joined
