"""Memory of an update: over time by category, its peak against M, and the options that a planner has."""

from typing import Any

import numpy as np

from accum_lib.figures import theme
from accum_lib.figures.picture import Picture
from accum_lib.records.memory import CATEGORIES, GIB, Peaks, Plan, Timeline

LEFT, RIGHT = (0.0, 0.56), (0.67, 1.0)
TOP = (0.0, 0.8)
HEIGHTS = (1, 2, 4, 8, 16, 32, 64, 128)  # GiB that the time panel can be high: a scale that seldom changes
MARKERS = 7  # on one curve
AREAS = (  # from the bottom to the top: name, its categories, colour, dash, marker
    ("parameters", ("parameters",), theme.BLUE, "solid", "circle"),
    ("optimizer state", ("optimizer state",), theme.SKY, "dash", "square"),
    ("gradients", ("gradients",), theme.VERMILION, "dot", "triangle-up"),
    ("16-bit weight copies", ("weight copies",), theme.PURPLE, "dashdot", "diamond"),
    ("activations", ("activations",), theme.ORANGE, "solid", "cross"),
    ("temporaries, rest", ("inputs", "temporaries", "workspace"), theme.GREY, "dash", "x"),
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
        xaxis=theme.axis("operators run so far, in one update", LEFT,
                         range=[0, float(timeline.operators[-1])], tickformat=",d", nticks=6),
        yaxis=theme.axis("memory in use, GiB", TOP, range=[0, top]),
        xaxis2=theme.axis("micro-batch size M", RIGHT, anchor="y2", type="log",
                          range=[float(np.log10(sizes[0] * 0.85)), float(np.log10(sizes[-1] * 1.18))],
                          tickvals=sizes.tolist(), ticktext=[str(s) for s in sizes]),
        yaxis2=theme.axis("peak, GiB", TOP, anchor="x2", type="log", range=[-0.15, 1.55],
                          tickvals=[1, 2, 4, 8, 16, 32], ticktext=["1", "2", "4", "8", "16", "32"]),
    )  # fmt: skip
    return Picture(data, layout, summary(timeline, peaks))


def summary(t: Timeline, peaks: Peaks) -> str:
    """Peak, floor and what is in the peak, in words."""
    at = int(t.bytes_by_category.sum(axis=0).argmax())
    parts = {name: _part(t, kinds)[at] for name, kinds, *_ in AREAS}
    largest = sorted(parts, key=lambda name: -parts[name])[:3]
    inside = ", ".join(f"{name} {parts[name] / GIB:.2f}" for name in largest)
    floor = peaks.floor_bytes[min(t.accumulation_steps, 2) - 1]
    where = {"forward": "in a forward pass", "backward": "in a backward pass", "update": "in the optimizer"}
    says = f"M = {t.micro_batch_size}, K = {t.accumulation_steps}: the peak is {t.peak_bytes / GIB:.2f} GiB, "
    return f"{says}{where[t.peak_phase]} ({inside}). However small M is, {floor / GIB:.2f} GiB remain."


def _part(timeline: Timeline, kinds: tuple[str, ...]) -> np.ndarray:
    return timeline.bytes_by_category[[CATEGORIES.index(kind) for kind in kinds]].sum(axis=0)


def _areas(timeline: Timeline) -> list[dict[str, Any]]:
    drawn: list[dict[str, Any]] = []
    height = np.zeros(len(timeline.operators))
    for name, kinds, colour, dash, symbol in AREAS:
        height = height + _part(timeline, kinds) / GIB
        area = theme.line(timeline.operators, height, "", name, colour, dash, "lines+markers", symbol, 6)
        area["fill"], area["fillcolor"] = "tonexty" if drawn else "tozeroy", colour
        area["line"]["width"] = 1
        area["marker"] |= {"color": theme.BLACK, "maxdisplayed": MARKERS}
        drawn.append(area)
    return drawn


def _update_begins(timeline: Timeline, top: float) -> dict[str, Any]:
    start = float(dict(timeline.phases)["update"])
    return theme.line([start, start], [0, top], "", "the optimizer begins", theme.BLACK, "dot")


