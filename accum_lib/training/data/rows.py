"""Rows of a CSV, TSV, JSONL or Parquet file, each with the place that an error message will name."""

import csv
import io
import json
import os
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accum_lib.extras import need
from accum_lib.words import _, first_line

LONGEST_FIELD = 2**31 - 1  # characters; the most that csv takes on every system
SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t])"?(?:\r\n|\r|\n|\Z)', re.IGNORECASE)  # Excel's own
LONE_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)  # perhaps: two of them can be one character
MOST_LISTED, LONGEST_SHOWN = 20, 80  # columns, and characters of a value, in an error message
FOREIGN = {
    b"\x1f\x8b": "is compressed by gzip: unpack it",
    b"PK\x03\x04": "is a ZIP archive, as .xlsx files are: export it as CSV, or unpack it",
    b"PAR1\x15": "is a Parquet file: give its name that ending",
    b"\xff\xfe": "is UTF-16: save it as UTF-8",
    b"\xfe\xff": "is UTF-16: save it as UTF-8",
    b"version https://git-lfs": "is a pointer of Git LFS and not the data: fetch them with git lfs pull",
    b"<!doctype html": "is a web page, perhaps of an error: fetch the file itself",
    b"<html": "is a web page, perhaps of an error: fetch the file itself",
}  # how a file begins that is not what its ending says
ROW_BYTES, VALUE_BYTES = 400, 50  # what a row, and each value of it, take in Python
SMALL_BYTES, MOST_UNPACKED = 2**27, 100  # what a file may unpack to: this, and this many times its size


def short(value: Any) -> str:
    """What a file holds, which may be of any length, for an error message."""
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST_SHOWN else value[:LONGEST_SHOWN] + "...")
    return reprlib.repr(value)


