"""What the adapters share that train with a ``Trainer`` of Transformers, or one made of it."""

import itertools
import logging
import tempfile
from typing import Any

import torch
from adapter import Case
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast
from transformers.utils.logging import set_verbosity

set_verbosity(logging.ERROR)
torch.set_num_threads(1)
WORDS, EOS, FIRST = 16, 2, 3  # as many token ids; the end's, and the first that is a word's
QUIET: dict[str, Any] = dict(
    max_grad_norm=0.0, use_cpu=True, save_strategy="no", logging_strategy="no", report_to=[],
    disable_tqdm=True,
)  # fmt: skip


def fit(
    case: Case, kind: Any, arguments: Any, noted: Any, sizes: list[int], parts: list[int] | None = None,
    options: dict[str, Any] | None = None, **given: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train, and what the checker wants.

    Args:
        case: its K and epochs count.
        kind: the Trainer's class.
        arguments: the class of its arguments, which take ``options``, too.
        noted: has an ``optimizer``, and notes its updates.
        sizes: how many of the data set's next items are in each batch.
        parts: how many of the case's micro-batches each of them is.
        given: what else the Trainer is given.
    """
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    numbers = [list(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    positions = itertools.accumulate(itertools.cycle(parts or [1] * len(sizes)))

    class InOrder(kind):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(
                self.train_dataset, batch_sampler=numbers, collate_fn=self.data_collator
            )

        def training_step(self, *args: Any, **more: Any) -> Any:
            loss = super().training_step(*args, **more)
            noted.taken = next(positions)
            return loss

    with tempfile.TemporaryDirectory() as folder:
        InOrder(
            args=arguments(
                folder, gradient_accumulation_steps=case["accumulation_steps"],
                num_train_epochs=case["epochs"], **QUIET, **(options or {}),
            ),
            optimizers=(noted.optimizer, torch.optim.lr_scheduler.ConstantLR(noted.optimizer, factor=1.0)),
            **given,
        ).train()  # fmt: skip
    return noted.found


def tokenizer(length: int) -> PreTrainedTokenizerFast:
    """Of the words w3 to w15, and of at most so many."""
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"}
    names = [*special.values(), *(f"w{i}" for i in range(FIRST, WORDS))]
    words = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=length, **special)


def words(row: list[float]) -> list[int]:
    """Numbers of the case as token ids."""
    return [FIRST + int(1000 * abs(x)) % (WORDS - FIRST) for x in row]


def text(ids: list[int]) -> str:
    """These ids as words."""
    return " ".join(f"w{i}" for i in ids)


class WindowShares:
    """Mended: before a Trainer whose loss is a mean over rows, each times its share of the window's rows."""

    loss_is_scaled_for_ga = True

    def get_batch_samples(self, *args: Any) -> Any:
        samples, _ = super().get_batch_samples(*args)
        self.window_rows = sum(map(_rows, samples))
        return samples, None

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        share = _rows(inputs) / self.window_rows  # a Trainer may take some of the inputs out
        return share * super().compute_loss(model, inputs)


def _rows(batch: dict[str, Any]) -> int:
    return next(len(value) for value in batch.values() if torch.is_tensor(value))
