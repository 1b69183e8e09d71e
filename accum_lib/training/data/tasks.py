"""What is learned: to classify texts, or to guess hidden tokens. Examples in; batches, losses, counts out.

Masked language modelling: which tokens are hidden, and what is there instead.

15 % of a text's tokens are to be guessed; of those 80 % become ``<mask>``, 10 % another token, 10 % stay.
Each example draws from a seed of its own, so its masks do not depend on how examples are cut into
micro-batches. Sources: Devlin et al. 2019 (arXiv 1810.04805, section 3.1); new masks in every epoch as in
Liu et al. 2019 (arXiv 1907.11692, section 4.1), whose code also rounds the number of masks at random.
"""

import hashlib
import json
import random
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.losses import IGNORE_INDEX, count_tokens
from accum_lib.packing import packed
from accum_lib.training.data import Example
from accum_lib.training.data.batches import cut

MASKED, AS_MASK, AS_OTHER = 0.15, 0.8, 0.1


def mask_tokens(
    tokens: Sequence[int], special: Collection[int], mask_id: int, vocabulary: Sequence[int], key: str
) -> tuple[list[int], list[int]]:
    """The tokens with some hidden, and labels: the hidden tokens, and -100 elsewhere.

    At least one token is hidden if there is any that is not special, or short texts would teach nothing.

    Args:
        tokens: of one example, with special tokens.
        special: ids that are never hidden.
        mask_id: of ``<mask>``.
        vocabulary: what a token may be replaced by.
        key: the same key gives the same masks, on every machine.
    """
    generator = random.Random(key)
    places = [i for i, token in enumerate(tokens) if token not in special]
    number = min(len(places), max(1, int(MASKED * len(places) + generator.random())))
    inputs, labels = list(tokens), [IGNORE_INDEX] * len(tokens)
    for i in generator.sample(places, number):
        labels[i] = tokens[i]
        fate = generator.random()
        if fate < AS_MASK:
            inputs[i] = mask_id
        elif fate < AS_MASK + AS_OTHER:
            inputs[i] = generator.choice(vocabulary)
    return inputs, labels


HELD_OUT = -1  # the "epoch" of evaluations: their masks are the same every time
FILLERS = {"input_ids": 0, "attention_mask": 0, "token_type_ids": 0, "labels": IGNORE_INDEX}
LETTERS = 16  # for each token, to begin with; in most languages there are four or fewer
Batch = dict[str, Tensor]


