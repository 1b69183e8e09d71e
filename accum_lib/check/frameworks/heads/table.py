"""The measured heads as a table, CSV, one page, and what is worth saying about all of them."""

import csv
import html
import pathlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from accum_lib.check.frameworks.heads.measure import K_MEANS, K_TIMES, HeadRow, K

COLUMNS = [field.name for field in fields(HeadRow) if field.name != "seconds"]
NUMBERS = ("factor", "one", "error", "mended")
MENDED = 1e-5


@dataclass(frozen=True)
class Board:
    """Rows, and with what they were measured: ``transformers 5.23.0, torch 2.13.0, 2026-11-28``."""

    versions: str
    rows: list[HeadRow]

    def write_csv(self, file: pathlib.Path) -> None:
        """Write the table; its first line is a comment with the versions."""
        with file.open("w", encoding="utf-8", newline="") as out:
            out.write(f"# {self.versions}\n")
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in sorted(self.rows, key=lambda r: (r.model_type, r.head)):
                values = row.as_dict()
                writer.writerow(["" if values[c] is None else values[c] for c in COLUMNS])

    def write_html(self, file: pathlib.Path) -> None:
        """One page without scripts from elsewhere: the summary, and every row."""
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row)) + "</tr>\n"
            for row in self.rows
        )
        heading = "".join(f"<th>{each}</th>" for each in HEADINGS)
        file.write_text(
            f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Heads of Transformers</title>
<style>body {{ font: 15px sans-serif; margin: 2em }} td, th {{ padding: .2em .8em; text-align: left }}
tr:nth-child(even) {{ background: #f2f2f2 }} pre {{ white-space: pre-wrap }}</style>
<h1>Gradient accumulation in the heads of Transformers</h1><p>{html.escape(self.versions)}</p>
<pre>{html.escape(self.summary())}</pre>
<table><thead><tr>{heading}</tr></thead><tbody>
{cells}</tbody></table></html>
""",
            encoding="utf-8",
        )

    def text(self) -> str:
        """Every row, as a Markdown table."""
        lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---|---:|---:|---:|---|---|"]
        return "\n".join(
            lines + ["| " + " | ".join(c.replace("|", "/") for c in _cells(r)) + " |" for r in self.rows]
        )

    def summary(self) -> str:
        """Counts, and the heads whose gradient is K times too large, by model."""
        done = [row for row in self.rows if row.diagnosis]
        lines = [
            f"{len(self.rows)} classes take labels; {len(done)} were measured, {len(self.rows) - len(done)} "
            f"could not be. K = {K} beside one big batch:",
            "",
        ]
        counts = Counter(row.diagnosis for row in done)
        lines += [f"- {number} {name}" for name, number in counts.most_common()]
        wrong = [row for row in done if row.diagnosis in (K_TIMES, K_MEANS)]
        mended = sum(row.mended is not None and row.mended < MENDED for row in wrong)
        lines += [
            "",
            f"`trainer_loss` makes {mended} of the {len(wrong)} that are K times too large exact:",
            "",
        ]
        by_model: dict[str, list[str]] = {}
        for row in sorted(wrong, key=lambda r: (r.model_type, r.head)):
            by_model.setdefault(row.model_type, []).append(row.head)
        return "\n".join(lines + [f"- {model}: {', '.join(names)}" for model, names in by_model.items()])


def read_csv(file: pathlib.Path) -> Board:
    """What ``Board.write_csv`` wrote."""
    first, *lines = file.read_text(encoding="utf-8").splitlines()
    found: list[dict[str, Any]] = list(csv.DictReader(lines))
    for row in found:
        row |= {name: float(row[name]) if row[name] else None for name in NUMBERS}
    return Board(first.removeprefix("# "), [HeadRow(**row) for row in found])


HEADINGS = ["class", "model", "factor", "K = 1", "error", "diagnosis", "mended"]


def _cells(row: HeadRow) -> Sequence[str]:
    if not row.diagnosis:
        return [row.head, row.model_type, "", "", "", f"not measured: {row.reason}", ""]
    mended = row.reason if row.mended is None else f"{row.mended:.0e}"
    numbers = ["" if x is None else f"{x:.2f}" for x in (row.factor, row.one)]
    error = "" if row.error is None else f"{row.error:.0e}"
    return [row.head, row.model_type, *numbers, error, row.diagnosis, mended]
