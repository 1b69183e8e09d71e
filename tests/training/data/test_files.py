"""Files of the reader: what is right loads the same from every format, what is wrong is named."""

import csv
import gzip
import json
import re

import pyarrow
import pyarrow.parquet
import pytest

from accum_lib.training import Example, load_data
from accum_lib.training.data.files import Columns, load_file

ROWS = [{"text": f"text number {i}, with a comma", "label": ("spam", "ham")[i % 2]} for i in range(20)]


def as_csv(rows, delimiter=",", end="\n") -> str:
    header = delimiter.join(rows[0])
    return end.join([header, *(delimiter.join(f'"{v}"' for v in row.values()) for row in rows)]) + end


def as_jsonl(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def parquet(path, columns: dict) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def write(folder, name: str, content) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def ragged(row: str) -> str:
    """A right CSV with ``row`` as its line 3."""
    return f"text,label\na good text,spam\n{row}\nanother text,ham\nyet another,spam\nand one more,ham\n"


# name of the file, its contents, what the message must say besides the file (the place, the fault, the fix)
MALFORMED = {
    "empty file": ("a.csv", b"", ["is empty"]),
    "header only": ("a.csv", "text,label\n", ["no rows", "add some"]),
    "blank lines only": ("a.csv", "\n\n", ["only blank lines"]),
    "no text column": ("a.csv", "body,label\nx,a\ny,b\n", ["'text'", "'body', 'label'", "Columns("]),
    "bars": ("a.csv", "text|label\nx|a\n", ["'text|label'", "separated"]),
    "too few fields": ("a.csv", ragged("no label here"), ["line 3", "1 fields", "has 2"]),
    "too many fields": ("a.csv", ragged("a, comma,ham"), ["line 3", "3 fields", "double quotes"]),
    "label missing": ("a.csv", ragged("some text,"), ["line 3", "missing", "fill it in"]),
    "NaN label": ("a.csv", ragged("some text,nan"), ["line 3", "missing ('nan')"]),
    "text empty": ("a.csv", ragged('"  ",ham'), ["line 3", "'text' is empty", "remove the row"]),
    "invalid UTF-8": (
        "a.csv",
        ragged("caf_,ham").encode().replace(b"_", b"\xe9"),
        ["line 3", "0xe9", "UTF-8"],
    ),
    "NUL bytes": ("a.csv", ragged("a\0b,ham"), ["line 3", "NUL"]),
    "UTF-16": ("a.csv", ragged("x,ham").encode("utf-16"), ["is UTF-16", "UTF-8"]),
    "gzip": ("a.csv", gzip.compress(b"text,label\n"), ["compressed by gzip", "unpack it"]),
    "a workbook": ("a.csv", b"PK\x03\x04\x14\0", ["ZIP archive", "export it as CSV"]),
    "Parquet called CSV": ("a.csv", b"PAR1\x15\x04\x15", ["is a Parquet file", "that ending"]),
    "a pointer": (
        "a.parquet",
        "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n",
        ["pointer of Git LFS", "git lfs pull"],
    ),
    "a web page": ("a.csv", "<!DOCTYPE html><html>404, not found</html>\n", ["web page", "fetch the file"]),
    "two files, one after the other": (
        "a.csv",
        ragged("x,ham") + "\ufeff" + ragged("y,ham"),
        ["line 7", "names the columns again", "Remove the line"],
    ),
    "truth values and numbers": (
        "a.csv",
        "text,label\n" + "".join(f"text {i},{('1', 'True', '0')[i % 3]}\n" for i in range(30)),
        ["line 3", "'true'", "truth value", "'1'"],
    ),
    "a text that nobody sees": ("a.csv", ragged("\u200b\ufeff,ham"), ["line 3", "'text' is empty"]),
    "unclosed quote": ("a.csv", ragged('"never closed,ham'), ["line 3", "quote"]),
    "text after a quote": ("a.csv", ragged('"closed"too soon,ham'), ["line 3", "quote"]),
    "duplicate columns": ("a.csv", "text,label,text\nx,a,y\n", ["line 1", "'text'", "more than once"]),
    "one class only": ("a.csv", "text,label\nx,spam\ny,spam\n", ["'spam'", "two classes"]),
    "too small to split": (
        "a.csv",
        "text,label\nx,spam\ny,ham\n",
        ["2 rows of 2 classes can't be split", "Add rows"],
    ),
    "unknown ending": ("a.xlsx", "text,label\nx,spam\n", ["'.xlsx'", ".csv", ".parquet"]),
    "broken JSON": (
        "a.jsonl",
        '{"text": "x", "label": 1}\n{"text": "y", \n',
        ["line 2", "not JSON", "column"],
    ),
    "JSON of two lines": ("a.jsonl", '{"text":\n "x"}\n', ["line 1", "not JSON", "each line"]),
    "JSON list": ("a.jsonl", '{"text": "x", "label": 1}\n["y", 2]\n', ["line 2", "must be an object"]),
    "JSON without a key": (
        "a.jsonl",
        '{"text": "x", "label": 1}\n{"text": "y"}\n',
        ["line 2", "'label'", "keys"],
    ),
    "JSON key twice": ("a.jsonl", '{"text": "x", "text": "y"}\n', ["line 1", "'text'", "more than once"]),
    "text is a list": (
        "a.jsonl",
        '{"text": "x", "label": 1}\n{"text": [7], "label": 2}\n',
        ["line 2", "[7] (list)"],
    ),
    "texts are numbers": (
        "a.jsonl",
        '{"text": 6, "label": 1}\n{"text": 7, "label": 2}\n',
        ["line 1", "got 6"],
    ),
    "label is NaN": ("a.jsonl", '{"text": "x", "label": NaN}\n', ["line 1", "missing (nan)"]),
    "label is null": ("a.jsonl", '{"text": "x", "label": null}\n', ["line 1", "missing (None)"]),
    "label is a float": (
        "a.jsonl",
        '{"text": "x", "label": 0.5}\n',
        ["line 1", "'0.5'", "is a score and no class", "--labels"],
    ),
    "deep JSON": ("a.jsonl", '{"text": ' + "[" * 100_000 + "\n", ["line 1", "nested too deeply"]),
    "half a character": (
        "a.jsonl",
        '{"text": "x \\uD83D", "label": 1}\n',
        ["line 1", "half a character", "ud83d", "remove it"],
    ),
    "the first row is the odd one": (
        "a.jsonl",
        '{"text": "x"}\n' + '{"text": "y", "label": 1}\n' * 3,
        ["line 1", "'label'", "keys"],
    ),
    "the header is the odd one": ("a.csv", "text\nx,a\ny,b\n", ["line 1", "names 1 columns", "2 fields"]),
    "identifiers": (
        "a.csv",
        "text,label\n" + "".join(f"text {i},{i}\n" for i in range(30)),
        ["30 different labels in 30 rows", "another column"],
    ),
    "one number, two spellings": (
        "a.csv",
        "text,label\n" + "".join(f"text {i},{('1', '01')[i % 2]}\n" for i in range(30)),
        ["line 3", "'01'", "'1' elsewhere"],
    ),
    "label is a list": ("a.jsonl", '{"text": "x", "label": [1]}\n', ["line 1", "[1] (list)"]),
    "not Parquet": ("a.parquet", "text,label\nx,spam\n", ["not a whole Parquet file", "again"]),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_refused_with_its_name_the_place_and_the_fix(kind, tmp_path) -> None:
    name, content, parts = MALFORMED[kind]
    path = write(tmp_path, name, content)
    with pytest.raises(ValueError, match=re.escape(path)) as caught:
        load_data(path)
    for part in parts:
        assert part in str(caught.value)


def test_the_rows_that_the_malformed_files_are_made_from_are_right(tmp_path) -> None:
    """Else each of them could be refused for another reason than the one it is there for."""
    data = load_data(write(tmp_path, "a.csv", ragged("some text,ham")))
    assert len(data.train) + len(data.held_out) == 5


def test_a_parquet_file_cut_short_is_refused(tmp_path) -> None:
    path = tmp_path / "a.parquet"
    parquet(path, {"text": ["x"] * 50, "label": ["a", "b"] * 25})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cut short"):
        load_data(path)


def test_a_parquet_row_is_named_by_its_number(tmp_path) -> None:
    parquet(tmp_path / "a.parquet", {"text": ["x", None, "z"], "label": [0, 1, 0]})
    with pytest.raises(ValueError, match=r"a\.parquet, row 2: the text"):
        load_data(tmp_path / "a.parquet")


def test_no_file_a_directory_and_no_source_are_told_apart(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*gone\.csv: is the path right"):
        load_data(tmp_path / "gone.csv")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        load_data(tmp_path)
    with pytest.raises(ValueError, match=r"no data source 'docstring'.*glue:"):
        load_data("docstring")


def test_a_label_that_training_has_not_is_refused(tmp_path) -> None:
    train = write(tmp_path, "train.csv", as_csv(ROWS))
    held = write(tmp_path, "held.csv", "text,label\nx,spam\ny,eggs\n")
    with pytest.raises(ValueError, match=r"held\.csv, line 3: the label 'eggs'.*has ham, spam"):
        load_data(train, held_out=held)


def test_a_column_that_the_reader_names_must_exist(tmp_path) -> None:
    path = write(tmp_path, "a.csv", as_csv(ROWS))
    for columns in (Columns(label="class"), Columns(pair="other")):
        with pytest.raises(ValueError, match=r"no column '(class|other)'; it has 'text', 'label'"):
            load_file(path, columns=columns)
    unlabelled = write(tmp_path, "b.csv", "text\nx\ny\n")
    with pytest.raises(ValueError, match="no column 'label'"):
        load_file(unlabelled, labelled=True)


@pytest.mark.parametrize("fraction", [0, 1, -0.1])
def test_a_fraction_out_of_range_is_refused(fraction, tmp_path) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        load_file(write(tmp_path, "a.csv", as_csv(ROWS)), held_out_fraction=fraction)


def test_every_format_gives_the_same_data(tmp_path) -> None:
    parquet(tmp_path / "a.parquet", {key: [row[key] for row in ROWS] for key in ROWS[0]})
    paths = [
        str(tmp_path / "a.parquet"),
        write(tmp_path, "a.csv", as_csv(ROWS)),
        write(tmp_path, "bom.csv", b"\xef\xbb\xbf" + as_csv(ROWS).encode()),
        write(tmp_path, "crlf.csv", as_csv(ROWS, end="\r\n")),
        write(tmp_path, "a.tsv", as_csv(ROWS, "\t")),
        write(tmp_path, "semicolons.csv", as_csv(ROWS, ";")),
        write(tmp_path, "a.jsonl", as_jsonl(ROWS)),
        write(tmp_path, "crlf.ndjson", as_jsonl(ROWS).replace("\n", "\r\n")),
    ]
    first, *others = [load_data(path) for path in paths]
    assert first.labels == ("ham", "spam")
    assert first.train[0] in [Example(r["text"], None, first.labels.index(r["label"])) for r in ROWS]
    for other in others:
        assert (other.train, other.held_out, other.labels) == (first.train, first.held_out, first.labels)


def test_pairs_must_be_in_both_files_or_in_neither(tmp_path) -> None:
    alone = write(tmp_path, "alone.csv", as_csv(ROWS))
    paired = write(tmp_path, "paired.csv", as_csv([{**row, "pair": "more"} for row in ROWS]))
    for path, other in ((alone, paired), (paired, alone)):
        message = re.escape(f"{paired} has a column 'pair', and {alone} has none")
        with pytest.raises(ValueError, match=message):
            load_file(path, other)


def test_a_column_of_empty_pairs_is_none_unless_it_is_asked_for(tmp_path) -> None:
    empty = write(tmp_path, "empty.jsonl", as_jsonl([{**row, "pair": None} for row in ROWS]))
    assert {example.pair for example in load_file(empty).train} == {None}
    other = write(tmp_path, "other.jsonl", as_jsonl([{**row, "second": None} for row in ROWS]))
    with pytest.raises(ValueError, match="the text in column 'second' is empty"):
        load_file(other, columns=Columns(pair="second"))


def test_no_column_has_two_roles(tmp_path) -> None:
    path = write(tmp_path, "a.csv", as_csv(ROWS))
    for columns in (Columns(pair="text"), Columns(pair="label"), Columns(text="label")):
        with pytest.raises(ValueError, match="is given two of the roles"):
            load_file(path, columns=columns)
    load_file(path, columns=Columns(text="label"), labelled=False)


def test_line_breaks_and_quotes_inside_a_text_survive_and_do_not_shift_the_row_number(tmp_path) -> None:
    text = 'text,label\n"two\nlines, ""quoted""",a\nplain,b\n,a\n'
    with pytest.raises(ValueError, match="line 5: the text"):
        load_data(write(tmp_path, "a.csv", text))
    rows = load_file(write(tmp_path, "c.csv", text.replace("\n,a", "\nmore,a")), labelled=False)
    assert 'two\nlines, "quoted"' in {e.text for e in rows.train + rows.held_out}


def test_whole_number_labels_are_ordered_as_numbers(tmp_path) -> None:
    rows = [{"text": f"t{i}", "label": i % 11} for i in range(44)]
    assert load_data(write(tmp_path, "a.jsonl", as_jsonl(rows))).labels == tuple(map(str, range(11)))


def in_each_format(folder, labels: list) -> list[str]:
    """Forty texts with these labels in turn: in JSON and Parquet as numbers, and as text."""
    rows = [{"text": f"text number {i}", "label": labels[i % len(labels)]} for i in range(40)]
    spelled = [{**row, "label": str(row["label"])} for row in rows]
    for name, of in (("a.parquet", rows), ("a.text.parquet", spelled)):
        parquet(folder / name, {key: [row[key] for row in of] for key in of[0]})
    return [
        write(folder, "a.csv", as_csv(rows)),
        write(folder, "a.tsv", as_csv(rows, "\t")),
        write(folder, "a.jsonl", as_jsonl(rows)),
        write(folder, "a.text.jsonl", as_jsonl(spelled)),
        str(folder / "a.parquet"),
        str(folder / "a.text.parquet"),
    ]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1], ("0", "1")),
        ([0.0, 1.0], ("0", "1")),
        ([2.0, 10.0, 9.0], ("2", "9", "10")),
        (["0", "1", "0.0", "1.0"], ("0", "1")),
        (["+1", "-0.0", "1e0"], ("0", "1")),
        ([True, False], ("false", "true")),
        (["TRUE", "False", "true"], ("false", "true")),
        (["007", "008"], ("007", "008")),
        (["\N{FULLWIDTH DIGIT ONE}", "1", "\N{ARABIC-INDIC DIGIT TWO}", "2"], ("1", "2")),
        (["a\N{FULLWIDTH DIGIT ONE}", "a1"], ("a1", "a\N{FULLWIDTH DIGIT ONE}")),
        (["--1", "1"], ("--1", "1")),
        (["7" * 5000, "1"], ("1", "7" * 5000)),
        ([10**22, 1.0], ("1", str(10**22))),
        (["0.5x", "v1.2"], ("0.5x", "v1.2")),
        (["caf\u00e9", "cafe\u0301", "tea"], ("caf\u00e9", "tea")),
        (["very good", "very\N{NO-BREAK SPACE}good", "bad"], ("bad", "very good")),
        (["pos", "pos\N{ZERO WIDTH SPACE}", "\ufeffneg"], ("neg", "pos")),
        (["\U0001f468\u200d\U0001f469", "x"], ("x", "\U0001f468\u200d\U0001f469")),
    ],
)  # fmt: skip
def test_a_label_is_one_class_however_it_is_spelled_and_stored(labels, names, tmp_path) -> None:
    typed = not {int, float} <= {type(label) for label in labels}  # which Parquet has not in one column
    found = [
        load_data(path) for path in in_each_format(tmp_path, labels if typed else list(map(str, labels)))
    ]
    assert {data.labels for data in found} == {names}
    assert all((data.train, data.held_out) == (found[0].train, found[0].held_out) for data in found)
    assert {len(data.train) for data in found} == {40 - len(found[0].held_out)}


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([i / 2 for i in range(11)], "'0.5' in column 'label' is a score"),
        ([1, 0.25, 0], "'0.25' in column 'label' is a score"),
        (["\N{FULLWIDTH DIGIT ONE}\N{FULLWIDTH FULL STOP}\N{FULLWIDTH DIGIT FIVE}", "2"], "is a score"),
        (["1,5", "2,5"], "'1,5' in column 'label' is a score"),
        ([1e-3, 1.0], "'0.001' in column 'label' is a score"),
        (["1e999999999", "2"], "'1e999999999' in column 'label' is a score"),
        ([1e300, 1.0], "is a score"),
        ([-1, 0, 1], "'-1' in column 'label' is a usual placeholder"),
        ([0.0, 1.0, -100.0], "'-100.0' in column 'label' is a usual placeholder"),
        (["\N{MINUS SIGN}1", "1"], "'-1' in column 'label' is a usual placeholder"),
        (["spam", "ham", "N/A"], "'N/A' in column 'label' is a usual placeholder"),
        (["spam", "ham", "None"], "'None' in column 'label' is a usual placeholder"),
        ([1.0, 0.0, float("inf")], "a usual placeholder"),
        (["spam", "ham", "#REF!"], "'#REF!' in column 'label' is a usual placeholder"),
        (list(range(40)), "40 different labels in 40 rows"),
    ],
)
def test_what_is_no_class_is_refused_in_each_format_alike(labels, why, tmp_path) -> None:
    typed = not {int, float} <= {type(label) for label in labels}
    for path in in_each_format(tmp_path, labels if typed else list(map(str, labels))):
        with pytest.raises(ValueError, match=re.escape(path)) as caught:
            load_data(path)
        assert why.lower() in str(caught.value).lower()
        assert "--labels" in str(caught.value)