class Task:
    """Encoded examples, and how micro-batches are made of them.

    Args:
        examples: texts, with labels if the task needs them.
        tokenizer: of Transformers.
        max_tokens: longer texts are cut to this.
        seed: for tasks that draw something.

    Raises:
        ValueError: there is no example, or one has no label and needs one.
    """

    name = ""

    def __init__(
        self, examples: Sequence[Example], tokenizer: Any, max_tokens: int = 128, seed: int = 0
    ) -> None:
        if not examples:
            raise ValueError("no examples: the data set is empty")
        self.examples, self.seed, self.tokenizer = tuple(examples), seed, tokenizer
        self.max_tokens = max_tokens
        self.pad = {**FILLERS, "input_ids": tokenizer.pad_token_id}
        self.encoded: list[dict[str, list[int]]] = []
        self.shortened = 0  # texts with more than ``max_tokens`` tokens, which lose what is beyond
        for example in examples:
            encoded, cut = _encode(_in_part(example, tokenizer, max_tokens), tokenizer, max_tokens)
            self.encoded.append(encoded)
            self.shortened += cut
        self.lengths = [len(e["input_ids"]) for e in self.encoded]

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(self.lengths)

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, indices: Sequence[int], epoch: int = 0) -> Batch:
        """``input_ids`` and ``attention_mask`` (micro_batch, longest), and ``labels``."""
        raise NotImplementedError

    def passes(
        self, indices: Sequence[int], micro_batch_size: int, by_tokens: bool = False
    ) -> list[Sequence[int]]:
        """A window's examples, cut in M texts each, or in as many tokens as M of the longest have."""
        if not by_tokens:
            return cut(indices, micro_batch_size)
        groups = packed([self.lengths[i] for i in indices], micro_batch_size * self.longest)
        return [[indices[i] for i in group] for group in groups]

    def inputs(self, indices: Sequence[int]) -> Batch:
        """``input_ids`` and the like, (texts, longest), without labels."""
        return self._padded([self.encoded[i] for i in indices])

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        """Summed cross-entropy in nats of the labels that count."""
        logits, labels = self.predict(model, batch)
        return F.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORE_INDEX)

    def count(self, batch: Batch) -> int:
        """How many labels count: samples, or hidden tokens."""
        return count_tokens(batch)

    def predict(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (labels, classes) and labels (labels,), on the model's device."""
        device = next(model.parameters()).device
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        labels = moved.pop("labels")
        logits = model(**moved).logits
        return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)

    def fingerprint(self) -> str:
        """SHA-256 of the encoded examples: other data, or another tokenizer, have another one."""
        content = [self.encoded, [example.label for example in self.examples]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _padded(self, rows: list[dict[str, list[int]]]) -> Batch:
        return {
            name: nn.utils.rnn.pad_sequence(
                [torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=self.pad[name]
            )
            for name in rows[0]
        }


class Classification(Task):
    """Each text has one label (micro_batch,); its loss counts samples."""

    name = "classification"

    def __init__(
        self, examples: Sequence[Example], tokenizer: Any, max_tokens: int = 128, seed: int = 0
    ) -> None:
        super().__init__(examples, tokenizer, max_tokens, seed)
        for i, example in enumerate(self.examples):
            if example.label is None:
                raise ValueError(f"example {i} has no label; without labels there is the task 'mlm'")

    def batch(self, indices: Sequence[int], epoch: int = 0) -> Batch:
        labels = torch.tensor([self.examples[i].label for i in indices])
        return {**self.inputs(indices), "labels": labels}


class MaskedLanguageModelling(Task):
    """Guess hidden tokens, labels (micro_batch, longest); the loss counts hidden tokens.

    They are drawn from (seed, epoch, example), so the count is known before any forward pass.

    Raises:
        ValueError: also if an example has no token that could be hidden.
    """

    name = "mlm"

    def __init__(
        self, examples: Sequence[Example], tokenizer: Any, max_tokens: int = 128, seed: int = 0
    ) -> None:
        super().__init__(examples, tokenizer, max_tokens, seed)
        self._special = frozenset(tokenizer.all_special_ids)
        self._vocabulary = [i for i in range(len(tokenizer)) if i not in self._special]
        empty = [i for i, e in enumerate(self.encoded) if self._special.issuperset(e["input_ids"])]
        if empty:  # a window of such examples alone would count nothing
            text = self.examples[empty[0]].text
            raise ValueError(
                f"example {empty[0]} ({text[:40]!r}) has no token that could be hidden, only special or "
                f"unknown ones; there are {len(empty)} such examples: remove them from the data"
            )

    def batch(self, indices: Sequence[int], epoch: int = 0) -> Batch:
        return self._padded([self._masked(i, epoch) for i in indices])

    def _masked(self, index: int, epoch: int) -> dict[str, list[int]]:
        row, key = self.encoded[index], f"masks {self.seed} {epoch} {index}"
        inputs, labels = mask_tokens(
            row["input_ids"], self._special, self.tokenizer.mask_token_id, self._vocabulary, key
        )
        return {**row, "input_ids": inputs, "labels": labels}


TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification, MaskedLanguageModelling)}


def _in_part(example: Example, tokenizer: Any, max_tokens: int) -> Example:
    """As much of a long text as fills ``max_tokens``: to encode a book takes memory, and two of them as a
    pair its square, since what is cut off is kept in every combination.
    """

    def part(text: str) -> str:
        size = LETTERS * max_tokens
        while len(text) > size:
            found = tokenizer(text[:size], add_special_tokens=False, verbose=False)
            if len(found["input_ids"]) > 2 * max_tokens:  # then the last word, which is cut, is not read
                return text[:size]
            size *= 2
        return text

    return Example(part(example.text), part(example.pair) if example.pair else None, example.label)


def _encode(example: Example, tokenizer: Any, max_tokens: int) -> tuple[dict[str, list[int]], bool]:
    """The model's inputs, and whether the text had to be cut for them."""
    encoded = tokenizer(example.text, example.pair, truncation=True, max_length=max_tokens)
    if encoded.encodings is not None:
        cut = bool(encoded.encodings[0].overflowing)
    else:  # a tokenizer in Python does not keep what it cuts off
        full = len(encoded["input_ids"]) >= max_tokens
        cut = full and len(tokenizer(example.text, example.pair, verbose=False)["input_ids"]) > max_tokens
    return {name: list(encoded[name]) for name in FILLERS if name in encoded}, cut
