"""Models of Transformers, from a configuration alone: a folder, a config.json, or a name on the hub.

Nothing but the configuration is read, no code of a repository's own is run, and no weights are made.
"""

import copy
import os
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from accum_lib.extras import need
from accum_lib.memory.tuning import chunked_loss
from accum_lib.memory.workloads import HEADS, MODELS, Batch, Workload, named, own_loss, token_batch
from accum_lib.words import _, first_line

MAPPINGS = {
    "classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "mlm": "MODEL_FOR_MASKED_LM_MAPPING",
    "causal": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "seq2seq": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
}
SCALES = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
MOST = {  # of what makes a model: more takes hours to build, if it is no slip of the hand
    "num_hidden_layers": 1000, "hidden_size": 10**6, "intermediate_size": 10**7, "vocab_size": 10**8,
    "num_attention_heads": 10**4, "num_key_value_heads": 10**4,
}  # fmt: skip
MOST_CLASSES = 100_000  # Transformers writes out a name for each before anybody can look
READS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")


def described(model: str, head: str | None = None, tokens: int = 128) -> Workload:
    """A model by one of ``workloads.MODELS``' names, or by its configuration.

    Args:
        model: a name, a folder with a config.json, that file, or a name on the hub.
        head: see ``of_config``.
        tokens: T, the length of every sequence.

    Raises:
        ValueError: there is no such model, or it has no such head, or T is out of its range.
    """
    if model in MODELS:
        return named(model, head, tokens)
    need(f"the model {model}", "train", "transformers")
    return of_config(
        _configuration(model), head, tokens, Path(model).parent.name if _is_file(model) else model
    )


def of_config(config: Any, head: str | None = None, tokens: int = 128, name: str | None = None) -> Workload:
    """A model of Transformers from its configuration, which stays as it is.

    Args:
        config: of any family that has one of the heads.
        head: "classification", "mlm", "causal" or "seq2seq"; None takes seq2seq for encoder-decoders,
            classification for encoders, causal for decoders.
        tokens: T, the length of every sequence.
        name: of the model, in words.
    """
    import transformers

    name = name or config.model_type
    heads = [h for h in HEADS if type(config) in getattr(transformers, MAPPINGS[h])]
    text = config.get_text_config(decoder=True)
    if not heads or not hasattr(text, "vocab_size"):
        raise ValueError(
            f"{name} is of the family {config.model_type}, of which Transformers has no model that "
            "classifies texts or writes them: give a function that returns a Workload, as MODULE:FUNCTION"
        )
    head = head or _usual(config, heads)
    if head not in heads:
        raise ValueError(
            _("{name} has no head {head!r}; it has {heads}", name=name, head=head, heads=", ".join(heads))
        )
    _check_sizes(name, text)
    if getattr(config, "quantization_config", None):
        raise ValueError(
            f"{name} has quantized weights, of which nothing is predicted here: give the configuration of "
            "the model that they were made from, which has no quantization_config"
        )
    longest = next((n for n in (getattr(text, key, None) for key in READS) if type(n) is int and n > 1), None)
    if tokens < 2 or tokens > (longest or tokens):
        raise ValueError(
            _("{name} reads 2 to {longest} tokens; got {tokens}", name=name, longest=longest, tokens=tokens)
            if longest
            else _("{name} reads 2 tokens or more; got {tokens}", name=name, tokens=tokens)
        )
    return Workload(
        name=f"{name}, {head}, T = {tokens}",
        make_model=partial(_made, copy.deepcopy(config), head),
        make_batch=partial(_batch, head, tokens, text.vocab_size),
        loss_sum=own_loss,
        repeats=True,
        chunked=chunked_loss if head == "causal" and not _scales_logits(text) else None,
        logits=0 if head == "classification" else tokens * text.vocab_size,
    )


def _check_sizes(name: str, text: Any) -> None:
    for key, most in MOST.items():
        size = getattr(text, key, None)
        if type(size) is int and not 1 <= size <= most:
            raise ValueError(f"{name}: the configuration's {key} must be from 1 to {most:,}; got {size:,}")


def _scales_logits(text: Any) -> bool:
    """Some models change their logits once more: those have no loss in chunks here."""
    return any(getattr(text, key, None) for key in SCALES)


def _usual(config: Any, heads: list[str]) -> str:
    if config.is_encoder_decoder and "seq2seq" in heads:
        return "seq2seq"
    encoder = "mlm" in heads or "causal" not in heads
    order = ("classification", "mlm", "causal") if encoder else ("causal", "classification")
    return next((h for h in order if h in heads), heads[0])


def _made(config: Any, head: str) -> nn.Module:
    """On the default device. Each model gets a configuration of its own: some write into it."""
    import transformers

    config = copy.deepcopy(config)
    for part in (config, config.get_text_config(decoder=True)):
        part.use_cache = False
        if getattr(part, "pad_token_id", None) is None or part.pad_token_id >= part.vocab_size:
            part.pad_token_id = 0
    return getattr(transformers, HEADS[head]).from_config(config)


def _batch(head: str, tokens: int, vocabulary: int, micro_batch: int) -> Batch:
    return token_batch(head, tokens, vocabulary, False, micro_batch)


def _is_file(model: str) -> bool:
    return model.endswith(".json")


def _configuration(model: str) -> Any:
    """What config.json says; of a name on the hub it alone is downloaded.

    Raises:
        ValueError: there is none, or it is of a family that Transformers does not have.
    """
    import transformers

    where, local = model, _is_file(model) or os.path.isdir(model)
    if not local and "/" not in model:  # a slip of the hand would be asked for on the hub, again and again
        raise ValueError(
            _(
                "no model {model!r} is known; there are {models}, a folder with a config.json, that file, or "
                "OWNER/NAME on the hub",
                model=model,
                models=", ".join(MODELS),
            )
        )
    if local:
        file = Path(model) if _is_file(model) else Path(model, "config.json")
        if not file.is_file():
            raise ValueError(f"there is no file {file}: give a folder that has one, or a name on the hub")
        where = str(file)
    try:
        check_classes(where)
        config: Any = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # of many kinds, depending on what is wrong with the file or the network
        raise ValueError(
            f"no configuration of {model!r} can be read ({first_line(error)}): give {', '.join(MODELS)}, a "
            "folder with a config.json, that file, or a name on the hub"
        ) from error
    return config


def check_classes(where: str) -> None:
    """Refuse a configuration whose number of classes alone would fill the memory.

    Args:
        where: as Transformers takes it.

    Raises:
        ValueError: its num_labels, or that of one of its parts, is too large.
    """
    import transformers

    found = transformers.PreTrainedConfig.get_config_dict(where)[0]
    for part in (found, *(each for each in found.values() if isinstance(each, dict))):
        number = part.get("num_labels")
        if isinstance(number, int) and number > MOST_CLASSES:
            raise ValueError(f"num_labels must be {MOST_CLASSES:,} at most; got {number:,}")