@pytest.mark.parametrize("labels", [("-1", "1"), ("none", "NA"), ("0.5", "1.5"), ("0", "0.0"), ("?", "null")])
def test_classes_that_are_listed_are_taken_as_they_are_spelled(labels, tmp_path) -> None:
    for path in in_each_format(tmp_path, list(labels)):
        assert load_data(path, labels=labels).labels == labels
        assert load_data(path, labels=labels[::-1]).labels == labels[::-1]
        with pytest.raises(ValueError, match=r"(line|row) \d: the label .* is not in the list"):
            load_data(path, labels=("x", "y"))
        with pytest.raises(ValueError, match="no row has the label 'more' of the list"):
            load_data(path, labels=(*labels, "more"))
        with pytest.raises(ValueError, match="two classes or more, each once"):
            load_data(path, labels=labels[:1])


def test_what_is_listed_may_be_numbers_and_is_a_list(tmp_path) -> None:
    path = write(tmp_path, "a.csv", as_csv([{"text": f"t{i}", "label": i % 2} for i in range(20)]))
    assert load_data(path, labels=[0, 1]).labels == ("0", "1")
    with pytest.raises(TypeError, match=r"a list of names, such as \['0', '1'\]"):
        load_data(path, labels="0,1")


def test_a_number_in_json_keeps_its_digits(tmp_path) -> None:
    """A double has sixteen: as one, the two labels were one another's neighbours, and 0.10 was 0.1."""
    lines = [
        f'{{"text": {i}.10, " label ": {(9007199254740993, "9007199254740995.0")[i % 2]}}}' for i in range(20)
    ]
    lines[0] = lines[0].replace("0.10", '"a text"')
    data = load_data(write(tmp_path, "a.jsonl", "\n".join("\ufeff" + line for line in lines)))
    assert data.labels == ("9007199254740993", "9007199254740995")
    assert {e.text for e in data.train + data.held_out} == {"a text", *(f"{i}.10" for i in range(1, 20))}


