"""The frameworks in environments of their own as rows, a table and CSV."""

import csv
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from accum_lib.check.frameworks.apart.cases import ArrayCase, array_cases
from accum_lib.check.frameworks.apart.compare import Verdict, compare
from accum_lib.check.frameworks.apart.environments import FRAMEWORKS, Apart


@dataclass(frozen=True)
class Row:
    """One case of one framework; without numbers where it could not be run, for the ``reason``."""

    framework: str
    version: str
    case: str
    factor: float | None = None
    error: float | None = None
    wrong: str = ""
    mended: float | None = None
    still_wrong: str = ""
    reason: str = ""


def chosen(pattern: str) -> list[Apart]:
    """The frameworks whose name or package the pattern names.

    Raises:
        ValueError: there is none.
    """
    low = pattern.lower()
    found = [
        each for each in FRAMEWORKS
        if any(fnmatchcase(name.lower(), low) for name in (each.name, each.package))
    ]  # fmt: skip
    if not found:
        names = ", ".join(dict.fromkeys(each.package for each in FRAMEWORKS))
        raise ValueError(f"--framework {pattern!r} names none of {names}; '*' takes all")
    return found


def rows(framework: Apart, cases: Sequence[ArrayCase] | None = None) -> Iterator[Row]:
    """Make the environment, run every case in it, and compare."""
    name, version = framework.name, framework.version
    every = array_cases() if cases is None else cases
    try:
        framework.make()
        answers = framework.run(every)
    except RuntimeError as error:
        yield Row(name, version, "", reason=str(error))
        return
    for case, answer in zip(every, answers, strict=True):
        yield row_of(name, version, case, answer)


def row_of(name: str, version: str, case: ArrayCase, answer: dict[str, Any]) -> Row:
    """The row of one case."""
    if "error" in answer["documented"]:
        return Row(name, version, case.name, reason=answer["documented"]["error"])
    seen, mended = compare(case, answer["documented"]), answer.get("mended")
    better: Verdict | None = None
    if mended is not None:
        if "error" in mended:
            return Row(
                name, version, case.name, seen.factor, seen.error, _listed(seen), reason=mended["error"]
            )
        better = compare(case, mended)
    return Row(
        name, version, case.name, seen.factor, seen.error, _listed(seen),
        better.error if better else None, "" if better is None or better.exact else _listed(better),
    )  # fmt: skip


def _listed(verdict: Verdict) -> str:
    return "; ".join(verdict.wrong) or "exact"


def text(found: Sequence[Row]) -> str:
    """Every row, as a Markdown table."""
    lines = ["| framework | case | factor | error | what is wrong | mended |", "|---|---|---:|---:|---|---|"]
    for row in found:
        numbers = "" if row.factor is None else f"{row.factor:.2f}", _small(row.error)
        wrong = row.wrong or f"not run: {row.reason}"
        mended = row.still_wrong or row.reason if row.wrong else ""
        cells = [f"{row.framework} {row.version}", row.case, *numbers, wrong, mended or _small(row.mended)]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def summary(found: Sequence[Row]) -> str:
    """A line for each framework: in how many cases it is exact, what is wrong in the others, the remedy."""
    remedies = {(each.name, each.version): each.remedy for each in FRAMEWORKS}
    lines = [
        "| framework | exact | factor | what is wrong | remedy | exact with it |",
        "|---|---|---|---|---|---|",
    ]
    for name, version in dict.fromkeys((row.framework, row.version) for row in found):
        own = [row for row in found if (row.framework, row.version) == (name, version)]
        ran = [row for row in own if row.wrong]
        if not ran:
            lines.append(f"| {name} {version} | not run | | {own[0].reason} | | |")
            continue
        good = sum(row.wrong == "exact" for row in ran)
        factors = [row.factor for row in ran if row.factor is not None]
        wrong = dict.fromkeys(w for row in ran if row.wrong != "exact" for w in row.wrong.split("; "))
        good_anyway = sum(row.mended is None and row.wrong == "exact" and not row.reason for row in ran)
        mended = good_anyway + sum(row.mended is not None and not row.still_wrong for row in ran)
        spread = f"{min(factors):.2f} to {max(factors):.2f}" if factors else ""
        lines.append(
            f"| {name} {version} | {good} of {len(ran)} | {spread} | {'; '.join(wrong)} "
            f"| {remedies.get((name, version), '')} | {mended} of {len(ran)} |"
        )
    return "\n".join(lines)


def write_csv(file: pathlib.Path, heading: str, found: Sequence[Row]) -> None:
    """Write the rows; the first line is a comment with the versions and the date."""
    with file.open("w", encoding="utf-8", newline="") as out:
        out.write(f"# {heading}\n")
        writer = csv.DictWriter(out, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v is None else _rounded(v) for k, v in asdict(r).items()} for r in found)


def read_csv(file: pathlib.Path) -> list[Row]:
    """What ``write_csv`` wrote."""
    found: list[dict[str, Any]] = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()[1:]))
    for row in found:
        row |= {name: float(row[name]) if row[name] else None for name in ("factor", "error", "mended")}
    return [Row(**row) for row in found]


def _rounded(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"
