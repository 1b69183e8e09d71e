"""Memory of an update: over time by category, its peak against M, and the options that a planner has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.machine import GIB
from accum_lib.memory.records import CATEGORIES, Peaks, Plan, Timeline
from accum_lib.words import N_, _, listed, sentences

LEFT, RIGHT = (0.0, 0.56), (0.67, 1.0)
TOP = (0.0, 0.8)
HEIGHTS = (1, 2, 4, 8, 16, 32, 64, 128)  # GiB that the time panel can be high: a scale that seldom changes
MARKERS = 7  # on one curve
AREAS = (  # from the bottom to the top: name, its categories, colour, dash, marker
    (N_("parameters"), ("parameters",), theme.BLUE, "solid", "circle"),
    (N_("optimizer state"), ("optimizer state",), theme.SKY, "dash", "square"),
    (N_("gradients"), ("gradients",), theme.VERMILION, "dot", "triangle-up"),
    (N_("16-bit weight copies"), ("weight copies",), theme.PURPLE, "dashdot", "diamond"),
    (N_("activations"), ("activations",), theme.ORANGE, "solid", "cross"),
    (N_("temporaries, rest"), ("inputs", "temporaries", "workspace"), theme.GREY, "dash", "x"),
)


def picture(timeline: Timeline, peaks: Peaks) -> Picture:
    """The timeline of one update, and beside it the peak against M.

    Args:
        timeline: of the chosen M and K.
        peaks: over M, for K = 1 and for K >= 2, in this order.
    """
    top = next((h for h in HEIGHTS if h * GIB > 1.02 * timeline.peak_bytes), HEIGHTS[-1])
    data = [*_areas(timeline), _update_begins(timeline, top), *_peak_curves(timeline, peaks)]
    sizes = peaks.micro_batch_sizes
    layout = theme.layout(
        height=440,
        top=8,
        legend={**theme.LEGEND, "traceorder": "normal"},  # where areas are stacked Plotly turns it round
        xaxis=theme.axis(_("operators run so far, in one update"), LEFT,
                         range=[0, float(timeline.operators[-1])], tickformat=",d", nticks=6),
        yaxis=theme.axis(_("memory in use, GiB"), TOP, range=[0, top]),
        xaxis2=theme.axis(_("micro-batch size M"), RIGHT, anchor="y2", type="log",
                          range=[float(np.log10(sizes[0] * 0.85)), float(np.log10(sizes[-1] * 1.18))],
                          tickvals=sizes.tolist(), ticktext=[str(s) for s in sizes]),
        yaxis2=theme.axis(_("peak, GiB"), TOP, anchor="x2", type="log", range=[-0.15, 1.55],
                          tickvals=[1, 2, 4, 8, 16, 32], ticktext=["1", "2", "4", "8", "16", "32"]),
    )  # fmt: skip
    return Picture(data, layout, summary(timeline, peaks))


def summary(t: Timeline, peaks: Peaks) -> str:
    """Peak, floor and what is in the peak, in words."""
    at = int(t.bytes_by_category.sum(axis=0).argmax())
    parts = {name: _part(t, kinds)[at] for name, kinds, *_look in AREAS}
    largest = sorted(parts, key=lambda name: -parts[name])[:3]
    inside = listed([f"{_(name)} {parts[name] / GIB:.2f}" for name in largest])
    floor = peaks.floor_bytes[min(t.accumulation_steps, 2) - 1]
    where = {
        "forward": _("in a forward pass"),
        "backward": _("in a backward pass"),
        "update": _("in the optimizer"),
    }
    says = _(
        "M = {m}, K = {k}: the peak is {peak:.2f} GiB, ",
        m=t.micro_batch_size,
        k=t.accumulation_steps,
        peak=t.peak_bytes / GIB,
    )
    return _(
        "{says}{where} ({inside}). However small M is, {floor:.2f} GiB remain.",
        says=says,
        where=where[t.peak_phase],
        inside=inside,
        floor=floor / GIB,
    )


def _part(timeline: Timeline, kinds: tuple[str, ...]) -> np.ndarray:
    return timeline.bytes_by_category[[CATEGORIES.index(kind) for kind in kinds]].sum(axis=0)


def _areas(timeline: Timeline) -> list[dict[str, Any]]:
    drawn: list[dict[str, Any]] = []
    height = np.zeros(len(timeline.operators))
    for name, kinds, colour, dash, symbol in AREAS:
        height = height + _part(timeline, kinds) / GIB
        area = theme.line(timeline.operators, height, "", _(name), colour, dash, "lines+markers", symbol, 6)
        area["fill"], area["fillcolor"] = "tonexty" if drawn else "tozeroy", colour
        area["line"]["width"] = 1
        area["marker"] |= {"color": theme.BLACK, "maxdisplayed": MARKERS}
        drawn.append(area)
    return drawn


def _update_begins(timeline: Timeline, top: float) -> dict[str, Any]:
    start = float(dict(timeline.phases)["update"])
    return theme.line([start, start], [0, top], "", _("the optimizer begins"), theme.BLACK, "dot")


def _peak_curves(timeline: Timeline, peaks: Peaks) -> list[dict[str, Any]]:
    sizes = peaks.micro_batch_sizes.astype(float)
    floor = peaks.floor_bytes[min(timeline.accumulation_steps, 2) - 1]
    chosen = [timeline.micro_batch_size], [timeline.peak_bytes / GIB]
    one, more = peaks.peak_bytes[0] / GIB, peaks.peak_bytes[1] / GIB
    return [
        theme.line(sizes, one, "2", "K = 1", theme.GREEN, "dash", "lines+markers", "triangle-up"),
        theme.line(sizes, more, "2", "K ≥ 2", theme.BLUE, "solid", "lines+markers"),
        theme.line(sizes, np.full(len(sizes), floor / GIB), "2", _("floor"), theme.GREY, "dot"),
        theme.line(*chosen, "2", _("chosen"), theme.VERMILION, "solid", "markers", "star", 15),
    ]


# --- The planner

SCALE = (1.5, 100.0)  # GiB; it stays as it is while a hand drags the card's line, if all is within


def plan_picture(plan: Plan) -> Picture:
    """For each option: its peak beside what the card allows, and its estimated time."""
    options = sorted(plan.options, key=lambda o: (o.precision != "fp32", o.checkpointing))
    positions = np.arange(len(options), dtype=float)
    fits = np.array([o.fits for o in options])
    peak = np.array([o.peak_bytes for o in options]) / GIB
    seconds = np.array([o.seconds or 0.0 for o in options])
    limit = plan.limit_bytes / GIB
    labels = [_label(o) for o in options]
    scale = min(SCALE[0], 0.8 * peak.min()), max(SCALE[1], 1.2 * max(limit, peak.max()))
    ticks = {
        "tickvals": positions.tolist(),
        "ticktext": labels,
        "range": [-0.6, len(options) - 0.4],
        "zeroline": False,
    }
    data = [
        _peaks(positions, np.where(fits, peak, np.nan), _("fits"), theme.BLUE, "square"),
        _peaks(positions, np.where(fits, np.nan, peak), _("does not fit"), theme.VERMILION, "x"),
        theme.line(
            [-0.6, len(options) - 0.4], [limit, limit], "", _("allowed on the card"), theme.BLACK, "dash"
        ),
        _times(positions, seconds),
    ]
    layout = theme.layout(
        height=400,
        top=8,
        margin={"l": 60, "r": 16, "t": 8, "b": 84},
        xaxis=theme.axis(_("option"), (0.0, 0.46), **ticks),
        yaxis=theme.axis(
            _("peak, GiB"), (0.0, 0.86), type="log", range=[float(np.log10(end)) for end in scale],
            tickvals=[2, 4, 8, 16, 32, 64], ticktext=["2", "4", "8", "16", "32", "64"],
        ),
        xaxis2=theme.axis(_("option"), (0.56, 1.0), anchor="y2", **ticks),
        yaxis2=theme.axis(
            _("seconds for one update"), (0.0, 0.86), anchor="x2", range=[0, 1.2 * max(seconds.max(), 1e-9)]
        ),
    )  # fmt: skip
    return Picture(data, layout, plan_summary(plan))


def plan_summary(plan: Plan) -> str:
    """The verdict and what to take, in words."""
    best = plan.best
    head = _(
        "{model}, B = {b}, {card} ({limit:.2f} GiB).",
        model=plan.model,
        b=plan.effective_batch_size,
        card=plan.card,
        limit=plan.limit_bytes / GIB,
    )
    if best is None:
        return sentences(head, plan.verdict)
    how = best.precision
    if best.checkpointing:
        how = _("{precision} with checkpointing", precision=best.precision)
    time = "" if best.seconds is None else _(", about {seconds:.2g} s by data sheets", seconds=best.seconds)
    m, k = best.micro_batch_size, best.accumulation_steps
    fastest = _(
        "Fastest of what fits: {how}, M = {m}, K = {k}{time}.",
        how=how,
        m=m,
        k=k,
        time=time,
    )
    return sentences(head, plan.verdict, fastest)


def _label(option: Any) -> str:
    words = option.precision + (_(", chkpt.") if option.checkpointing else "")
    best = (
        f"M = {option.micro_batch_size}<br>K = {option.accumulation_steps}"
        if option.fits
        else _("no M<br>fits")
    )
    return f"{words}<br>{best}"


def _peaks(x: np.ndarray, y: np.ndarray, name: str, colour: str, symbol: str) -> dict[str, Any]:
    return theme.line(x, y, "", name, colour, "solid", "markers", symbol, 16)


def _times(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    look = {"name": _("estimated time"), "width": 0.6, "marker": {"color": theme.ORANGE}}
    return {"type": "bar", "x": x, "y": y, "xaxis": "x2", "yaxis": "y2", **look}


STEPS = 2  # K of what is drawn; a larger one changes nothing that could be seen
NAMES = ("requested", "allocated", "reserved")
LOOKS = {  # by model and precision
    ("roberta-large", "fp32"): (theme.VERMILION, "solid", "diamond"),
    ("roberta-large", "bf16"): (theme.ORANGE, "dash", "square"),
    ("roberta-base", "fp32"): (theme.BLUE, "dashdot", "circle"),
    ("roberta-base", "bf16"): (theme.SKY, "dot", "triangle-up"),
}
WIDE, GPU_TOP = (0.0, 1.0), (0.0, 0.86)


def gpu_picture(rows: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the peak of what is allocated: predictions as lines, measurements as markers.

    T = 128 and T = 512 lie on one another, for the same M T takes the same bytes.

    Args:
        rows: the cells of ``benchmarks/gpu/memory_grid.py``; those that failed are left out.
    """
    rows = [row for row in rows if "failure" not in row]
    data = []
    for (model, precision), (colour, dash, symbol) in LOOKS.items():
        mine = {
            row["tokens"] * row["micro_batch_size"]: row
            for row in rows
            if (row["model"], row["precision"], row["accumulation_steps"]) == (model, precision, STEPS)
        }
        x = sorted(mine)
        lines, marks = ([mine[t][f"{kind}_allocated"] / GIB for t in x] for kind in ("predicted", "measured"))
        data.append(theme.line(x, lines, "", "", colour, dash))
        data.append(theme.line(x, marks, "", f"{model}, {precision}", colour, dash, "markers", symbol, 9))
    ticks = sorted({row["tokens"] * row["micro_batch_size"] for row in rows})
    layout = theme.layout(
        height=400,
        top=8,
        xaxis=theme.axis(
            _("tokens in a micro-batch, M T"), WIDE, type="log",
            tickvals=ticks, ticktext=[f"{t:,}" for t in ticks],
        ),
        yaxis=theme.axis(
            _("peak, GiB: predicted (line), measured (mark)"), GPU_TOP, type="log",
            tickvals=[2, 4, 8, 16, 32, 64], ticktext=["2", "4", "8", "16", "32", "64"],
        ),
    )  # fmt: skip
    return Picture(data, layout, gpu_summary(rows))


def gpu_summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many settings are right to the byte, and the largest errors, in words."""
    exact = sum(row["predicted_requested"] == row["measured_requested"] for row in rows)
    worst = [max(abs(row[f"error_{name}"]) for row in rows) for name in NAMES]
    return _(
        "{number} settings of RoBERTa. Requested bytes: {exact} predicted to the byte, the worst off by "
        "{requested:.2%}; allocated off by {allocated:.2%} at most, reserved by {reserved:.1%}.",
        number=len(rows),
        exact=exact,
        requested=worst[0],
        allocated=worst[1],
        reserved=worst[2],
    )