@pytest.mark.parametrize(
    "kind", [pyarrow.date32(), pyarrow.timestamp("ms"), pyarrow.timestamp("us", tz="Mars/Phobos")]
)
def test_a_date_that_python_does_not_know_ends_no_run(kind, tmp_path) -> None:
    """After the year 9999, or where no zone is of that name; and in a column that nobody asked for."""
    whole = pyarrow.int32() if kind.bit_width == 32 else pyarrow.int64()
    texts = [f"text {i}" for i in range(20)]
    dates = pyarrow.array([2 ** (30 if kind.bit_width == 32 else 50)] * 20, whole).view(kind)
    parquet(tmp_path / "a.parquet", {"text": texts, "label": ["a", "b"] * 10, "date": dates})
    assert load_data(tmp_path / "a.parquet").labels == ("a", "b")


def test_a_number_is_a_text_and_so_is_what_a_program_wrote_as_bytes(tmp_path) -> None:
    rows = [*ROWS, {"text": 7, "label": "ham"}]
    texts = [str(row["text"]) for row in rows]
    columns = {"text": texts, "label": [row["label"] for row in rows]}
    parquet(tmp_path / "text.parquet", columns)
    parquet(tmp_path / "bytes.parquet", {**columns, "text": [text.encode() for text in texts]})
    first, *others = [
        load_data(path)
        for path in (
            tmp_path / "text.parquet",
            tmp_path / "bytes.parquet",
            write(tmp_path, "a.csv", as_csv(rows)),
            write(tmp_path, "a.jsonl", as_jsonl(rows)),
        )
    ]
    for other in others:
        assert (other.train, other.held_out) == (first.train, first.held_out)