def _listed(names: Sequence[str]) -> str:
    """The first ones; a file may have thousands."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(map(short, names[:MOST_LISTED])) + more


@dataclass(frozen=True, slots=True)
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
            hint = _(". Are the columns separated by something else than the file's ending says?")
        raise ValueError(
            _(
                "{file}: no column {column}; it has {columns}. Rename one, or say which to use: "
                "--text-column, --label-column, --pair-column, or Columns(...) in code",
                file=self.file,
                column=short(column),
                columns=_listed(self.columns),
            )
            + hint
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
        raise FileNotFoundError(
            _("no file {file}: is the path right, seen from {folder}?", file=file, folder=Path.cwd())
        )
    if file.suffix.lower() not in READERS:
        raise ValueError(f"{file}: unknown ending {file.suffix!r}: it must be one of {', '.join(READERS)}")
    if file.stat().st_size == 0:
        raise ValueError(_("{file}: the file is empty: was it written to the end?", file=file))
    _check_beginning(file)
    table = READERS[file.suffix.lower()](file)
    if not table.rows:
        raise ValueError(
            _("{file}: no rows below the column names: add some, or give another file", file=file)
        )
    return table


def _check_beginning(file: Path) -> None:
    with file.open("rb") as opened:
        first = opened.read(64)
    for beginning, problem in FOREIGN.items():
        right = b"PAR1" in beginning and file.suffix.lower() == ".parquet"
        if not right and (first.startswith(beginning) or first.lower().startswith(beginning)):
            raise ValueError(f"{file}: {problem}")


def _read_text(file: Path) -> str:
    """The file as text; byte-order marks (which spreadsheets write, one for each file that was joined) go."""
    data = file.read_bytes()
    try:
        text = re.sub("(^|(?<=[\r\n]))\ufeff+", "", data.decode())
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
def _read_csv(file: Path, usual: str = ",") -> Table:
    text = _read_text(file)
    declared = SEPARATOR_LINE.match(text)
    first = text[declared.end() :] if declared else text
    delimiter = (
        declared[1] if declared else _delimiter(re.split(r"[\r\n]", first.lstrip(), maxsplit=1)[0], usual)
    )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for fields in reader:
            if fields and not (declared and reader.line_num == 1):  # neither a blank line nor "sep=;"
                records.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {line}: {error}: is a double quote not closed, or not doubled inside a text?"
        ) from error
    if not records:
        raise ValueError(f"{file}: only blank lines: the first line must name the columns")
    (line, header), *rows = records
    _check_widths(file, line, header, rows, delimiter)
    columns = _distinct(_named(header), f"{file}, line {line}")
    for n, fields in rows:
        if fields == header:
            raise ValueError(
                f"{file}, line {n}: names the columns again: are these two files, one after the other? "
                "Remove the line"
            )
    return Table(
        str(file),
        columns,
        tuple(Row(f"{file}, line {n}", dict(zip(columns, r, strict=True))) for n, r in rows),
    )


def _check_widths(
    file: Path, line: int, header: list[str], rows: list[tuple[int, list[str]]], delimiter: str
) -> None:
    """Every row has as many fields as the header. If no row has, the header is at fault."""
    wrong = [(n, len(fields)) for n, fields in rows if len(fields) != len(header)]
    widths = {width for _, width in wrong}
    if wrong and len(wrong) == len(rows) > 1 and len(widths) == 1:
        raise ValueError(
            f"{file}, line {line}: names {len(header)} columns, and every row below has {widths.pop()} "
            "fields: name each column"
        )
    for n, width in wrong[:1]:
        raise ValueError(
            f"{file}, line {n}: {width} fields where the header has {len(header)}: a text that "
            f"contains {delimiter!r} or a line break must stand in double quotes"
        )


def _named(header: list[str]) -> list[str]:
    """Names for columns that have none: pandas writes its index so, and spreadsheets what is empty."""
    return [field.strip() or f"unnamed {i}" for i, field in enumerate(header, 1)]


def _delimiter(header: str, usual: str) -> str:
    """What cuts the header into most columns: spreadsheets write semicolons where numbers have a decimal
    comma, and a file's ending is sometimes wrong. Between equals, the one that is usual for the ending.
    """

    def columns(delimiter: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=delimiter, strict=True)))
        except (csv.Error, StopIteration):
            return 0

    return max((usual, ",", ";", "\t"), key=columns)


def _read_tsv(file: Path) -> Table:
    return _read_csv(file, usual="\t")


def _read_jsonl(file: Path) -> Table:
    lines = _read_text(file).split("\n")  # not splitlines(): a text may contain U+2028
    rows = [_json_row(line, f"{file}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    usual = Counter(frozenset(row.values) for row in rows).most_common(1)  # the first of equals
    columns = next((tuple(row.values) for row in rows if row.values.keys() == usual[0][0]), ())
    for row in rows:
        if row.values.keys() != usual[0][0]:
            odd = sorted(row.values.keys() ^ usual[0][0])
            raise row.error(
                f"its keys differ from those of most rows in {_listed(odd)}: give every row the same keys"
            )
    return Table(str(file), columns, tuple(rows))


def _json_row(line: str, place: str) -> Row:
    try:
        value = json.loads(
            line,
            object_pairs_hook=lambda pairs: _object(pairs, place),
            parse_int=_whole,
            parse_float=str,  # as in a CSV file: 0.10 stays 0.10, and no digit is lost
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


def _whole(digits: str) -> int | str:
    """The number; as text, which it is in a CSV file, if it has more digits than Python reads (4,300)."""
    return int(digits) if len(digits) <= 4300 else digits


def _object(pairs: list[tuple[str, Any]], place: str) -> dict[str, Any]:
    names = _distinct([key.strip() for key, _ in pairs], place)
    return dict(zip(names, (value for _, value in pairs), strict=True))


def _read_parquet(file: Path) -> Table:
    need(f"{file}: Parquet", "data", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        columns, values = _parquet_columns(pyarrow, file)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file}: not a whole Parquet file ({first_line(error)}): was the copy cut short? Fetch or write "
            "it again"
        ) from error
    names = _distinct(_named(columns), str(file))
    rows = (
        Row(f"{file}, row {i}", dict(zip(names, row, strict=True)))
        for i, row in enumerate(zip(*values, strict=True), 1)
    )
    return Table(str(file), names, tuple(rows))


def _parquet_columns(pyarrow: Any, file: Path) -> tuple[list[str], list[list[Any]]]:
    """Names and values, a batch at a time, so that a small file which unpacks to a huge one is found out.

    Repeated texts are held once: they come as a dictionary, and each row has the one object. Lists and
    structures are no text and no label: they are not read, and stand as [].

    Raises:
        ValueError: the file unpacks to more than ``MOST_UNPACKED`` times its size.
    """
    packed = file.stat().st_size
    with pyarrow.parquet.ParquetFile(file) as opened:
        schema, held = opened.schema_arrow, opened.metadata
        told = sum(held.row_group(i).total_byte_size for i in range(held.num_row_groups))
        _check_unpacked(file, packed, max(told, held.num_rows * _row_bytes(schema)))
        flat = [field.name for field in schema if not pyarrow.types.is_nested(field.type)]
        values: dict[str, list[Any]] = {
            name: [] if name in flat else [[]] * held.num_rows for name in schema.names
        }
    texts = [field.name for field in schema if _is_text(pyarrow, field.type)]
    with pyarrow.parquet.ParquetFile(file, read_dictionary=texts) as opened:
        unpacked = 0
        for batch in opened.iter_batches(batch_size=4096, columns=flat):
            batch.validate(full=True)  # a damaged file may point outside of its dictionary
            unpacked += batch.nbytes + batch.num_rows * _row_bytes(schema)
            for name, column in zip(flat, batch.columns, strict=True):
                found = _plain_values(pyarrow, column)
                unpacked += sum(len(each) for each in found if isinstance(each, str))
                values[name].extend(found)
            _check_unpacked(file, packed, unpacked)
    return schema.names, list(values.values())


def _row_bytes(schema: Any) -> int:
    return ROW_BYTES + VALUE_BYTES * len(schema.names)


def _is_text(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)


def _plain_values(pyarrow: Any, column: Any) -> list[Any]:
    """A column as Python's own values; bytes, as which some programs write texts, as texts if they are."""
    if pyarrow.types.is_dictionary(column.type):
        words = _plain_values(pyarrow, column.dictionary)
        return [None if i is None else words[i] for i in column.indices.to_pylist()]
    try:
        values = column.to_pylist()
    except (OverflowError, ValueError):  # a date after the year 9999, or a time zone that is not known here
        if not pyarrow.types.is_temporal(column.type):
            raise
        values = column.view(pyarrow.int32() if column.type.bit_width == 32 else pyarrow.int64()).to_pylist()
    return [_as_text(each) if isinstance(each, bytes) else each for each in values]


def _as_text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _check_unpacked(file: Path, packed: int, unpacked: int) -> None:
    if unpacked > SMALL_BYTES + MOST_UNPACKED * packed:
        raise ValueError(
            f"{file}: {packed:,} bytes unpack to {unpacked:,} or more, which fills the memory: are there "
            "repeated or empty rows without number? Write the rows that you want into another file"
        )


def _distinct(names: Iterable[str], place: str) -> tuple[str, ...]:
    names = tuple(names)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(
            f"{place}: the column {short(twice[0])} occurs more than once: rename or remove one of them"
        )
    return names


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
