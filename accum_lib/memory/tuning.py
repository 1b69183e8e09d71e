"""What is trained, and in which type: all of a model, its head alone, or LoRA beside frozen weights.

And a cross-entropy in chunks, which never has all logits at once: with a large vocabulary they are the peak.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as run_again_later

from accum_lib.accumulate import LossSum
from accum_lib.losses import IGNORE_INDEX
from accum_lib.memory.settings import WEIGHTS, Settings
from accum_lib.memory.workloads import Batch, Workload, longest_list

CHUNKS = 8  # parts of a sequence; one part's logits are there at once


class LoRA(nn.Module):
    """A frozen layer and beside it a product of two small matrices (Hu et al. 2021, arXiv 2106.09685).

    It begins as the layer itself, since the second matrix is zero.
    """

    def __init__(self, layer: nn.Module, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.layer = layer
        self.down, self.up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)
        self.scale = 2.0  # the paper's alpha / rank; twice the rank is usual

    @property
    def weight(self) -> Tensor:
        """The layer's own: T5 asks for its type."""
        return self.layer.weight  # type: ignore[return-value]

    def forward(self, features: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return self.layer(features) + self.up(self.down(features)) * self.scale


def prepared(workload: Workload, settings: Settings) -> tuple[nn.Module, LossSum]:
    """A new model with what is trained of it, and its loss, as the settings ask for.

    Raises:
        ValueError: there is nothing to checkpoint, to freeze or to adapt, or no loss in chunks.
    """
    model = workload.model(settings.checkpointing)
    if settings.trained != "all":
        blocks = (workload.blocks or longest_list)(model)
        _freeze(model, blocks)
        if settings.trained == "lora":
            _adapt(model, blocks, settings.rank)
    if settings.weights != "fp32":
        model.to(WEIGHTS[settings.weights])
    if not settings.chunked:
        return model, workload.loss_sum
    if workload.chunked is None:
        raise ValueError(f"{workload.name} has no loss in chunks: leave chunked out")
    return model, workload.chunked


def _freeze(model: nn.Module, blocks: list[nn.Module]) -> None:
    """All but the head: what is neither in the blocks nor before them."""
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no list of layers to freeze: train all of it")
    body = getattr(model, getattr(model, "base_model_prefix", "") or "-", None)
    outputs = getattr(model, "get_output_embeddings", lambda: None)()
    frozen = model.modules() if body is None or outputs is not None else body.modules()
    for module in frozen:
        for p in module.parameters(recurse=False):
            p.requires_grad = False
    if outputs is not None:  # of a language model; LoRA leaves it frozen, as it is usual
        for p in outputs.parameters():
            p.requires_grad = True


def _adapt(model: nn.Module, blocks: Iterable[nn.Module], rank: int) -> None:
    """LoRA beside each linear layer of the blocks; a head of the language model's stays frozen."""
    outputs = getattr(model, "get_output_embeddings", lambda: None)()
    for p in outputs.parameters() if outputs is not None else ():
        p.requires_grad = False
    found = 0
    for block in blocks:
        for module in list(block.modules()):
            for name, layer in list(module.named_children()):
                if shape := _shape(layer):
                    setattr(module, name, LoRA(layer, *shape, rank))
                    found += 1
    if not found:
        raise ValueError(f"{type(model).__name__} has no linear layer that LoRA could adapt")


def _shape(layer: nn.Module) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer; Transformers has one of its own, for GPT-2."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if type(layer).__name__ == "Conv1D" and isinstance(layer.weight, Tensor):
        inputs, outputs = layer.weight.shape
        return inputs, outputs
    return None


def chunked_loss(model: nn.Module, batch: Batch) -> Tensor:
    """A causal language model's own mean loss, from the logits of an eighth of the tokens at a time.

    Each chunk's logits are made again in the backward pass, where they become gradients at once.
    """
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    hidden = model.base_model(**inputs)[0][:, :-1]  # type: ignore[operator]
    labels = batch["labels"][:, 1:]
    head = model.get_output_embeddings()  # type: ignore[operator]

    def of_chunk(part: Tensor, wanted: Tensor) -> Tensor:
        logits = head(part)
        return F.cross_entropy(
            logits.flatten(0, 1).float(), wanted.flatten(), reduction="sum", ignore_index=IGNORE_INDEX
        )

    losses = [
        run_again_later(of_chunk, part, wanted, use_reentrant=False)
        for part, wanted in zip(hidden.chunk(CHUNKS, 1), labels.chunk(CHUNKS, 1), strict=True)
    ]
    return torch.stack(losses).sum() / (labels != IGNORE_INDEX).sum()