def test_what_spreadsheets_and_pandas_add_is_understood(tmp_path) -> None:
    plain = load_data(write(tmp_path, "plain.csv", as_csv(ROWS)))
    lines = as_csv(ROWS).splitlines()
    added = {
        "declared.csv": "sep=;\n" + as_csv(ROWS, ";"),
        "quoted.csv": '"sep=;"\r\n' + as_csv(ROWS, ";", "\r\n"),
        "bar.csv": "SEP=|\n" + as_csv(ROWS, "|"),
        "declared.tsv": "sep=\t\n" + as_csv(ROWS, "\t"),
        "index.csv": "\n".join(f"{i - 1 if i else ''},{line}" for i, line in enumerate(lines)),
        "trailing.csv": "\n".join(f"{line},," for line in lines),
        "tabs.csv": as_csv(ROWS, "\t"),
        "commas.tsv": as_csv(ROWS),
        "old_mac.csv": as_csv(ROWS, end="\r"),
        "comma_in_a_name.csv": as_csv([{**row, "a, b": "c"} for row in ROWS], ";").replace("a, b", '"a, b"'),
    }
    for name, content in added.items():
        found = load_data(write(tmp_path, name, content))
        assert (found.train, found.held_out, found.labels) == (plain.train, plain.held_out, plain.labels), (
            name
        )
    broken = added["declared.csv"].replace('"ham"', '""', 1)
    with pytest.raises(ValueError, match="line 4: the label"):
        load_data(write(tmp_path, "a.csv", broken))


