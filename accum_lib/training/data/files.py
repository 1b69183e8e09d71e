"""The reader's own data: a CSV, TSV, JSONL or Parquet file with a text, and perhaps a pair and a label.

Everything that can be wrong in such a file is reported with its name, the row, and what to do about it. Rows
are counted as an editor or ``head`` counts them: the line of the file where the row begins, for Parquet
the row's number from 1 on.
"""

import os
import random
import re
import reprlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accum_lib.training.data import Example, TextData
from accum_lib.training.data.rows import Row, Table, read_table

MISSING = ("nan", "<na>")  # how pandas writes out a missing label; "none" or "null" may be a class


@dataclass(frozen=True)
class Columns:
    """Which columns hold what. ``pair`` and ``label`` may be absent, unless another name is given."""

    text: str = "text"
    pair: str = "pair"
    label: str = "label"


def load_file(
    path: str | os.PathLike[str],
    held_out: str | os.PathLike[str] | None = None,
    columns: Columns | None = None,
    held_out_fraction: float = 0.2,
    seed: int = 0,
    labelled: bool | None = None,
) -> TextData:
    """Load the reader's file, and a second one to measure on, or else a part of the first.

    Without a ``held_out`` file the split is stratified (of each class about the same fraction of its texts is
    held out) and rows with the same text stay together, whatever their pairs are: no text is in both parts.
    A pair may be, since one question may belong to all texts: what must not be shared goes into the text
    column. The split depends on the rows and the seed alone.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file (UTF-8; the first line of a CSV names the columns, between
            commas or semicolons).
        held_out: another such file.
        columns: the names of the columns, if they are not text, pair and label.
        held_out_fraction: of each class, when one file is split.
        seed: draws the split.
        labelled: True demands a label column, False ignores it (masked language modelling); None takes
            labels where there are any.

    Raises:
        ValueError: the contents are malformed, or cannot be split; names the file, the row and the fix.
        FileNotFoundError, IsADirectoryError: there is no such file.
    """
    columns = columns or Columns()
    if not 0 < held_out_fraction < 1:
        raise ValueError(f"held_out_fraction must be between 0 and 1; got {held_out_fraction}")
    _check_roles(columns, labelled)
    table = read_table(path)
    label_column = _label_column(table, columns, labelled)
    labels = _label_names(table, label_column)
    examples = _examples(table, columns, label_column, labels)
    if held_out is None:
        train, rest = _split(examples, held_out_fraction, seed, table.file)
    else:
        train, rest = examples, _examples(read_table(held_out), columns, label_column, labels)
        _check_pairs(train, rest, table.file, os.fspath(held_out), columns.pair)
        _warn_of_overlap(train, rest, os.fspath(held_out))
    return TextData(Path(path).name, tuple(train), tuple(rest), labels)


def _label_column(table: Table, columns: Columns, labelled: bool | None) -> str | None:
    if labelled is False:
        return None
    demanded = labelled or columns.label != Columns.label
    return table.demand(columns.label) if demanded or columns.label in table.columns else None


def _pair_column(table: Table, columns: Columns) -> str | None:
    """The one that is asked for; else the one of the usual name, if it is there and not all empty."""
    if columns.pair != Columns.pair:
        return table.demand(columns.pair)
    there = any(not _is_empty(row.values.get(columns.pair)) for row in table.rows)
    return columns.pair if there else None


def _label_names(table: Table, column: str | None) -> tuple[str, ...]:
    """The classes: numbers in their order, else words in theirs."""
    if column is None:
        return ()
    names = {_label(row, column) for row in table.rows}
    if len(names) < 2:
        raise ValueError(
            f"{table.file}: every row has the label {names.pop()!r}: a classifier needs two classes or more. "
            "Was the file cut, or is another column the label?"
        )
    by_number = all(re.fullmatch(r"-?\d{1,99}", name) for name in names)  # int() refuses thousands of digits
    return tuple(sorted(names, key=lambda name: (int(name) if by_number else 0, name)))


