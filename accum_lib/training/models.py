"""The model to train: a checkpoint from the hub or a folder, or an untrained RoBERTa from its configuration.

Checkpoints are read as safetensors only (a pickle can run code), and code that a repository brings along is
never run. An untrained model is labelled as such wherever its name is shown.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from accum_lib.memory.pretrained import check_classes
from accum_lib.training.data import TextData
from accum_lib.training.data.packaged import files_of
from accum_lib.training.data.tokenizer import load_tokenizer, train_tokenizer
from accum_lib.words import _, first_line

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
MAPPINGS = {
    "classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "mlm": "MODEL_FOR_MASKED_LM_MAPPING",
}
TINY_VOCABULARY = 2000
MOST_LAYERS, MOST_SIZE = 500, 2_000_000  # of a configuration: vocabularies are the largest numbers
SMALL_MODEL = 10_000_000  # parameters that do no harm


@dataclass(frozen=True)
class Loaded:
    """A model in training mode with its tokenizer.

    Attributes:
        model, tokenizer: of Transformers.
        name: in words; says so if the weights are untrained.
        trained: whether the weights come from a checkpoint.
        max_tokens: what the model reads at most.
        mapped: whether the weights stay on the disk until the first pass reads them. Safetensors maps the
            file, unless they are converted: it holds 16 bits, and the model 32.
    """

    model: nn.Module
    tokenizer: Any
    name: str
    trained: bool
    max_tokens: int
    mapped: bool = False

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.model.parameters())


def load_model(
    source: str | os.PathLike[str], task: str, data: TextData, dropout: float | None = None, seed: int = 0
) -> Loaded:
    """A model for the task, with its tokenizer.

    Args:
        source: "tiny", "base" or "large" (untrained RoBERTa, with a tokenizer trained on the data), "minilm"
            (all-MiniLM-L6-v2, fetched once), a folder that ``save_pretrained`` has written, or a name on the
            hub such as "FacebookAI/roberta-base".
        task: "classification" or "mlm".
        data: its labels make the classifier's classes; its training texts the tokenizer of untrained models.
        dropout: probability everywhere; None keeps the model's own (0.1 for RoBERTa).
        seed: draws the weights that do not come from a checkpoint.

    Raises:
        ValueError: the task is unknown, the data have no labels, or the checkpoint does not suit them.
        OSError: there is no such checkpoint, or it has no safetensors, or "minilm" cannot be fetched.
    """
    _check(task, data, dropout)
    name = os.fspath(source)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are left alone
        torch.manual_seed(seed)
        if name in SIZES:
            return _untrained(name, task, data, dropout)
        if name == "minilm":
            loaded = _from_checkpoint(os.fspath(files_of(name)), task, data, dropout)
            return replace(loaded, name="all-MiniLM-L6-v2")
        return _from_checkpoint(name, task, data, dropout)


def build(size: str, task: str, labels: tuple[str, ...], vocabulary: int, dropout: float | None) -> nn.Module:
    """An untrained RoBERTa on the default device; the published sizes keep their published vocabulary."""
    import transformers  # takes seconds

    shape: dict[str, Any] = {"vocab_size": vocabulary, **SIZES[size]}
    config = transformers.RobertaConfig(**shape, **_classes(task, labels))
    _set_dropout(config, dropout)
    made = getattr(transformers, CLASSES[task])
    return made.from_config(config).train()


def export(loaded: Loaded, folder: Path, card: str = "") -> Path:
    """Write model and tokenizer as ``from_pretrained`` reads them: whole, or not at all.

    An export from before makes room only when the new one is whole.

    Raises:
        OSError: the disk is full, or cannot be written to; an export from before is untouched.
    """
    from safetensors import SafetensorError

    for made_of in (loaded.model.config, loaded.tokenizer):
        _without_code(made_of)
    aside, before = (folder.with_name(f"{folder.name}-{state}") for state in ("unfinished", "before"))
    shutil.rmtree(aside, ignore_errors=True)  # a kill may have left one behind
    try:
        saved: Any = loaded.model
        saved.save_pretrained(aside)
        loaded.tokenizer.save_pretrained(aside)
        if card:
            (aside / "README.md").write_text(card, encoding="utf-8")
        usual = (aside / "config.json").stat().st_mode  # as the user's umask has it; safetensors has its own
        for file in aside.iterdir():
            file.chmod(usual)
        if folder.exists():
            shutil.rmtree(before, ignore_errors=True)
            folder.rename(before)
        aside.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise OSError(f"the model could not be written to {folder}: {error}") from error
    shutil.rmtree(before, ignore_errors=True)
    return folder


def _without_code(made_of: Any) -> None:
    """Forget the code that a checkpoint named for its loading: it was not run here, and is not passed on."""
    for names in (vars(made_of), getattr(made_of, "init_kwargs", {})):
        for name in ("auto_map", "custom_pipelines"):
            names.pop(name, None)


def _untrained(size: str, task: str, data: TextData, dropout: float | None) -> Loaded:
    longest = SIZES[size]["max_position_embeddings"] - 2  # RoBERTa's positions start at 2
    texts = [text for e in data.train for text in (e.text, e.pair) if text]
    tokenizer = train_tokenizer(texts, TINY_VOCABULARY, longest)
    model = build(size, task, data.labels, len(tokenizer), dropout)
    return Loaded(model, tokenizer, _("RoBERTa ({size}, untrained)", size=size), False, longest)


def _from_checkpoint(name: str, task: str, data: TextData, dropout: float | None) -> Loaded:
    import transformers

    with _in_words(name):
        _refuse_paths(name)
        config = _configuration(name)
    if type(config) not in getattr(transformers, MAPPINGS[task]):
        raise ValueError(
            f"{name} is of the family {config.model_type}, of which Transformers has no model for the "
            f"task {task}: take another checkpoint, or another --task"
        )
    with _in_words(name):
        _refuse_sizes(name, config.to_dict())
        _compare_sizes(name, getattr(transformers, CLASSES[task]), config)
        its_labels = [config.id2label[i] for i in sorted(config.id2label)]
    tokenizer = load_tokenizer(name)
    _share_padding(name, config, tokenizer)
    mapped = config.dtype in (None, torch.float32)
    for key, value in _classes(task, data.labels).items():
        setattr(config, key, value)
    _set_dropout(config, dropout)
    with _in_words(name):
        model, found = getattr(transformers, CLASSES[task]).from_pretrained(
            name, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True,
            ignore_mismatched_sizes=True, trust_remote_code=False,
        )  # fmt: skip
    _check_body(name, model, found, tokenizer)
    if task == "classification":
        _suit_head(name, model, found, its_labels, data.labels)
    elif _of_the_head(model, found["missing_keys"]):
        warnings.warn(f"{name} has no head that guesses tokens: a new one is trained", stacklevel=3)
    return Loaded(model.train(), tokenizer, name, True, _longest(model), mapped)


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    """Errors of the files, of Transformers and of PyTorch, as one sentence with the way out."""
    from safetensors import SafetensorError

    try:
        yield
    except MemoryError:
        raise
    except OSError as error:
        raise OSError(
            _(
                "no model at {name!r}: {why} Give a folder with config.json and model.safetensors, or a name "
                "on the hub; offline there are {sizes}, untrained",
                name=name,
                why=_sentence(error),
                sizes=", ".join(SIZES),
            )
        ) from error
    except SafetensorError as error:
        raise OSError(
            f"the weights at {name!r} are damaged ({error}): copy or download them again"
        ) from error
    except Exception as error:  # of many kinds, depending on which number of config.json is wrong
        raise OSError(
            f"the model at {name!r} cannot be made ({type(error).__name__}: {_sentence(error)}) Do its "
            "config.json and model.safetensors belong together?"
        ) from error


def _configuration(name: str) -> Any:
    """What config.json says.

    Raises:
        OSError: there is none, or it is damaged, or asks for code of its own.
    """
    import transformers

    try:
        check_classes(name)
        config: Any = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        if "/" in str(config._attn_implementation):  # code from the hub, which is compiled and not looked at
            config._attn_implementation = None
        return config
    except OSError:
        raise
    except Exception as error:  # of many kinds, depending on what is wrong with the file
        raise OSError(f"its config.json cannot be used: {_sentence(error)}") from error


def _share_padding(name: str, config: Any, tokenizer: Any) -> None:
    """Padding that the model does not know as such would be read as text, and shift positions.

    Raises:
        ValueError: they name two tokens.
    """
    its, ours = getattr(config, "pad_token_id", None), tokenizer.pad_token_id
    if its is None:
        warnings.warn(
            f"{os.path.join(name, 'config.json')} has no pad_token_id: {ours} is taken, with which the "
            "tokenizer pads",
            stacklevel=4,
        )
        config.pad_token_id = ours
    elif its != ours:
        raise ValueError(
            f"the tokenizer at {name} pads with token {ours}, and the model with {its}: they do not belong "
            f"together, or pad_token_id in {os.path.join(name, 'config.json')} should be {ours}"
        )


def _refuse_paths(name: str) -> None:
    """Weights in several files are listed in an index, which may name files of its own folder alone.

    Raises:
        OSError: it names others, or is damaged.
    """
    index = Path(name, "model.safetensors.index.json")
    if not index.is_file():
        return
    try:
        files = set(json.loads(index.read_text())["weight_map"].values())
        outside = [file for file in files if Path(file).name != file or file == ".."]
    except Exception as error:  # of many kinds, depending on what is wrong with the file
        raise OSError(f"{index} is damaged ({type(error).__name__}): copy or download it again") from error
    if outside:
        raise OSError(
            f"{index} names {outside[0]!r}, which is not in its folder: get the model from elsewhere"
        )


def _refuse_sizes(name: str, config: dict[str, Any]) -> None:
    """Numbers that no model has would take hours and fill the memory.

    Raises:
        OSError: names the number.
    """
    for key, value in config.items():
        if isinstance(value, dict):
            _refuse_sizes(name, value)
        elif type(value) is int and not key.endswith(("_id", "length")):
            most = MOST_LAYERS if "layer" in key else MOST_SIZE
            if abs(value) > most:
                raise OSError(f"its config.json says {key} = {value}, and no model has more than {most:,}.")


def _compare_sizes(name: str, of_task: Any, config: Any) -> None:
    """A model of other numbers than its weights have would be made in full before that is found out.

    Raises:
        OSError: it would be many times as large.
    """
    held = sum(file.stat().st_size for file in Path(name).glob("*.safetensors"))
    if not held:  # a name on the hub; or there are none, which is said elsewhere
        return
    with torch.device("meta"):
        described = sum(p.numel() for p in of_task.from_config(config).parameters())
    if described > SMALL_MODEL + 8 * held:  # with a byte or four for each number, and another head
        raise OSError(
            f"its config.json describes {described:,} numbers, and its weights have {held:,} bytes, so they "
            "do not belong together."
        )


def _check_body(name: str, model: Any, found: dict[str, Any], tokenizer: Any) -> None:
    """All but the head and the pooler, which a task may need and its checkpoint not have, must be there."""
    body = f"{model.base_model_prefix}."
    differ = [*(key for key, *_ in found["mismatched_keys"]), *found["missing_keys"]]
    other = [key for key in differ if key.startswith(body) and "pooler" not in key]
    alike = {_any_layer(key) for key in model.state_dict()}
    other += [
        key for key in found["unexpected_keys"] if alike & {_any_layer(key), _any_layer(body + key)}
    ]  # layers more than the model has; without the prefix if the checkpoint is of the body alone
    if other:
        raise ValueError(
            f"{len(other)} weights of {type(model).__name__} are not in the checkpoint {name}, or are there "
            f"without being in the model, or have another shape, such as {other[0]}: its config.json and "
            "model.safetensors do not belong together"
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ValueError(
            f"the tokenizer at {name} has {len(tokenizer)} tokens, and the model embeds {rows}: "
            "they do not belong together"
        )


def _any_layer(key: str) -> str:
    """A weight's name without the number of its layer."""
    return re.sub(r"\.\d+\.", ".*.", key)