def test_a_column_without_a_name_can_be_named_by_its_number(tmp_path) -> None:
    content = as_csv(ROWS).replace("text,label", ",", 1)
    found = load_file(write(tmp_path, "a.csv", content), columns=Columns("unnamed 1", label="unnamed 2"))
    assert found.labels == ("ham", "spam")


def test_a_small_parquet_file_does_not_fill_the_memory(tmp_path, monkeypatch) -> None:
    """By what is counted, of rows and of letters; a file of the same size with fewer is read."""
    from accum_lib.training.data import rows

    monkeypatch.setattr(rows, "SMALL_BYTES", 10**5)
    bombs = {
        "rows": {"text": ["a"] * 10**5, "label": [0] * 10**5},
        "letters": {"text": ["a" * 10**5] * 100, "label": [0] * 100},
        "pages": {"text": [chr(97 + i) * 10**5 for i in range(20)], "label": [0] * 20},
        "lists": {"text": [["a" * 10**4] * 100] * 100, "label": [0, 1] * 50},
    }
    for name, columns in bombs.items():
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")
        assert path.stat().st_size < 10**5
        with pytest.raises(ValueError, match=rf"{name}\.parquet.*(bytes unpack to|must hold text; got \[\])"):
            load_data(path)
    parquet(tmp_path / "few.parquet", {"text": list("abcdefgh") * 20, "label": [0, 1] * 80})
    assert load_data(tmp_path / "few.parquet").labels == ("0", "1")