def _label(row: Row, column: str) -> str:
    value = row.values[column]
    if value is None or value != value or str(value).strip() == "" or str(value).lower() in MISSING:
        raise row.error(
            f"the label in column {column!r} is missing ({value!r}): fill it in, remove the row, or train "
            "without labels (--task mlm, or labelled=False in code)"
        )
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise row.error(
            f"the label must be a word or a whole number; got {reprlib.repr(value)} "
            f"({type(value).__name__}). Write it as text"
        )
    return str(value).strip()


def _examples(
    table: Table, columns: Columns, label_column: str | None, labels: Sequence[str]
) -> list[Example]:
    text_column = table.demand(columns.text)
    pair_column = _pair_column(table, columns)
    if label_column:
        table.demand(label_column)
    index = {name: i for i, name in enumerate(labels)}
    return [
        Example(
            _text(row, text_column),
            _text(row, pair_column) if pair_column else None,
            _index(row, label_column, index) if label_column else None,
        )
        for row in table.rows
    ]


def _check_roles(columns: Columns, labelled: bool | None) -> None:
    """A label among the inputs would be learned at once, and the accuracy would look too good."""
    roles = [columns.text, columns.pair] + ([columns.label] if labelled is not False else [])
    twice = [name for name, times in Counter(roles).items() if times > 1]
    if twice:
        raise ValueError(
            f"column {twice[0]!r} is given two of the roles text, pair and label: name another one"
        )


def _check_pairs(train: list[Example], held_out: list[Example], file: str, other: str, column: str) -> None:
    """Pairs in one file alone would make two different tasks."""
    if (train[0].pair is None) != (held_out[0].pair is None):
        with_pairs, without = (other, file) if train[0].pair is None else (file, other)
        raise ValueError(
            f"{with_pairs} has a column {column!r}, and {without} has none: both need it, or neither"
        )


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(row: Row, column: str) -> str:
    value = row.values[column]
    if _is_empty(value):
        raise row.error(f"the text in column {column!r} is empty: fill it in, or remove the row")
    if not isinstance(value, str):
        raise row.error(
            f"column {column!r} must hold text; got {reprlib.repr(value)} ({type(value).__name__}). "
            "Is another column the text?"
        )
    return value


def _index(row: Row, column: str, index: dict[str, int]) -> int:
    name = _label(row, column)
    if name not in index:
        known = ", ".join(list(index)[:10])
        raise row.error(
            f"the label {name!r} does not occur in the training file, which has {known}: correct it, or add "
            "training examples of it"
        )
    return index[name]


def _split(
    examples: list[Example], fraction: float, seed: int, file: str
) -> tuple[list[Example], list[Example]]:
    """Draw ``fraction`` of each class's distinct texts, at least one of two (of one, none).

    A text with several labels, as a premise has in NLI, counts for the one that is rarest in the file.
    """
    rows = Counter(example.label for example in examples)
    rarest: dict[str, int | None] = {}
    for e in examples:
        if e.text not in rarest or rows[e.label] < rows[rarest[e.text]]:
            rarest[e.text] = e.label
    strata: dict[int | None, list[str]] = defaultdict(list)
    for text, label in rarest.items():
        strata[label].append(text)
    draw, held = random.Random(seed), set[str]()
    for texts in strata.values():
        size = min(len(texts) - 1, max(1, round(fraction * len(texts))))
        held.update(draw.sample(texts, size))
    train = [e for e in examples if e.text not in held]
    if not held or {e.label for e in train} != set(rows):
        classes = "" if set(rows) == {None} else f" of {len(rows)} classes"
        raise ValueError(
            f"{file}: its {len(examples)} rows{classes} can't be split: rows with the same text stay "
            "together, and each class needs two different texts or so. Add rows, or give a held-out file of "
            "its own; or is another column the label?"
        )
    return train, [e for e in examples if e.text in held]


def _warn_of_overlap(train: list[Example], held_out: list[Example], file: str) -> None:
    """Texts alone are compared, as where one file is split."""
    known = {example.text for example in train}
    shared = sum(example.text in known for example in held_out)
    if shared:
        warnings.warn(
            f"{file}: {shared} of {len(held_out)} held-out texts are in the training file too, so the "
            "accuracy on them says little: remove them from one of the two",
            stacklevel=3,
        )
