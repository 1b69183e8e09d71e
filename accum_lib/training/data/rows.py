"""Rows of a CSV, TSV, JSONL or Parquet file, each with the place that an error message will name."""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_FIELD = 2**31 - 1  # characters; the most that csv takes on every system
LONE_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)  # perhaps: two of them can be one character


@dataclass(frozen=True)
class Row:
    """One row: its values by column, and its place, such as ``data.csv, line 7``."""

    place: str
    values: dict[str, Any]

    def error(self, problem: str) -> ValueError:
        return ValueError(f"{self.place}: {problem}")


@dataclass(frozen=True)
class Table:
    """A file's rows (one or more), all with the same columns."""

    file: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def demand(self, column: str) -> str:
        """The column's name, or an error that lists the columns there are."""
        if column in self.columns:
            return column
        hint = ""
        if len(self.columns) == 1 and any(mark in self.columns[0] for mark in ";\t|"):
            hint = ". Are the columns separated by something else than the file's ending says?"
        raise ValueError(
            f"{self.file}: no column {column!r}; it has {', '.join(map(repr, self.columns))}. Rename one, or "
            f"say which to use: --text-column, --label-column, --pair-column, or Columns(...) in code{hint}"
        )


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a whole file by its ending: .csv, .tsv, .jsonl (or .ndjson), .parquet.

    Raises:
        ValueError: the ending is unknown or the contents are malformed; names the file and the row.
        FileNotFoundError, IsADirectoryError: there is no such file.
    """
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a directory: give the path of one file in it")
    if not file.exists():
        raise FileNotFoundError(f"no file {file}: is the path right, seen from {Path.cwd()}?")
    if file.suffix.lower() not in READERS:
        raise ValueError(f"{file}: unknown ending {file.suffix!r}: it must be one of {', '.join(READERS)}")
    if file.stat().st_size == 0:
        raise ValueError(f"{file}: the file is empty: was it written to the end?")
    table = READERS[file.suffix.lower()](file)
    if not table.rows:
        raise ValueError(f"{file}: no rows below the column names: add some, or give another file")
    return table


def _read_text(file: Path) -> str:
    """The file as text; a byte-order mark (which spreadsheets write) is dropped."""
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{file}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}): save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{file}, line {line}: a NUL byte: is it UTF-16 or binary? Save it as UTF-8 text")
    return text


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let ``csv`` read texts of more than 128 KiB. The limit is the whole process's: it is put back."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@_long_fields()
def _read_csv(file: Path, delimiter: str | None = None) -> Table:
    text = _read_text(file)
    delimiter = delimiter or _delimiter(text.lstrip().partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] | None = None
    rows: list[Row] = []
    line = 1
    try:
        for fields in reader:
            place, line = f"{file}, line {line}", reader.line_num + 1
            if not fields:
                continue  # a blank line
            if columns is None:
                columns = _distinct([field.strip() for field in fields], place)
                continue
            if len(fields) != len(columns):
                raise ValueError(
                    f"{place}: {len(fields)} fields where the header has {len(columns)}: a text that "
                    f"contains {delimiter!r} or a line break must stand in double quotes"
                )
            rows.append(Row(place, dict(zip(columns, fields, strict=True))))
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {line}: {error}: is a double quote not closed, or not doubled inside a text?"
        ) from error
    if columns is None:
        raise ValueError(f"{file}: only blank lines: the first line must name the columns")
    return Table(str(file), columns, tuple(rows))


def _delimiter(header: str) -> str:
    """Spreadsheets write semicolons where numbers have a decimal comma."""
    return ";" if ";" in header and "," not in header else ","


def _read_tsv(file: Path) -> Table:
    return _read_csv(file, delimiter="\t")


def _read_jsonl(file: Path) -> Table:
    lines = _read_text(file).split("\n")  # not splitlines(): a text may contain U+2028
    rows = [_json_row(line, f"{file}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    columns = tuple(rows[0].values) if rows else ()
    for row in rows:
        if set(row.values) != set(columns):
            odd = sorted(set(row.values) ^ set(columns))
            raise row.error(f"its keys differ from the first row's in {odd}: give every row the same keys")
    return Table(str(file), columns, tuple(rows))


def _json_row(line: str, place: str) -> Row:
    try:
        value = json.loads(
            line,
            object_pairs_hook=lambda pairs: _object(pairs, place),
            parse_int=lambda digits: _whole(digits, place),
        )
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{place}: not JSON ({error.msg} at column {error.colno}): write one whole object on each line"
        ) from error
    except RecursionError:
        raise ValueError(
            f"{place}: nested too deeply: write the text and the label as plain values"
        ) from None
    if not isinstance(value, dict):
        raise ValueError(f'{place}: must be an object such as {{"text": "..."}}; got {line.strip()[:40]!r}')
    if LONE_SURROGATE.search(line):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{place}: half a character ({error.object[error.start : error.end]!a}, a lone surrogate): "
                "write the whole one, or remove it"
            ) from error
    return Row(place, value)


def _whole(digits: str, place: str) -> int:
    try:
        return int(digits)
    except ValueError as error:  # Python reads 4,300 digits
        raise ValueError(
            f"{place}: a whole number of {len(digits):,} digits: shorten it, or write it as text"
        ) from error


def _object(pairs: list[tuple[str, Any]], place: str) -> dict[str, Any]:
    _distinct([key for key, _ in pairs], place)
    return dict(pairs)


def _read_parquet(file: Path) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"{file}: Parquet needs the package pyarrow: pip install pyarrow") from error
    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{file}: not a whole Parquet file ({error}): was the copy cut short? Fetch or write it again"
        ) from error
    columns = _distinct(table.column_names, str(file))
    rows = (Row(f"{file}, row {i}", values) for i, values in enumerate(table.to_pylist(), 1))
    return Table(str(file), columns, tuple(rows))


def _distinct(names: Iterable[str], place: str) -> tuple[str, ...]:
    names = tuple(names)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(
            f"{place}: the column {twice[0]!r} occurs more than once: rename or remove one of them"
        )
    return names


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