def test_a_missing_label_says_how_to_do_without(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"without labels \(--task mlm, or labelled=False in code\)"):
        load_data(write(tmp_path, "a.csv", ragged("some text,")))


def test_a_character_of_two_escapes_is_whole(tmp_path) -> None:
    rows = [{**row, "text": row["text"] + " \N{GRINNING FACE}"} for row in ROWS]
    content = as_jsonl(rows)
    assert "\\ud83d\\ude00" in content
    assert load_data(write(tmp_path, "a.jsonl", content)).train[0].text.endswith("\N{GRINNING FACE}")


def test_a_long_text_is_read_and_the_limit_of_csv_stays_as_it_was(tmp_path) -> None:
    before, text = csv.field_size_limit(), "word " * 50_000
    data = load_data(write(tmp_path, "a.csv", as_csv([*ROWS, {"text": text, "label": "ham"}])))
    assert text in {e.text for e in data.train + data.held_out}
    with pytest.raises(ValueError, match="quote"):
        load_data(write(tmp_path, "b.csv", ragged('"never closed,ham')))
    assert csv.field_size_limit() == before


def test_pairs_and_files_without_labels(tmp_path) -> None:
    rows = [{"premise": f"p{i}", "other": f"h{i}"} for i in range(10)]
    data = load_file(write(tmp_path, "a.jsonl", as_jsonl(rows)), columns=Columns("premise", "other"))
    assert data.labels == ()
    assert {(e.text[1:] == e.pair[1:], e.label) for e in data.train} == {(True, None)}