def _peak_curves(timeline: Timeline, peaks: Peaks) -> list[dict[str, Any]]:
    sizes = peaks.micro_batch_sizes.astype(float)
    floor = peaks.floor_bytes[min(timeline.accumulation_steps, 2) - 1]
    chosen = [timeline.micro_batch_size], [timeline.peak_bytes / GIB]
    one, more = peaks.peak_bytes[0] / GIB, peaks.peak_bytes[1] / GIB
    return [
        theme.line(sizes, one, "2", "K = 1", theme.GREEN, "dash", "lines+markers", "triangle-up"),
        theme.line(sizes, more, "2", "K ≥ 2", theme.BLUE, "solid", "lines+markers"),
        theme.line(sizes, np.full(len(sizes), floor / GIB), "2", "floor", theme.GREY, "dot"),
        theme.line(*chosen, "2", "chosen", theme.VERMILION, "solid", "markers", "star", 15),
    ]


# --- The planner


def plan_picture(plan: Plan) -> Picture:
    """For each option: its peak beside what the card allows, and its estimated time."""
    options = sorted(plan.options, key=lambda o: (o.precision != "fp32", o.checkpointing))
    positions = np.arange(len(options), dtype=float)
    fits = np.array([o.fits for o in options])
    peak = np.array([o.peak_bytes for o in options]) / GIB
    seconds = np.array([o.seconds or 0.0 for o in options])
    limit = plan.limit_bytes / GIB
    labels = [_label(o) for o in options]
    ticks = {"tickvals": positions.tolist(), "ticktext": labels, "range": [-0.6, len(options) - 0.4]}
    data = [
        _bars("", positions, np.where(fits, peak, 0), "fits", theme.BLUE, filled=True),
        _bars("", positions, np.where(fits, 0, peak), "does not fit", theme.VERMILION, filled=False),
        theme.line(
            [-0.6, len(options) - 0.4], [limit, limit], "", "allowed on the card", theme.BLACK, "dash"
        ),
        _bars("2", positions, seconds, "estimated time", theme.ORANGE, filled=True),
    ]
    layout = theme.layout(
        height=400,
        top=8,
        barmode="overlay",
        margin={"l": 60, "r": 16, "t": 8, "b": 84},
        xaxis=theme.axis("option", (0.0, 0.46), **ticks),
        yaxis=theme.axis("peak, GiB", (0.0, 0.86), range=[0, 1.25 * max(limit, peak.max())]),
        xaxis2=theme.axis("option", (0.56, 1.0), anchor="y2", **ticks),
        yaxis2=theme.axis(
            "seconds for one update", (0.0, 0.86), anchor="x2", range=[0, 1.2 * max(seconds.max(), 1e-9)]
        ),
    )
    return Picture(data, layout, plan_summary(plan))


def plan_summary(plan: Plan) -> str:
    """The verdict and what to take, in words."""
    best = plan.best
    head = f"{plan.model}, B = {plan.effective_batch_size}, {plan.card} ({plan.limit_bytes / GIB:.2f} GiB)."
    if best is None:
        return f"{head} {plan.verdict}"
    how = f"{best.precision}{' with checkpointing' if best.checkpointing else ''}"
    time = "" if best.seconds is None else f", about {best.seconds:.2g} s by data sheets"
    m, k = best.micro_batch_size, best.accumulation_steps
    return f"{head} {plan.verdict} Fastest of what fits: {how}, M = {m}, K = {k}{time}."


def _label(option: Any) -> str:
    words = option.precision + (", chkpt." if option.checkpointing else "")
    best = (
        f"M = {option.micro_batch_size}<br>K = {option.accumulation_steps}" if option.fits else "no M<br>fits"
    )
    return f"{words}<br>{best}"


def _bars(panel: str, x: np.ndarray, y: np.ndarray, name: str, colour: str, filled: bool) -> dict[str, Any]:
    return {
        "type": "bar",
        "x": x,
        "y": y,
        "xaxis": f"x{panel}",
        "yaxis": f"y{panel}",
        "name": name,
        "width": 0.6,
        "marker": {"color": colour if filled else theme.NONE, "line": {"color": colour, "width": 2}},
    }
