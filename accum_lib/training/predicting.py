"""A trained classifier's probabilities for new texts: those of a Transformers pipeline, batched by tokens."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.losses import evaluating
from accum_lib.packing import packed
from accum_lib.training.data import Example
from accum_lib.training.data.tasks import Task
from accum_lib.training.data.tokenizer import load_tokenizer
from accum_lib.words import _, first_line

TOKENS = 4096  # padded, in one pass


def load_classifier(folder: str | os.PathLike[str]) -> tuple[nn.Module, Any, tuple[str, ...]]:
    """The model in evaluation mode, its tokenizer, and the names of its classes.

    Raises:
        ValueError: there is no classifier.
    """
    import transformers

    config_file = Path(folder, "config.json")
    if not config_file.is_file():
        raise ValueError(
            _(
                "no model in {folder}: give the folder that accum train wrote, such as runs/first/model",
                folder=folder,
            )
        )
    try:
        model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except Exception as error:  # of many kinds, depending on what is wrong with the folder
        raise ValueError(
            _(
                "the model in {folder} cannot be loaded: {why} Give another one, or train it once more",
                folder=folder, why=f"{first_line(error).rstrip('.')}.",
            )
        ) from error  # fmt: skip
    made = model.config.architectures or [""]
    if "SequenceClassification" not in made[0] or model.config.num_labels < 2:
        raise ValueError(
            _(
                "the model in {folder} does not classify texts: train with --task classification",
                folder=folder,
            )
        )
    labels = tuple(model.config.id2label[i] for i in range(model.config.num_labels))
    return model.eval(), load_tokenizer(folder), labels


def probabilities(
    model: nn.Module, tokenizer: Any, examples: Sequence[Example], max_tokens: int, budget: int = TOKENS
) -> Tensor:
    """(examples, classes) in their order; longer texts lose what is beyond ``max_tokens``."""
    task = Task(examples, tokenizer, max_tokens)
    device = next(model.parameters()).device
    found = torch.empty(0)
    with evaluating(model), torch.no_grad():
        for indices in packed(task.lengths, budget):
            inputs = {name: part.to(device) for name, part in task.inputs(indices).items()}
            rows = model(**inputs).logits.float().softmax(dim=1).cpu()
            found = found if len(found) else torch.empty(len(task), rows.shape[1])
            found[indices] = rows
    return found
