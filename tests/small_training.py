"""Training runs of a fraction of a second: made-up ragged texts, and a RoBERTa of a few thousand numbers."""

import random
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.training.data import Example, TextData
from accum_lib.training.data.tasks import TASKS
from accum_lib.training.data.tokenizer import train_tokenizer
from accum_lib.training.settings import TrainingSettings
from accum_lib.training.trainer import Trainer

WORDS = ("sum array axis mean tensor shape", "model fit predict score label class")


@cache
def made_data(num_train: int = 90, num_held_out: int = 16) -> TextData:
    """Texts of 1 to 12 words from one of two lists, so that there is something to learn."""
    dice = random.Random(0)

    def example(label: int) -> Example:
        words = [dice.choice(WORDS[label].split()) for _ in range(dice.randint(1, 12))]
        return Example(" ".join(words), None, label)

    made = [example(i % 2) for i in range(num_train + num_held_out)]
    return TextData("made up", tuple(made[:num_train]), tuple(made[num_train:]), ("arrays", "models"))


@cache
def made_tokenizer() -> Any:
    return train_tokenizer([e.text for e in made_data().train], 300, 64)


def small_config(dropout: float = 0.1, layers: int = 2, **more: Any) -> Any:
    from transformers import RobertaConfig

    return RobertaConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=66, type_vocab_size=1, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout, pad_token_id=1, **more,
    )  # fmt: skip


def small_model(
    task: str = "classification", dropout: float = 0.1, dtype: torch.dtype = torch.float64, layers: int = 2
) -> nn.Module:
    """A RoBERTa with 16 features, the same each time."""
    from transformers import RobertaForMaskedLM, RobertaForSequenceClassification

    classes = {"classification": RobertaForSequenceClassification, "mlm": RobertaForMaskedLM}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return classes[task](small_config(dropout, layers)).to(dtype)


def make_trainer(
    output: Any = None, task: str = "classification", *, dropout: float = 0.1,
    dtype: torch.dtype = torch.float64, model: nn.Module | None = None, data: TextData | None = None,
    on_update: Any = lambda update: None, facts: dict | None = None, **settings: Any,
) -> Trainer:  # fmt: skip
    """A trainer on the CPU; 90 examples make three windows of 32 an epoch, the last of 26."""
    data = data or made_data()
    train, held_out = (TASKS[task](part, made_tokenizer(), 64) for part in (data.train, data.held_out))
    given = {"learning_rate": 1e-2, "epochs": 2, **settings}
    model = model or small_model(task, dropout, dtype)
    return Trainer(
        model, train, held_out, TrainingSettings(**given), output, device="cpu", on_update=on_update,
        facts=facts,
    )  # fmt: skip


def parameters(trainer: Trainer) -> list[Tensor]:
    """Copies of all parameters."""
    return [p.detach().clone() for p in trainer.model.parameters()]


def same_bits(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """The 2-norm of the difference over that of ``b``."""
    off = sum(float((x - y).double().square().sum()) for x, y in zip(a, b, strict=True))
    return (off / sum(float(y.double().square().sum()) for y in b)) ** 0.5
