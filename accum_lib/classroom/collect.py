"""The progress files that students handed in, as a table: who predicted what and solved which exercise."""

import csv
import html
import json
import pathlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from accum_lib.lessons.kit.progress import Progress, ProgressError, read
from accum_lib.words import printable

LARGEST = 1_000_000  # bytes; a progress file holds a few thousand
RIGHT, WRONG, SOLVED, NOTHING = "right", "wrong", "solved", ""
STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff }
table { border-collapse: collapse } th, td { border: 1px solid #bbb; padding: .25rem .6rem; text-align: left }
thead th { position: sticky; top: 0; background: #f2f2f2; vertical-align: bottom }
.wrong { background: #fde3d3 } .right, .solved { background: #dcedf8 } tfoot td, tfoot th { font-weight: 600 }
"""


@dataclass(frozen=True)
class HandedIn:
    """What came in.

    Attributes:
        progress: of each student, by name: the file's, or its folder's.
        faults: a sentence for each file that is left out.
        questions, exercises: all names, in the course's order where it is known.
    """

    progress: dict[str, Progress]
    faults: tuple[str, ...]
    questions: tuple[str, ...]
    exercises: tuple[str, ...]


def collect(folder: pathlib.Path, questions: Sequence[str] = (), exercises: Sequence[str] = ()) -> HandedIn:
    """Read every progress file of the folder and of those in it.

    Args:
        folder: with files such as ``anna.json``, or ``anna/.progress.json``.
        questions, exercises: the names that the course has; files with others are left out. If none are
            given, the files' own count.

    Raises:
        ValueError: there is no such folder, or no progress file in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: name the one that holds the files that were handed in")
    paths = sorted(path for path in folder.rglob("*.json") if path.is_file())
    if not paths:
        raise ValueError(f"{folder} holds no .json file: let students hand in .progress.json, renamed or not")
    found: dict[str, Progress] = {}
    faults = []
    for path in paths:
        try:
            found[_who(path, folder)] = _checked(path, questions, exercises)
        except ProgressError as error:
            faults.append(f"{printable(str(path.relative_to(folder)))}: {error}")
    asked = dict.fromkeys([*questions, *(name for each in found.values() for name in each.predictions)])
    tasks = dict.fromkeys([*exercises, *(name for each in found.values() for name in each.exercises)])
    return HandedIn(found, tuple(faults), tuple(asked), tuple(tasks))


def _who(path: pathlib.Path, folder: pathlib.Path) -> str:
    """A student's name: the file's, or that of its folder if the file is called as everybody's is."""
    place = path.relative_to(folder).with_suffix("")
    if place.name in (".progress", "progress") and place.parent != pathlib.Path():
        place = place.parent
    return printable(place.as_posix())


def _checked(path: pathlib.Path, questions: Sequence[str], exercises: Sequence[str]) -> Progress:
    if path.stat().st_size > LARGEST:
        raise ProgressError("is far too large for a progress file")
    try:
        progress = read(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        kind = "is no JSON" if isinstance(error, json.JSONDecodeError) else "is not what a notebook writes"
        raise ProgressError(f"{kind}: ask for it once more") from error
    for given, known in ((progress.predictions, questions), (progress.exercises, exercises)):
        if known and (strange := [name for name in given if name not in known]):
            raise ProgressError(
                f"names {printable(strange[0])!r}, which no notebook has, so it was edited or is of another "
                "version"
            )
    if len(set(progress.exercises)) < len(progress.exercises):
        raise ProgressError("names an exercise twice, which no notebook does")
    return progress


def rows(handed_in: HandedIn) -> list[list[str]]:
    """The table: a head, and a row for each student."""
    table = [["student", *handed_in.questions, *handed_in.exercises]]
    for who, done in handed_in.progress.items():
        guesses = [done.predictions.get(name) for name in handed_in.questions]
        said = [NOTHING if guess is None else RIGHT if guess else WRONG for guess in guesses]
        solved = [SOLVED if name in done.exercises else NOTHING for name in handed_in.exercises]
        table.append([who, *said, *solved])
    return table


def write_csv(handed_in: HandedIn, out: pathlib.Path) -> None:
    """As a spreadsheet reads it; what it would take for a formula has an apostrophe before it."""
    with out.open("w", encoding="utf-8-sig", newline="") as file:
        for row in rows(handed_in):
            csv.writer(file).writerow([f"'{cell}" if cell[:1] in "=+-@\t" and cell else cell for cell in row])


def write_page(handed_in: HandedIn, out: pathlib.Path) -> None:
    """The same as a page, with what is most often predicted wrongly first."""
    head, *body = rows(handed_in)
    totals = ["of those who answered"]
    for column in list(zip(*body, strict=True))[1:]:
        count = Counter(column)
        answered = count[RIGHT] + count[WRONG]
        totals.append(f"{count[WRONG]} of {answered} wrong" if answered else f"{count[SOLVED]} solved")
    parts = [
        "<!doctype html>", '<html lang="en"><meta charset="utf-8"><title>The class</title>',
        f"<style>{STYLE}</style><h1>The class</h1>", _beliefs(handed_in), _faults(handed_in),
        "<table><thead><tr>", *(f'<th scope="col">{html.escape(name)}</th>' for name in head),
        "</tr></thead><tbody>",
    ]  # fmt: skip
    for who, *cells in body:
        marks = "".join(f'<td class="{cell}">{cell}</td>' for cell in cells)
        parts.append(f'<tr><th scope="row">{html.escape(who)}</th>{marks}</tr>')
    feet = "".join(f"<td>{html.escape(total)}</td>" for total in totals)
    parts.append(f"</tbody><tfoot><tr>{feet}</tr></tfoot></table>\n")
    out.write_text("\n".join(parts), encoding="utf-8")


def _beliefs(handed_in: HandedIn) -> str:
    """Which questions were predicted wrongly, the most frequent first: what to talk about."""
    wrong = Counter(
        name for p in handed_in.progress.values() for name, hit in p.predictions.items() if not hit
    )
    if not wrong:
        return "<p>No prediction was wrong.</p>"
    items = "".join(f"<li>{html.escape(name)}: {count}</li>" for name, count in wrong.most_common())
    return f"<h2>Predicted wrongly</h2><ol>{items}</ol>"


def _faults(handed_in: HandedIn) -> str:
    if not handed_in.faults:
        return ""
    items = "".join(f"<li>{html.escape(fault)}</li>" for fault in handed_in.faults)
    return f"<h2>Left out</h2><ul>{items}</ul>"