def _of_the_head(model: Any, keys: Iterable[str]) -> list[str]:
    return [key for key in keys if not key.startswith(f"{model.base_model_prefix}.")]


def _suit_head(
    name: str, model: Any, found: dict[str, Any], its_labels: list[str], labels: tuple[str, ...]
) -> None:
    """A last layer of another size is initialized again; one for the same labels is put in their order.

    One of the same size for other labels is trained on, as Transformers does without saying so.
    """
    its, ours = ([label.casefold() for label in given] for given in (its_labels, labels))
    if its == ours or _of_the_head(model, found["missing_keys"]):
        return  # it fits, or the checkpoint has no classifier
    what = f"{name} classifies into {', '.join(its_labels)}, and the data into {', '.join(labels)}: "
    same = sorted(its) == sorted(ours) and len(set(ours)) == len(ours)
    if found["mismatched_keys"]:
        warnings.warn(
            f"{what}its classifier's last layer is not used, and a new one is trained", stacklevel=4
        )
    elif same:
        _reorder(model, [its.index(label) for label in ours])
    elif its != [f"label_{i}" for i in range(len(its))]:  # the default names
        warnings.warn(f"{what}its classifier is trained on, with the classes in this order", stacklevel=4)


def _reorder(model: Any, rows: list[int]) -> None:
    """The classes of the head's last layer, of which there may be as many as a hidden layer has outputs."""
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == len(rows)
    }
    last = layers[_of_the_head(model, layers)[-1]]
    for p in last.parameters():
        p.data = p.data[rows]