def test_the_split_is_stratified_deterministic_and_shares_no_text(tmp_path) -> None:
    rows = [
        {"text": f"t{i // 2}", "label": "rare" if i >= 180 else "common"} for i in range(200)
    ]  # each twice
    path = write(tmp_path, "a.jsonl", as_jsonl(rows))
    data, again, other = load_data(path), load_data(path), load_data(path, seed=1)
    assert data == again
    assert data.held_out != other.held_out
    assert len(data.train) + len(data.held_out) == 200
    rare = data.labels.index("rare")
    assert sum(e.label == rare for e in data.held_out) == 4  # a fifth of 10 texts, each twice
    assert sum(e.label != rare for e in data.held_out) == 36
    assert shared_texts(data.train, data.held_out) == set()
    every_fifth = [e for i, e in enumerate(data.train + data.held_out) if i % 5 == 0]
    rest = [e for i, e in enumerate(data.train + data.held_out) if i % 5]
    assert shared_texts(rest, every_fifth)  # the naive split by row is caught


def test_a_premise_of_several_pairs_and_labels_stays_in_one_part(tmp_path) -> None:
    """As in NLI data: four hypotheses to each premise, one of them with the rare label."""
    kinds = ("yes", "no", "no", "perhaps")
    rows = [{"text": f"p{i // 4}", "pair": f"h{i}", "label": kinds[i % 4]} for i in range(160)]
    data = load_data(write(tmp_path, "a.jsonl", as_jsonl(rows)))
    assert shared_texts(data.train, data.held_out) == set()
    assert len(data.held_out) == 32  # a fifth, though each text has three labels


def test_one_pair_for_all_texts_can_be_split(tmp_path) -> None:
    rows = [{"text": f"t{i}", "pair": "Is it true?", "label": i % 2} for i in range(20)]
    assert len(load_data(write(tmp_path, "a.jsonl", as_jsonl(rows))).held_out) == 4
    swapped = [{**row, "text": row["pair"], "pair": row["text"]} for row in rows]
    with pytest.raises(ValueError, match="can't be split: rows with the same text stay together"):
        load_data(write(tmp_path, "b.jsonl", as_jsonl(swapped)))


def shared_texts(train, held_out) -> set[str]:
    return {e.text for e in train} & {e.text for e in held_out}


def test_a_class_of_one_stays_in_training(tmp_path) -> None:
    data = load_data(write(tmp_path, "a.jsonl", as_jsonl([*ROWS, {"text": "once", "label": "only"}])))
    assert "once" in {e.text for e in data.train}


def test_an_overlap_of_two_files_is_said(tmp_path) -> None:
    path, held = write(tmp_path, "a.csv", as_csv(ROWS)), write(tmp_path, "h.csv", as_csv(ROWS[:3]))
    with pytest.warns(UserWarning, match=r"h\.csv: 3 of 3 held-out texts are in the training file"):
        load_data(path, held_out=held)


def test_an_overlap_is_one_of_texts_whatever_their_pairs_are(tmp_path) -> None:
    rows = [{**row, "pair": f"pair {i}"} for i, row in enumerate(ROWS)]
    others = [{**row, "pair": "another"} for row in rows[:3]]
    held = write(tmp_path, "h.jsonl", as_jsonl(others))
    with pytest.warns(UserWarning, match="3 of 3 held-out texts are in the training file"):
        load_data(write(tmp_path, "a.jsonl", as_jsonl(rows)), held_out=held)
