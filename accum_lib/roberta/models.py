"""The model to train: a checkpoint from the hub or a folder, or an untrained RoBERTa from its configuration.

Checkpoints are read as safetensors only (a pickle can run code), and code that a repository brings along is
never run. An untrained model is labelled as such wherever its name is shown.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from accum_lib.roberta.data import TextData
from accum_lib.roberta.tokenizer import load_tokenizer, train_tokenizer
from accum_lib.words import _

PUBLISHED = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
SIZES: dict[str, dict[str, int]] = {
    "tiny": dict(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
        max_position_embeddings=258, type_vocab_size=1,
    ),
    "base": PUBLISHED,
    "large": {
        **PUBLISHED, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}  # fmt: skip
CLASSES = {"classification": "AutoModelForSequenceClassification", "mlm": "AutoModelForMaskedLM"}
DROPOUTS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout",  # RoBERTa, BERT
    "dropout", "attention_dropout", "seq_classif_dropout",  # DistilBERT
)  # fmt: skip
TINY_VOCABULARY = 2000


@dataclass(frozen=True)
class Loaded:
    """A model in training mode with its tokenizer.

    Attributes:
        model, tokenizer: of Transformers.
        name: in words; says so if the weights are untrained.
        trained: whether the weights come from a checkpoint.
        max_tokens: what the model reads at most.
    """

    model: nn.Module
    tokenizer: Any
    name: str
    trained: bool
    max_tokens: int

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.model.parameters())


def load_model(
    source: str | os.PathLike[str], task: str, data: TextData, dropout: float | None = None, seed: int = 0
) -> Loaded:
    """A model for the task, with its tokenizer.

    Args:
        source: "tiny", "base" or "large" (untrained RoBERTa, with a tokenizer trained on the data), a folder
            that ``save_pretrained`` has written, or a name on the hub such as "FacebookAI/roberta-base".
        task: "classification" or "mlm".
        data: its labels make the classifier's classes; its training texts the tokenizer of untrained models.
        dropout: probability everywhere; None keeps the model's own (0.1 for RoBERTa).
        seed: draws the weights that do not come from a checkpoint.

    Raises:
        ValueError: the task is unknown, the data have no labels, or the checkpoint does not suit them.
        OSError: there is no such checkpoint, or it has no safetensors.
    """
    _check(task, data, dropout)
    name = os.fspath(source)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are left alone
        torch.manual_seed(seed)
        if name in SIZES:
            return _untrained(name, task, data, dropout)
        return _from_checkpoint(name, task, data, dropout)


def build(size: str, task: str, labels: tuple[str, ...], vocabulary: int, dropout: float | None) -> nn.Module:
    """An untrained RoBERTa on the default device; the published sizes keep their published vocabulary."""
    import transformers  # takes seconds

    shape: dict[str, Any] = {"vocab_size": vocabulary, **SIZES[size]}
    config = transformers.RobertaConfig(**shape, **_classes(task, labels))
    _set_dropout(config, dropout)
    made = getattr(transformers, CLASSES[task])
    return made.from_config(config).train()


def export(loaded: Loaded, folder: Path) -> Path:
    """Write model and tokenizer as ``from_pretrained`` reads them: whole, or not at all.

    Raises:
        OSError: the disk is full, or cannot be written to; an export from before is untouched.
    """
    from safetensors import SafetensorError

    aside = folder.with_name(f"{folder.name}-unfinished")
    try:
        saved: Any = loaded.model
        saved.save_pretrained(aside)
        loaded.tokenizer.save_pretrained(aside)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise OSError(f"the model could not be written to {folder}: {error}") from error
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return folder


def _untrained(size: str, task: str, data: TextData, dropout: float | None) -> Loaded:
    longest = SIZES[size]["max_position_embeddings"] - 2  # RoBERTa's positions start at 2
    texts = [text for e in data.train for text in (e.text, e.pair) if text]
    tokenizer = train_tokenizer(texts, TINY_VOCABULARY, longest)
    model = build(size, task, data.labels, len(tokenizer), dropout)
    return Loaded(model, tokenizer, _("RoBERTa ({size}, untrained)", size=size), False, longest)


def _from_checkpoint(name: str, task: str, data: TextData, dropout: float | None) -> Loaded:
    import transformers

    how = {"trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **how, **_classes(task, data.labels))
        _set_dropout(config, dropout)
        model = getattr(transformers, CLASSES[task]).from_pretrained(
            name, config=config, use_safetensors=True, dtype=torch.float32, **how
        )
    except OSError as error:
        raise OSError(
            f"no model at {name!r}: {_first_line(error)} Give a folder with config.json and "
            f"model.safetensors, or a name on the hub; offline there are {', '.join(SIZES)}, untrained"
        ) from error
    except RuntimeError as error:
        raise ValueError(f"{name} does not suit the data's labels {data.labels}: {error}") from error
    longest = getattr(config, "max_position_embeddings", 512)
    longest -= 2 if config.model_type in ("roberta", "camembert", "xlm-roberta") else 0
    return Loaded(model.train(), load_tokenizer(name), name, True, longest)


def _classes(task: str, labels: tuple[str, ...]) -> dict[str, Any]:
    if task != "classification":
        return {}
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


def _set_dropout(config: Any, dropout: float | None) -> None:
    """Wherever the configuration has one; families name it differently."""
    for name in DROPOUTS:
        if dropout is not None and hasattr(config, name):
            setattr(config, name, dropout)


def _check(task: str, data: TextData, dropout: float | None) -> None:
    if task not in CLASSES:
        raise ValueError(f"task must be one of {', '.join(CLASSES)}; got {task!r}")
    if task == "classification" and len(data.labels) < 2:
        raise ValueError(f"{data.name} has {len(data.labels)} labels; to classify takes two. Try --task mlm")
    if dropout is not None and not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability below 1; got {dropout}")


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith(".") else f"{line}."
