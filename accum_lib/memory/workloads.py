"""What is trained: a model, a batch for every M, and a loss. Known ones by name; any other by hand."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from accum_lib.accumulate import LossSum
from accum_lib.extras import need
from accum_lib.losses import classification_loss_sum
from accum_lib.words import _

Batch = Any


@dataclass(frozen=True)
class Workload:
    """Something whose update is to be predicted or measured.

    Attributes:
        name: in words.
        make_model: a new model in training mode, on whatever device is the default one.
        make_batch: ``make_batch(micro_batch_size)``, a batch on the CPU as the data loader gives it.
        loss_sum: as the core takes it.
        blocks: ``blocks(model)``, the parts that activation checkpointing recomputes one by one.
        known: tests have seen that its sizes are straight lines in M, so that two traces suffice.
        chunked: the same loss, from some tokens' logits at a time; None if there is no such thing.
        repeats: its layers run one after the other, as those of Transformers' models do.
        logits: of one example, tokens times vocabulary; 0 if that is not known.
    """

    name: str
    make_model: Callable[[], nn.Module]
    make_batch: Callable[[int], Batch]
    loss_sum: LossSum
    blocks: Callable[[nn.Module], list[nn.Module]] | None = None
    known: bool = False
    chunked: LossSum | None = None
    repeats: bool = False
    logits: int = 0

    def can_checkpoint(self) -> bool:
        """Whether there are blocks to recompute; no weights are made to find out."""
        with torch.device("meta"):
            return bool((self.blocks or longest_list)(self.make_model()))

    def model(self, checkpointing: bool) -> nn.Module:
        """A new model in training mode.

        Raises:
            ValueError: checkpointing is asked for and there is nothing to split the model into.
        """
        model = self.make_model().train()
        if checkpointing:
            checkpoint(model, (self.blocks or longest_list)(model))
        return model


def checkpoint(model: nn.Module, blocks: list[nn.Module]) -> None:
    """Let each block keep its inputs alone, and be run again in the backward pass.

    Raises:
        ValueError: there are no blocks.
    """
    from torch.utils.checkpoint import checkpoint as run_again_later

    if not blocks:
        raise ValueError(
            f"{type(model).__name__} has no list of layers whose activations could be recomputed: "
            "leave checkpointing out, or name its blocks, in Workload.blocks"
        )
    for block in blocks:
        block.forward = partial(run_again_later, block.forward, use_reentrant=False)


def longest_list(model: nn.Module) -> list[nn.Module]:
    """The entries of the model's longest ``ModuleList`` (several lists of one length count together)."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) > 1]
    longest = max((len(m) for m in lists), default=0)
    return [block for m in lists if len(m) == longest for block in m]


def of_model(
    model: nn.Module, make_batch: Callable[[int], Batch], loss_sum: LossSum, name: str | None = None
) -> Workload:
    """A workload of a model that exists. It is never changed: predictions use a twin of it on meta tensors,
    measurements a copy.

    Args:
        model, make_batch, loss_sum: as for ``Workload``, but the model itself.
        name: in words; None takes that of its class.
    """
    return Workload(name or type(model).__name__, partial(_twin_of, model), make_batch, loss_sum)


