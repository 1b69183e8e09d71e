"""The reader's own data: a CSV, TSV, JSONL or Parquet file with a text, and perhaps a pair and a label.

Everything that can be wrong in such a file is reported with its name, the row, and what to do about it. Rows
are counted as an editor or ``head`` counts them: the line of the file where the row begins, for Parquet
the row's number from 1 on.
"""

import os
import random
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from accum_lib.training.data import Example, TextData
from accum_lib.training.data.rows import Row, Table, read_table, short
from accum_lib.words import _

MISSING = ("", "nan", "-nan", "<na>", "nat")  # how pandas writes out what is missing
PLACEHOLDERS = (
    "-1", "-100", "-99", "-999", "-9999", "n/a", "#n/a", "na", "#na", "none", "null", "nil", "missing",
    "undefined", "unlabeled", "unlabelled", "?", "-", "--", "inf", "-inf", "infinity", "-infinity",
    "#ref!", "#value!", "#name?", "#div/0!", "#num!", "#null!",  # a spreadsheet's errors
)  # what is written where there is no label; in some files the name of a class  # fmt: skip
NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
INVISIBLE = "\u200b\u2060\ufeff"  # spaces of no width: zero width space, word joiner, byte-order mark
FEW_CLASSES = 10  # fewer are no sign of a column of identifiers
LISTED = "--labels={listed}, or labels=... in code"


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
    labels: Sequence[str] | None = None,
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
        labels: the classes, as they are spelled in the file. Without them, what is not likely to be a class
            is refused: scores, identifiers, and placeholders such as -1 or None.

    Raises:
        ValueError: the contents are malformed, or cannot be split; names the file, the row and the fix.
        FileNotFoundError, IsADirectoryError: there is no such file.
    """
    columns = columns or Columns()
    if isinstance(labels, str):
        raise TypeError(
            f"labels must be a list of names, such as {labels.split(',')}; got the text {labels!r}"
        )
    labels = None if labels is None else [str(name) for name in labels]
    if not 0 < held_out_fraction < 1:
        raise ValueError(f"held_out_fraction must be between 0 and 1; got {held_out_fraction}")
    _check_roles(columns, labelled)
    table = read_table(path)
    label_column = _label_column(table, columns, labelled)
    names = _Names(labels)
    known = _label_names(table, label_column, names)
    examples = _examples(table, columns, label_column, names, known)
    if held_out is None:
        train, rest = _split(examples, held_out_fraction, seed, table.file)
    else:
        train, rest = examples, _examples(read_table(held_out), columns, label_column, names, known)
        _check_pairs(train, rest, table.file, os.fspath(held_out), columns.pair)
        _warn_of_overlap(train, rest, os.fspath(held_out))
    return TextData(Path(path).name, tuple(train), tuple(rest), known)


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


@dataclass(frozen=True)
class _Names:
    """How a label's value becomes the name of its class: alike in every format, for all are taken as text.

    Attributes:
        listed: the classes, if the reader has listed them. Then nothing else is one, and these are taken as
            they are spelled.
    """

    listed: Sequence[str] | None = None

    def of(self, row: Row, column: str) -> str:
        """The name: 1, 1.0, +1 and "1" are one class, and so are True, TRUE and true.

        Raises:
            ValueError: the label is missing, a placeholder, or a score.
        """
        value = row.values[column]
        if isinstance(value, list | dict | bytes):
            raise row.error(
                f"the label must be a word or a whole number; got {short(value)} "
                f"({type(value).__name__}). Write it as text"
            )
        text = "" if value is None else _tidy(str(value)).replace("\N{MINUS SIGN}", "-")
        if text.lower() in MISSING:
            raise row.error(
                f"the label in column {short(column)} is missing ({short(value)}): fill it in, remove the "
                "row, or train without labels (--task mlm, or labelled=False in code)"
            )
        if self.listed is None:
            return _checked(row, column, text)
        if text in self.listed:
            return text
        return next((name for name in self.listed if _plain(name) == _plain(text)), text)


def _tidy(text: str) -> str:
    """As it looks: one space for each gap, none around, and each character composed (é is one)."""
    return unicodedata.normalize("NFC", " ".join(text.split()).strip(INVISIBLE + " "))


def _plain(text: str) -> str:
    """One spelling for a truth value and for a whole number; anything else as it looks."""
    text = _tidy(text)
    if text.lower() in ("true", "false"):
        return text.lower()
    name, text = text, _in_ascii_digits(text)
    if not NUMBER.fullmatch(text):
        return name
    if "," in text or re.match(r"[+-]?0\d", text):  # 007 is a code
        return text
    if re.fullmatch(r"\+?\d+", text):
        return text.lstrip("+")
    number = Decimal(text)
    # A number of a billion digits takes a few characters: 1e999999999.
    whole = number.is_zero() or (number.adjusted() < 30 and number == number.to_integral_value())
    return str(int(number)) if whole else text


def _in_ascii_digits(text: str) -> str:
    """Full-width digits, as Chinese keyboards write them, and those of other scripts."""
    return "".join(str(unicodedata.decimal(c, c)) for c in unicodedata.normalize("NFKC", text))


def _checked(row: Row, column: str, text: str) -> str:
    """The name of the class, if the label is not likely to be something else."""
    name = _plain(text)
    if name.lower() in PLACEHOLDERS or text.lower() in PLACEHOLDERS:
        raise row.error(
            f"the label {short(text)} in column {short(column)} is a usual placeholder where there is no "
            f"label: remove such rows, or, if it is a class, list all classes "
            f"({LISTED.format(listed=f'{name[:80]},...')})"
        )
    if NUMBER.fullmatch(name) and not re.fullmatch(r"-?\d+", name):
        raise row.error(
            f"the label {short(text)} in column {short(column)} is a score and no class: for a classifier, "
            "0.5 is no nearer to 0.6 than to 5. Make classes of the scores (words or whole numbers), or list "
            f"all classes ({LISTED.format(listed='...')})"
        )
    return name


def _label_names(table: Table, column: str | None, names: _Names) -> tuple[str, ...]:
    """The classes: as they were listed, else numbers in their order, else words in theirs."""
    if column is None:
        return ()
    first: dict[str, Row] = {}
    for row in table.rows:
        first.setdefault(names.of(row, column), row)
    if names.listed is not None:
        _check_listed(table, column, names.listed, first)
        return tuple(names.listed)
    if len(first) < 2:
        raise ValueError(
            _(
                "{file}: every row has the label {label}: a classifier needs two classes or more. Was the "
                "file cut, or is another column the label?",
                file=table.file,
                label=short(next(iter(first))),
            )
        )
    if len(first) > max(FEW_CLASSES, len(table.rows) / 2):
        raise ValueError(
            f"{table.file}: column {short(column)} has {len(first)} different labels in {len(table.rows)} "
            "rows, as scores and identifiers have, and classes do not: is another column the label? If they "
            f"are classes, list them ({LISTED.format(listed='...')})"
        )
    _check_spelling(first, column)
    by_number = all(re.fullmatch(r"-?\d{1,99}", name) for name in first)  # int() refuses thousands of digits
    return tuple(sorted(first, key=lambda name: (int(name) if by_number else 0, name)))


def _check_listed(table: Table, column: str, listed: Sequence[str], first: dict[str, Row]) -> None:
    if len(set(listed)) != len(listed) or len(listed) < 2:
        raise ValueError(
            _(
                "the list of labels must name two classes or more, each once; got {labels!r}",
                labels=", ".join(listed),
            )
        )
    for name, row in first.items():
        if name not in listed:
            raise row.error(
                f"the label {short(name)} in column {short(column)} is not in the list: add it, or remove "
                "the row"
            )
    if unused := [name for name in listed if name not in first]:
        raise ValueError(
            f"{table.file}: no row has the label {short(unused[0])} of the list: is it spelled so there?"
        )


def _check_spelling(first: dict[str, Row], column: str) -> None:
    """One number written as 01 and as 1 may be two classes or one, and so may true and 1."""
    for true, number in (("true", "1"), ("false", "0")):
        if true in first and number in first:
            raise first[true].error(
                f"the label {short(true)} in column {short(column)} is a truth value, and others are "
                f"{short(number)}: write all in one way"
            )
    numbers: dict[str, str] = {}
    for name in first:
        if re.fullmatch(r"-?\d+", name):
            number = re.sub(r"^(-?)0+(?=\d)", r"\1", name)
            if (other := numbers.setdefault(number, name)) != name:
                raise first[name].error(
                    f"the label {short(name)} in column {short(column)} is {short(other)} elsewhere: write "
                    "one number in one way"
                )


def _examples(
    table: Table, columns: Columns, label_column: str | None, names: _Names, known: Sequence[str]
) -> list[Example]:
    text_column = table.demand(columns.text)
    _check_text(table, text_column)
    pair_column = _pair_column(table, columns)
    if label_column:
        table.demand(label_column)
    index = {name: i for i, name in enumerate(known)}
    return [
        Example(
            _text(row, text_column),
            _text(row, pair_column) if pair_column else None,
            _index(row, names.of(row, label_column), index) if label_column else None,
        )
        for row in table.rows
    ]


def _check_roles(columns: Columns, labelled: bool | None) -> None:
    """A label among the inputs would be learned at once, and the accuracy would look too good."""
    roles = [columns.text, columns.pair] + ([columns.label] if labelled is not False else [])
    twice = [name for name, times in Counter(roles).items() if times > 1]
    if twice:
        raise ValueError(
            f"column {short(twice[0])} is given two of the roles text, pair and label: name another one"
        )


def _check_pairs(train: list[Example], held_out: list[Example], file: str, other: str, column: str) -> None:
    """Pairs in one file alone would make two different tasks."""
    if (train[0].pair is None) != (held_out[0].pair is None):
        with_pairs, without = (other, file) if train[0].pair is None else (file, other)
        raise ValueError(
            f"{with_pairs} has a column {short(column)}, and {without} has none: both need it, or neither"
        )


def _is_empty(value: object) -> bool:
    return value is None or _tidy(str(value)).lower() in MISSING


def _text(row: Row, column: str) -> str:
    value = row.values[column]
    if _is_empty(value):
        raise row.error(f"the text in column {short(column)} is empty: fill it in, or remove the row")
    if isinstance(value, list | dict | bytes):
        raise row.error(
            f"column {short(column)} must hold text; got {short(value)} ({type(value).__name__}). "
            "Is another column the text?"
        )
    return str(value)


def _check_text(table: Table, column: str) -> None:
    """Numbers alone are another column's, in a format that knows numbers and in one that does not."""
    if all(NUMBER.fullmatch(str(row.values[column]).strip()) for row in table.rows):
        raise table.rows[0].error(
            f"column {short(column)} must hold text; got {short(table.rows[0].values[column])}, and "
            "numbers in all other rows. Is another column the text?"
        )


def _index(row: Row, name: str, index: dict[str, int]) -> int:
    if name not in index:
        known = ", ".join(name[:80] for name in list(index)[:10])
        raise row.error(
            f"the label {short(name)} does not occur in the training file, which has {known}: correct it, "
            "or add training examples of it"
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
