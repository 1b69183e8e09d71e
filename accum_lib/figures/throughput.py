"""Samples per second and peak memory against K at fixed B, for several training loops."""

from collections.abc import Mapping, Sequence
from typing import Any

from accum_lib.figures import theme
from accum_lib.figures.picture import Picture
from accum_lib.records.memory import GIB
from accum_lib.words import _, listed

LEFT, RIGHT = (0.0, 0.44), (0.56, 1.0)
TOP = (0.0, 0.82)
LOOKS = (
    (theme.BLUE, "solid", "circle"),
    (theme.ORANGE, "dash", "square"),
    (theme.GREEN, "dot", "diamond"),
    (theme.VERMILION, "dashdot", "x"),
)


def picture(rows: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the rows of one model, precision and B, as ``tests/gpu/roberta_lab.py`` writes them.

    Args:
        rows: with "loop", "accumulation_steps", "samples_per_second" and "peak_bytes" (None on a CPU); of
            four loops at most.

    Raises:
        ValueError: there are more loops than looks to tell them apart.
    """
    loops = list(dict.fromkeys(row["loop"] for row in rows))
    if len(loops) > len(LOOKS):
        raise ValueError(f"{len(loops)} loops are too many for one picture, which has {len(LOOKS)} looks")
    data = []
    for loop, (colour, dash, symbol) in zip(loops, LOOKS, strict=False):
        mine = sorted((r for r in rows if r["loop"] == loop), key=lambda r: r["accumulation_steps"])
        steps = [r["accumulation_steps"] for r in mine]
        look = (colour, dash, "lines+markers", symbol)
        data.append(theme.line(steps, [r["samples_per_second"] for r in mine], "", loop, *look))
        data.append(theme.line(steps, [(r["peak_bytes"] or 0) / GIB for r in mine], "2", "", *look))
    fastest = max(r["samples_per_second"] for r in rows)
    steps = sorted({r["accumulation_steps"] for r in rows})
    ticks = {"type": "log", "tickvals": steps, "ticktext": [str(k) for k in steps]}
    layout = theme.layout(
        height=360,
        top=8,
        xaxis=theme.axis(_("accumulation steps K, at fixed B"), LEFT, **ticks),
        yaxis=theme.axis(_("samples per second"), TOP, range=[0, 1.2 * fastest]),
        xaxis2=theme.axis(_("accumulation steps K, at fixed B"), RIGHT, anchor="y2", **ticks),
        yaxis2=theme.axis(
            _("peak memory, GiB"), TOP, anchor="x2",
            range=[0, 1.2 * max((r["peak_bytes"] or 0) for r in rows) / GIB or 1.0],
        ),
    )  # fmt: skip
    return Picture(data, layout, summary(rows))


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The fastest setting of each loop, in words."""
    first = rows[0]
    batch = first["micro_batch_size"] * first["accumulation_steps"]
    best: dict[str, str] = {}  # the fastest loop first
    for row in sorted(rows, key=lambda r: -r["samples_per_second"]):
        if row["loop"] not in best:
            best[row["loop"]] = (
                f"{row['loop']} {row['samples_per_second']:.0f} (K = {row['accumulation_steps']})"
            )
    what = f"{first['model']}, {first['precision']}, T = {first['tokens']}, B = {batch}"
    return _("{what}: most samples per second: {best}.", what=what, best=listed(list(best.values())))