def _twin_of(model: nn.Module) -> nn.Module:
    """The same model on the default device; tensors that it keeps from a pass come without their graph."""
    here = torch.get_default_device()

    def twin(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        if id(tensor) not in memo:
            memo[id(tensor)] = _twin(tensor, here)
        return memo[id(tensor)]

    with (
        mock.patch.object(Tensor, "__deepcopy__", twin),
        mock.patch.object(nn.Parameter, "__deepcopy__", twin),
    ):
        try:
            return copy.deepcopy(model)
        except TypeError:  # a lock, a generator, an open file
            return copy.deepcopy(model, _not_copied(model))


def _not_copied(model: nn.Module) -> dict[int, Any]:
    """What cannot be copied, and a twin shares, by its id."""
    found = {}
    for module in model.modules():
        for name, value in vars(module).items():
            try:
                copy.deepcopy(value if name != "_modules" else None)
            except TypeError:
                found[id(value)] = value
    return found


def _twin(tensor: Tensor, device: torch.device) -> Tensor:
    """With its values, unless they would be on meta; a model that has none yet gets small random ones."""
    twin = torch.empty_like(tensor.detach(), device=device)
    if tensor.is_meta and not twin.is_meta:
        twin = twin.normal_(0, 0.02) if twin.is_floating_point() else twin.zero_()
    elif not twin.is_meta:
        twin.copy_(tensor.detach())
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(twin, tensor.requires_grad)
    return twin.requires_grad_(tensor.is_leaf and tensor.requires_grad)


# --- Models of Transformers, built from their configuration, with untrained weights

HEADS = {
    "classification": "AutoModelForSequenceClassification",
    "mlm": "AutoModelForMaskedLM",
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
T5_SMALL = {"vocab_size": 32128, "decoder_start_token_id": 0, "use_cache": False}

MODELS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "roberta-base": ("roberta", ("classification", "mlm", "causal"), ROBERTA),
    "roberta-large": ("roberta", ("classification", "mlm", "causal"), {**ROBERTA, **LARGE}),
    "distilbert": ("distilbert", ("classification", "mlm"), {}),
    "gpt2": ("gpt2", ("causal",), {}),
    "gpt2-medium": ("gpt2", ("causal",), {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "t5-small": ("t5", ("seq2seq",), T5_SMALL),
}
DROPOUTS = {
    "roberta": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "distilbert": ("dropout", "attention_dropout"),
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    "t5": ("dropout_rate",),
}
POSITIONS = {"roberta": 512, "distilbert": 512, "gpt2": 1024, "t5": 4096}  # tokens that each reads at most


def named(
    model: str = "roberta-base", head: str | None = None, tokens: int = 128, *, dropout: float = 0.1,
    padded: bool = False, **sizes: Any,
) -> Workload:  # fmt: skip
    """A model of Transformers by name.

    Args:
        model: see ``MODELS``.
        head: "classification", "mlm", "causal" or "seq2seq"; None takes the model's first.
        tokens: T, the length of every sequence.
        dropout: probability everywhere.
        padded: one sequence of each batch is shorter, so a mask goes through attention.
        sizes: other entries of the configuration, such as ``num_hidden_layers=2``.

    Raises:
        ValueError: there is no such model, it has no such head, or T is out of its range.
    """
    if model not in MODELS:
        raise ValueError(f"no model {model!r} is known; there are {', '.join(MODELS)}")
    need(f"the model {model}", "train", "transformers")
    family, heads, shape = MODELS[model]
    head = head or heads[0]
    if head not in heads:
        raise ValueError(
            _("{name} has no head {head!r}; it has {heads}", name=model, head=head, heads=", ".join(heads))
        )
    if not 2 <= tokens <= POSITIONS[family]:
        longest = POSITIONS[family]
        raise ValueError(
            _("{name} reads 2 to {longest} tokens; got {tokens}", name=model, longest=longest, tokens=tokens)
        )
    config = {**shape, **sizes, **dict.fromkeys(DROPOUTS[family], dropout)}
    vocabulary = config.get("vocab_size", 30522 if family == "distilbert" else 50257)
    return Workload(
        name=f"{model}, {head}, T = {tokens}",
        make_model=partial(_from_config, family, head, config),
        make_batch=partial(token_batch, head, tokens, vocabulary, padded),
        loss_sum=own_loss,
        known=True,
        repeats=True,
    )


def _from_config(family: str, head: str, config: dict[str, Any]) -> nn.Module:
    import transformers

    if family == "gpt2":
        config = {**config, "bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    made = transformers.AutoConfig.for_model(family, **config)
    return getattr(transformers, HEADS[head]).from_config(made)


def token_batch(head: str, tokens: int, vocabulary: int, padded: bool, micro_batch: int) -> Batch:
    """``input_ids`` and ``attention_mask`` (micro_batch, tokens); ``labels`` per sequence or per token."""
    ids = torch.full((micro_batch, tokens), min(5, vocabulary - 1))
    mask = torch.ones_like(ids)
    if padded:
        mask[0, tokens // 2 :] = 0
    labels = torch.zeros(micro_batch, dtype=torch.long) if head == "classification" else ids.clone()
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def own_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return model(**batch).loss


# --- Small models of PyTorch alone


def mlp_workload(hidden: int = 512, layers: int = 3, dropout: float = 0.1) -> Workload:
    """64 features, ``layers`` layers of ``hidden`` units with Tanh and ``dropout``, ten classes."""
    return Workload("MLP", partial(_mlp, hidden, layers, dropout), _features, classification_loss_sum)


def _mlp(hidden: int, layers: int, dropout: float) -> nn.Module:
    sizes = [64, *[hidden] * layers]
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [nn.Linear(before, after), nn.Tanh(), nn.Dropout(dropout)]
    return nn.Sequential(*parts, nn.Linear(hidden, 10))


def cnn_workload(channels: int = 16, pixels: int = 32) -> Workload:
    """Two convolutions with BatchNorm on colour images of ``pixels`` x ``pixels``, ten classes."""
    make_model, make_batch = partial(_cnn, channels, pixels), partial(_images, pixels)
    return Workload("CNN with BatchNorm", make_model, make_batch, classification_loss_sum)


def _cnn(channels: int, pixels: int) -> nn.Module:
    wide = 2 * channels
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, wide, 3, stride=2, padding=1), nn.BatchNorm2d(wide), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(wide * (pixels // 4) ** 2, 10),
    )  # fmt: skip


def encoder_workload(width: int = 128, layers: int = 3, tokens: int = 64, dropout: float = 0.1) -> Workload:
    """PyTorch's own ``nn.TransformerEncoder`` over tokens.

    Args:
        width: of the hidden state; the feed-forward layers have four times that.
        layers: how many.
        tokens: T, the length of every sequence.
        dropout: probability everywhere.
    """
    make_model = partial(_encoder, width, layers, dropout)
    return Workload("nn.TransformerEncoder", make_model, partial(_ids, tokens), classification_loss_sum)


def _encoder(width: int, layers: int, dropout: float) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout, batch_first=True)
    return Reader(nn.TransformerEncoder(layer, layers, enable_nested_tensor=False), width, width)


def lstm_workload(
    hidden: int = 128, layers: int = 2, tokens: int = 64, dropout: float = 0.1, bidirectional: bool = False
) -> Workload:
    """PyTorch's own ``nn.LSTM`` over tokens."""
    make_model = partial(_lstm, hidden, layers, dropout, bidirectional)
    return Workload("nn.LSTM", make_model, partial(_ids, tokens), classification_loss_sum)


def _lstm(hidden: int, layers: int, dropout: float, bidirectional: bool) -> nn.Module:
    between = dropout if layers > 1 else 0.0
    body = nn.LSTM(64, hidden, layers, batch_first=True, dropout=between, bidirectional=bidirectional)
    return Reader(body, 64, hidden * (1 + bidirectional))


class Reader(nn.Module):
    """Embed tokens, read them with ``body``, classify what it says of the last one."""

    def __init__(self, body: nn.Module, features: int, width: int) -> None:
        super().__init__()
        self.embed, self.body, self.classify = nn.Embedding(1000, features), body, nn.Linear(width, 10)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (micro_batch, tokens) to logits (micro_batch, 10)."""
        read = self.body(self.embed(ids))
        return self.classify((read[0] if isinstance(read, tuple) else read)[:, -1])


def _features(micro_batch: int) -> Batch:
    return _labelled(torch.zeros(micro_batch, 64))


def _images(pixels: int, micro_batch: int) -> Batch:
    return _labelled(torch.zeros(micro_batch, 3, pixels, pixels))


def _ids(tokens: int, micro_batch: int) -> Batch:
    return _labelled(torch.zeros(micro_batch, tokens, dtype=torch.long))


def _labelled(inputs: Tensor) -> tuple[Tensor, Tensor]:
    return inputs, torch.zeros(len(inputs), dtype=torch.long)