def _longest(model: Any) -> int:
    """The tokens that it reads at most. RoBERTa and its kin count positions from after the padding's."""
    for key, table in model.named_modules():
        if key.endswith(".position_embeddings") and getattr(table, "padding_idx", None) is not None:
            return table.num_embeddings - table.padding_idx - 1
    return getattr(model.config, "max_position_embeddings", 512)


def _classes(task: str, labels: tuple[str, ...]) -> dict[str, Any]:
    if task != "classification":
        return {}
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        # A checkpoint may come from a regression; loading the result would silently change the task.
        "problem_type": "single_label_classification",
    }


def _set_dropout(config: Any, dropout: float | None) -> None:
    """Wherever the configuration has one; families name it differently, but for this word."""
    if dropout is None:
        return
    for name, value in config.to_dict().items():
        if ("dropout" in name or name.endswith("pdrop")) and (
            value is None or isinstance(value, int | float)
        ):
            setattr(config, name, dropout)


def _check(task: str, data: TextData, dropout: float | None) -> None:
    if task not in CLASSES:
        raise ValueError(f"task must be one of {', '.join(CLASSES)}; got {task!r}")
    if task == "classification" and len(data.labels) < 2:
        raise ValueError(f"{data.name} has {len(data.labels)} labels; to classify takes two. Try --task mlm")
    if dropout is not None and not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability below 1; got {dropout}")


def _sentence(error: Exception) -> str:
    line = first_line(error)
    return line if line.endswith(".") else f"{line}."
