"""What processes send each other: one update over time, bytes and time per example against K, a forecast."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accum_lib.lessons.distributed.record import Forecast, Span, Traffic
from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.words import N_, _

ROWS = (
    (N_("all-reduce"), theme.VERMILION),
    (N_("backward"), theme.BLUE),
    (N_("forward"), theme.SKY),
)  # from below
LIFT = 0.18  # of all-reduces in turn, up and down, for several can be under way at once
TOP, BOTTOM = (0.62, 0.95), (0.0, 0.36)
LEFT, RIGHT = (0.0, 0.44), (0.56, 1.0)
MODES = (  # in the last pass only or in every pass: words, colour, dash, marker
    (False, N_("in the last pass"), theme.BLUE, "solid", "circle"),
    (True, N_("in every pass"), theme.VERMILION, "dash", "square"),
)


def traffic_picture(chosen: Traffic, everything: Sequence[Traffic]) -> Picture:
    """One update of process 0 over time; below, all measured settings.

    Args:
        chosen: whose timeline is drawn.
        everything: every setting that was measured.
    """
    data = [_row(chosen.timeline, kind, colour, y) for y, (kind, colour) in enumerate(ROWS)]
    for every, words, colour, dash, symbol in MODES:
        of_mode = [t for t in everything if t.every_micro_batch == every]
        steps = [t.accumulation_steps for t in of_mode]
        style = (colour, dash, "lines+markers", symbol)
        data.append(theme.line(steps, [t.bytes_per_example / 1e3 for t in of_mode], "2", _(words), *style))
        per_example = [t.seconds / t.examples * 1e3 for t in of_mode]
        data.append({**theme.line(steps, per_example, "3", _(words), *style), "showlegend": False})
    layout = theme.layout(
        height=520,
        annotations=[theme.heading(_("one update"), 0.5, TOP[1])],
        legend={"orientation": "h", "x": 0, "y": 0.5, "yanchor": "top"},
        xaxis=theme.axis(_("milliseconds since the update began"), (0.0, 1.0),
                         range=[0.0, 1.01e3 * max(span.stop for span in chosen.timeline)]),
        yaxis=theme.axis(_("process 0"), TOP, range=[-0.5, 2.5], tickvals=[0, 1, 2],
                         ticktext=[_(kind) for kind, colour in ROWS]),
        xaxis2=_steps_axis(LEFT, "y2", everything),
        yaxis2=theme.axis(_("kB per example"), BOTTOM, anchor="x2", range=_from_zero(data[3::2])),
        xaxis3=_steps_axis(RIGHT, "y3", everything),
        yaxis3=theme.axis(_("ms per example"), BOTTOM, anchor="x3", range=_from_zero(data[4::2])),
        margin={"l": 104, "r": 16, "t": 24, "b": 48},
    )  # fmt: skip
    return Picture(data, layout, traffic_summary(chosen))


def traffic_summary(t: Traffic) -> str:
    """Calls, bytes and times of one setting, in words."""
    when = _("every pass") if t.every_micro_batch else _("the last pass only")
    return _(
        "{processes} processes, M = {m}, K = {k}, averaging in {when}: {calls} all-reduces, {megabytes:.2f} "
        "MB in all, {kilobytes:.1f} kB per example. The update took {ms:.1f} ms. For {busy:.1f} ms an "
        "all-reduce was under way, for {overlap:.0%} of that while gradients were still being computed.",
        processes=t.world_size,
        m=t.micro_batch_size,
        k=t.accumulation_steps,
        when=when,
        calls=t.calls,
        megabytes=t.bytes / 1e6,
        kilobytes=t.bytes_per_example / 1e3,
        ms=t.seconds * 1e3,
        busy=t.communicating * 1e3,
        overlap=t.overlap,
    )


def forecast_picture(found: Forecast, words: str) -> Picture:
    """Predicted time per example and bytes per example, against K.

    Args:
        found: the forecast.
        words: what it was made for.
    """
    series = (
        (_("in the last pass"), found.deferred, found.bytes_deferred, *MODES[0][2:]),
        (_("in every pass"), found.every, found.bytes_every, *MODES[1][2:]),
    )
    data = []
    for name, seconds, sent, colour, dash, symbol in series:
        style = (colour, dash, "lines+markers", symbol)
        data.append(theme.line(found.steps, seconds * 1e3, "", name, *style))
        data.append({**theme.line(found.steps, sent / 1e6, "2", name, *style), "showlegend": False})
    data.append(theme.line(found.steps, found.alone * 1e3, "", _("no communication"), theme.BLACK, "dot"))
    at = [] if found.enough is None else [found.enough]
    there = [found.deferred[list(found.steps).index(k)] * 1e3 for k in at]
    data.append(theme.line(at, there, "", _("enough"), theme.GREEN, "solid", "markers", "star", 15))
    layout = theme.layout(
        height=420,
        annotations=[
            theme.heading(_("PREDICTION: time"), 0.22),
            theme.heading(_("bytes of each process"), 0.78),
        ],
        xaxis=_steps_axis(LEFT, "y", found.steps),
        yaxis=_log_axis(_("ms per example"), (0.0, 0.86), "x", data[0]["y"], data[2]["y"], found.alone * 1e3),
        xaxis2=_steps_axis(RIGHT, "y2", found.steps),
        yaxis2=_log_axis(_("MB per example"), (0.0, 0.86), "x2", data[1]["y"], data[3]["y"]),
    )
    return Picture(data, layout, forecast_summary(found, words))


def forecast_summary(found: Forecast, words: str) -> str:
    """What accumulation brings, and from where on it brings no more."""
    last = found.steps[-1]
    time, every = (times[-1] / times[0] for times in (found.deferred, found.every))
    sent = found.bytes_deferred[-1] / found.bytes_deferred[0]
    pays = (
        _(
            "From K = {enough} on, waiting costs less than {tolerance:.0%}: more steps hardly help.",
            enough=found.enough,
            tolerance=found.tolerance,
        )
        if found.enough
        else _(
            "Even at K = {last}, waiting costs more than {tolerance:.0%}.",
            last=last,
            tolerance=found.tolerance,
        )
    )
    return _(
        "A prediction, not a measurement. {words} K = {last} instead of 1, averaging in the last pass: an "
        "example takes {time:.0%} of the time and {sent:.1%} of the bytes. Averaging in every pass: "
        "{every:.0%} of the time, 100% of the bytes. {pays}",
        words=words,
        last=last,
        time=time,
        sent=sent,
        every=every,
        pays=pays,
    )


def _row(spans: Sequence[Span], kind: str, colour: str, row: int) -> dict[str, Any]:
    """A thick stroke for each span; a NaN between two of them lifts the pen."""
    of_kind = [s for s in spans if s.kind == kind]
    x = np.array([t for s in of_kind for t in (s.start * 1e3, s.stop * 1e3, np.nan)])
    heights = [row + (LIFT * (-1) ** i if kind == "all-reduce" else 0) for i in range(len(of_kind))]
    stroke = theme.line(x, np.repeat(heights, 3), "", "", colour, "solid")
    return {**stroke, "line": {"color": colour, "dash": "solid", "width": 10}}


def _from_zero(lines: Sequence[dict[str, Any]]) -> list[float]:
    """A little more than the highest value."""
    return [0.0, 1.08 * float(max(trace["y"].max() for trace in lines))]


def _steps_axis(domain: tuple[float, float], anchor: str, settings: Any) -> dict[str, Any]:
    steps = sorted({int(getattr(s, "accumulation_steps", s)) for s in settings})
    ends = [float(np.log10(steps[0] * 0.85)), float(np.log10(steps[-1] * 1.18))]
    labels = [str(k) for k in steps]
    title = _("accumulation steps K")
    return theme.axis(title, domain, anchor=anchor, type="log", range=ends, tickvals=steps, ticktext=labels)


def _log_axis(title: str, domain: tuple[float, float], anchor: str, *series: Any) -> dict[str, Any]:
    """Whole decades, so that neighbouring settings can be compared, with room for the legend."""
    low, high = min(map(np.min, series)), max(map(np.max, series))
    ends = [float(np.floor(np.log10(low))), float(np.ceil(np.log10(high)))]
    ticks = [10.0**n for n in range(int(ends[0]), int(ends[1]) + 1)]
    labels = [f"{t:g}" for t in ticks]
    return theme.axis(title, domain, anchor=anchor, type="log", range=ends, tickvals=ticks, ticktext=labels)
