"""Text to fine-tune on: what it is once loaded, and the one function that loads it from anywhere."""

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Example:
    """One text, its partner in a pair task (or None), and its label as an index into the labels."""

    text: str
    pair: str | None = None
    label: int | None = None


@dataclass(frozen=True)
class TextData:
    """A data set in two parts.

    They share no text, unless both were given: two files (a warning says so), or GLUE's own parts.

    Attributes:
        name: where it comes from, in words.
        train: the examples to learn from.
        held_out: the examples to measure on.
        labels: the class names; empty if there are none (masked language modelling).
    """

    name: str
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    labels: tuple[str, ...]


def is_file(source: str | os.PathLike[str]) -> bool:
    """Whether ``load_data`` reads a file for this source."""
    name = os.fspath(source)
    return name != "docstrings" and not name.startswith("glue:")


def load_data(source: str | os.PathLike[str] = "docstrings", **settings: Any) -> TextData:
    """Load a data set by its name or path.

    Args:
        source: "docstrings" (real text that ships with what is installed, no network), "glue:<task>"
            such as "glue:sst2" (through the ``datasets`` package), or a path to a CSV, TSV, JSONL or
            Parquet file.
        **settings: passed on to ``load_docstrings``, ``load_glue`` or ``load_file``.

    Raises:
        ValueError: the source is none of these, or its contents are malformed.
        FileNotFoundError, IsADirectoryError: the path leads to no file.
        ConnectionError: a hub data set can be reached neither on the network nor in the local cache.
    """
    name = os.fspath(source)
    if name == "docstrings":
        from accum_lib.roberta.docstrings import load_docstrings

        return load_docstrings(**settings)
    if name.startswith("glue:"):
        from accum_lib.roberta.glue import load_glue

        return load_glue(name.removeprefix("glue:"), **settings)
    from accum_lib.roberta.files import load_file

    if not os.path.exists(name) and not os.path.splitext(name)[1]:
        raise ValueError(
            f"no data source {name!r}: give 'docstrings', 'glue:<task>' such as 'glue:sst2', or the path "
            "of a .csv, .tsv, .jsonl or .parquet file"
        )
    return load_file(name, **settings)
