"""The reports on a loop as one self-contained page: no script, nothing fetched, light and dark."""

from collections.abc import Sequence
from html import escape

import numpy as np

from accum_lib.check.report import Diagnosis, Report, UpdateCheck, numbers_of, verdict
from accum_lib.words import _, language

CELL, BAR, ROW, LEFT, GAP, TOP = 26, 18, 34, 96, 40, 44  # pixels
MOST = 1.5  # a bar of this weight is as high as its row; longer ones are cut, and marked

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --paper: #fff; --soft: #6b6b76; --line: #d5d5dc;
  --found: #0072b2; --right: #009e73; --wrong: #b3261e; --code: #f3f3f6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ee; --paper: #17171b; --soft: #a0a0ac;
  --line: #3a3a44; --found: #56b4e9; --right: #2fc59a; --wrong: #ff8a80; --code: #24242b; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
.equal { color: var(--right); } .wrong { color: var(--wrong); } .soft { color: var(--soft); }
pre { background: var(--code); padding: .5rem .75rem; overflow-x: auto; }
figure { margin: 1rem 0; overflow-x: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); } svg .axis { stroke: var(--line); }
svg .found { fill: var(--found); } svg .right { fill: none; stroke: var(--right); stroke-width: 2; }
svg .cut { fill: var(--wrong); }
"""


def page(loop: str, reports: Sequence[Report]) -> str:
    """The whole page.

    Args:
        loop: its name, as it was given.
    """
    equal = all(report.ok for report in reports)
    said = (
        _("makes the updates of one big batch") if equal else _("does not make the updates of one big batch")
    )
    title = f"{loop} {said}"
    body = "".join(map(_section, reports))
    return (
        f'<!doctype html>\n<html lang="{language()}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f'<body><h1><code>{escape(loop)}</code> <span class="{_tone(equal)}">{escape(said)}</span></h1>'
        f"{body}</body></html>\n"
    )


def _tone(equal: bool) -> str:
    return "equal" if equal else "wrong"


def _section(report: Report) -> str:
    numbers = "<br>".join(escape(line.strip()) for line in numbers_of(report))
    remarks = "".join(f'<p class="soft">{escape(remark)}.</p>' for remark in report.remarks)
    return (
        f'\n<section><h2>{escape(report.case)}: <span class="{_tone(report.ok)}">{escape(verdict(report))}'
        f"</span></h2><p>{numbers}</p>{_faults(report.diagnoses)}{remarks}{_picture(report)}</section>"
    )


def _faults(found: Sequence[Diagnosis]) -> str:
    if not found:
        return ""
    return (
        "<ul>"
        + "".join(f"<li><b>{escape(d.code)}</b>: {escape(d.message)}.{_place(d)}</li>" for d in found)
        + "</ul>"
    )


def _place(found: Diagnosis) -> str:
    place = found.place
    if place is None:
        return ""
    lines = [f"{place.file}:{place.line}", f"- {place.source}", *(f"+ {line}" for line in place.instead)]
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _picture(report: Report) -> str:
    """A row for each update: the weights that were found, and beside them those of one big batch."""
    shown = [u for u in report.updates if np.isfinite(u.weights).any()]
    if not shown:
        return ""
    number = len(report.counts)
    second = LEFT + number * CELL + GAP
    width, height = second + number * CELL + 8, TOP + len(shown) * ROW + 8
    heads = [(LEFT, _("this loop")), (second, _("one big batch"))]
    parts = [f'<text x="{x}" y="14">{escape(words)}</text>' for x, words in heads]
    parts += [
        f'<text x="{x + i * CELL + BAR / 2}" y="32" text-anchor="middle">{i}</text>'
        for x, _words in heads for i in range(number)
    ]  # fmt: skip
    for row, update in enumerate(shown):
        parts += _row(update, report.updates.index(update), TOP + (row + 1) * ROW - 6, second)
    words = _("How much each micro-batch weighs in each update; 1 where it belongs to it, and else 0.")
    return (
        f'<figure><svg role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<title>{escape(words)}</title>{''.join(parts)}</svg>"
        f'<figcaption class="soft">{escape(words)}</figcaption></figure>'
    )


def _row(update: UpdateCheck, number: int, base: int, second: int) -> list[str]:
    label = _("update {number}", number=number)
    parts = [f'<text x="0" y="{base}">{escape(label)}</text>']
    for i, weight in enumerate(update.weights):
        for x, value, kind in ((LEFT, weight, "found"), (second, float(i in update.expected), "right")):
            left = x + i * CELL
            parts.append(f'<path class="axis" d="M{left} {base}h{BAR}"/>')
            if np.isfinite(value) and abs(value) > 1e-3:
                kept = min(abs(value), MOST)
                tall, cut = kept / MOST * (ROW - 10), " cut" if abs(value) > 1.01 * MOST else ""
                hint = f"<title>{value:.3f}</title>"
                if cut:  # it says how long it is
                    parts.append(
                        f'<text x="{left + BAR / 2}" y="{base - tall - 1:.1f}" text-anchor="middle">'
                        f"{value:.1f}</text>"
                    )
                parts.append(
                    f'<rect class="{kind}{cut}" x="{left}" y="{base - tall:.1f}" width="{BAR}" '
                    f'height="{tall:.1f}">{hint}</rect>'
                )
    return parts
