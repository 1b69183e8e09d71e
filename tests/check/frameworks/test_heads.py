"""Heads of Transformers: a drawn few of the stored table are measured again; what would be wrong is seen."""

import os
import random
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from accum_lib.__main__ import main
from accum_lib.check.frameworks.heads import measure as measuring
from accum_lib.check.frameworks.heads import run
from accum_lib.check.frameworks.heads.measure import HeadRow
from accum_lib.check.frameworks.heads.table import read_csv
from accum_lib.exact import NOT_EXACT

ROOT = Path(__file__).resolve().parents[3]
STORED = read_csv(ROOT / "docs" / "heads.csv")
DRAWN = random.Random(25).sample([row for row in STORED.rows if row.diagnosis], 20)


def differs(row: HeadRow, again: HeadRow) -> list[str]:
    """What the second measurement says otherwise; numbers to three digits."""
    found = [name for name in ("diagnosis", "dtype") if getattr(row, name) != getattr(again, name)]
    for name in ("factor", "one", "error", "mended"):
        one, other = getattr(row, name), getattr(again, name)
        if (one is None) != (other is None) or (
            one is not None and abs(one - other) > 1e-3 * max(1, abs(one))
        ):
            found.append(name)
    return found


@pytest.fixture(scope="module")
def again() -> dict[tuple[str, str], HeadRow]:
    """The first four that were drawn, measured now."""
    return measured_now(DRAWN[:4])


def measured_now(rows: list[HeadRow]) -> dict[tuple[str, str], HeadRow]:
    heads = [(row.head, row.model_type) for row in rows]
    return {(row.head, row.model_type): row for row in run.measured(heads)}


def comparable() -> None:
    if f"transformers {version('transformers')}," not in STORED.versions:
        pytest.skip(f"the table is of {STORED.versions}; measure it again: accum scoreboard --heads --csv")


def test_drawn_rows_of_the_table_are_measured_again(again) -> None:
    comparable()
    assert len(again) == 4
    for row in DRAWN[:4]:
        assert differs(row, again[row.head, row.model_type]) == [], row


@pytest.mark.slow
def test_twenty_drawn_rows_are_measured_again() -> None:
    comparable()
    found = measured_now(DRAWN)
    assert {row.head: bad for row in DRAWN if (bad := differs(row, found[row.head, row.model_type]))} == {}


def test_an_altered_row_is_noticed(again) -> None:
    comparable()
    row = next(iter(again.values()))
    assert differs(row, row) == []
    assert differs(replace(row, diagnosis="other"), row) == ["diagnosis"]
    assert differs(replace(row, factor=row.factor * 1.01 + 0.01), row) == ["factor"]
    assert differs(replace(row, mended=None if row.mended is not None else 1.0), row) == ["mended"]


def test_the_table_is_large_and_leaves_nothing_out() -> None:
    comparable()
    there = {(row.head, row.model_type) for row in STORED.rows}
    assert there == set(run.heads())
    assert len(there) == len(STORED.rows) >= 600
    assert sum(bool(row.diagnosis) for row in STORED.rows) >= 350
    assert all(row.diagnosis or row.reason for row in STORED.rows)
    assert STORED.summary() in (ROOT / "docs" / "heads.md").read_text()


def test_trainer_loss_is_exact_or_refuses_with_every_measured_head() -> None:
    mended = [row for row in STORED.rows if row.mended is not None]
    assert len(mended) >= 300
    assert [row.head for row in mended if row.mended > 1e-5] == []
    assert all(row.reason for row in STORED.rows if row.mended is None)
    assert not any(row.head.endswith(NOT_EXACT) for row in mended)


def test_heads_are_found_also_those_that_inherit_their_forward() -> None:
    assert ("LlamaForSequenceClassification", "llama") in run.heads("Llama*")
    assert {model for _, model in run.heads("whisper")} == {"whisper"}
    assert not any(name == "BertModel" for name, _ in run.heads("bert"))
    with pytest.raises(ValueError, match="names none of"):
        run.heads("NoSuch*")


def fake(head: str, model_type: str) -> HeadRow:
    if head == "Crashes":
        os._exit(3)
    if head == "Hangs":
        time.sleep(60)
    return HeadRow(head, model_type, diagnosis="exact")


def test_a_crash_and_a_hang_cost_one_row_each_and_a_file_is_resumed(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(run, "measure", fake)
    heads, file = [(name, "m") for name in ("Crashes", "Fine", "Hangs", "Good")], tmp_path / "rows.jsonl"
    rows = {row.head: row for row in run.measured(heads, file, limit=2)}
    assert rows["Crashes"].reason == "its process ended with status 3"
    assert rows["Hangs"].reason == "not done after 2 s"
    assert rows["Fine"].diagnosis == rows["Good"].diagnosis == "exact"
    file.write_text(file.read_text() + '{"head": "cut')
    monkeypatch.setattr(run, "_pool", lambda todo, *_: iter([HeadRow(*head) for head in todo]))
    resumed = list(run.measured([*heads, ("New", "m")], file))
    assert [row.head for row in resumed if not row.diagnosis and not row.reason] == ["New"]
    assert len(resumed) == 5


def vectors(*weights: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [w * torch.randn(50, dtype=torch.float64, generator=generator) for w in weights]


def test_diagnoses_are_told_apart() -> None:
    own = vectors(1, 1, 1, 1)
    true = 0.4 * own[0] + 0.3 * own[1] + 0.2 * own[2] + 0.1 * own[3]
    total = sum(own)
    near, told = 1e-8, {}
    for name, found in {"exact": true, "4": 4 * true, "sum": total, "mean": total / 4, "0.8": 0.8 * true,
                        "?": own[0] - own[1]}.items():  # fmt: skip
        told[name] = measuring._diagnosis(found, true, own, near)
    assert list(told.values()) == [
        measuring.EXACT, measuring.K_TIMES, measuring.K_MEANS, measuring.MEANS, measuring.DENOMINATOR,
        measuring.OTHER,
    ]  # fmt: skip
    assert measuring._weighable(true, own, near)
    assert not measuring._weighable(true + vectors(1, 1, 1, 1, 1)[4], own, near)


def test_the_command_measures_writes_and_refuses(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(run, "measure", lambda head, model: HeadRow(head, model, "exact", 1.0, 1.0, 0.0, 0.0))
    files = {kind: tmp_path / f"heads.{kind}" for kind in ("csv", "html")}
    words = ["scoreboard", "--heads", "--only", "Roberta*", "--csv", str(files["csv"])]
    assert main([*words, "--html", str(files["html"])]) == 0
    out, err = capsys.readouterr()
    assert "| RobertaForMaskedLM | roberta | 1.00 |" in out
    assert "1 of " in err
    rows = read_csv(files["csv"]).rows
    assert {row.head for row in rows} == {name for name, _ in run.heads("Roberta*")}
    assert rows[0].factor == 1.0
    assert "RobertaForMaskedLM" in files["html"].read_text()
    assert main(["scoreboard", "--only", "x"]) == 2
    assert "add --heads" in capsys.readouterr().err
