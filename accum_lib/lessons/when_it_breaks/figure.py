"""The bug hunt's clues, and which observation sees which fault."""

import textwrap
from typing import Any

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.when_it_breaks.record import Clues, LineUp, Sightings
from accum_lib.words import N_, _, clauses, listed, sentences

LEFT, RIGHT = (0.0, 0.46), (0.58, 1.0)
UPPER, LOWER = (0.58, 0.9), (0.0, 0.34)
FLOOR, CEILING = 1e-17, 10.0  # of errors that are drawn
WIDEST = 22  # diameter in pixels of the circle for a weight of 1
MOST_UPDATES = 16


def clues_picture(clues: Clues) -> Picture:
    """Draw what was seen of a loop: weights, errors, what happened how often, and the losses it logged."""
    rows, columns = np.nonzero(np.abs(clues.weights) > 1e-3)
    should_rows, should_columns = np.nonzero(clues.windows)
    updates = np.arange(len(clues.errors)) + 1.0
    data = [
        _dots(should_columns + 1.0, should_rows + 1.0, _("right: a weight of 1"), theme.GREY, "circle-open",
              np.full(len(should_rows), 1.0)),
        _dots(columns + 1.0, rows + 1.0, _("weight found (area)"), theme.BLUE, "circle",
              np.abs(clues.weights[rows, columns])),
        _series("2", updates, _drawn(clues.errors), _("error of the update"), theme.BLUE, "circle", "solid"),
        _series("2", np.array([0.0, MOST_UPDATES + 1]), np.full(2, clues.tolerance), _("what rounding makes"),
                theme.GREY, None, "dash"),
        _counted(clues.expected, _("right, times"), theme.NONE),
        _counted(clues.found, _("found, times"), theme.BLUE),
        _series("4", np.arange(len(clues.true_losses)) + 1.0, clues.true_losses, _("the window's true loss"),
                theme.GREY, "circle-open", "dash"),
        _series("4", np.arange(len(clues.logged)) + 1.0, clues.logged, _("loss that it logs"), theme.ORANGE,
                "x", "solid"),
    ]  # fmt: skip
    happenings = np.arange(len(clues.happenings)) + 1.0
    layout = theme.layout(
        height=600,
        top=8,
        margin={"l": 84, "r": 16, "t": 8, "b": 70},
        barmode="overlay",
        xaxis=theme.axis(_("micro-batch of the epoch"), LEFT, dtick=1,
                         range=[0.3, clues.weights.shape[1] + 0.7]),
        yaxis=theme.axis(_("update, two epochs"), UPPER, range=[len(updates) + 0.8, 0.2],
                         dtick=1 if len(updates) < 9 else 5),
        xaxis2=theme.axis(_("update, two epochs"), RIGHT, anchor="y2", range=[0.3, len(updates) + 0.7],
                          dtick=1 if len(updates) < 9 else 5),
        yaxis2=theme.axis(_("relative error"), UPPER, anchor="x2", type="log", range=[-17.3, 1.3], dtick=3,
                          exponentformat="power"),
        xaxis3=theme.axis(_("what happened"), LEFT, anchor="y3", range=[0.4, len(happenings) + 0.6],
                          tickvals=list(happenings), ticktext=[_(it) for it in clues.happenings], tickangle=0,
                          tickfont={"size": 11}),
        yaxis3=theme.axis(_("times in two epochs"), LOWER, anchor="x3", range=[0, 17]),
        xaxis4=theme.axis(_("update, two epochs"), RIGHT, anchor="y4", range=[0.3, 6.7], dtick=1),
        yaxis4=theme.axis(_("loss"), LOWER, anchor="x4", range=[0, 3.2]),
        annotations=[] if len(clues.logged) else [theme.heading(_("this loop logs no loss"), 0.79, 0.17)],
    )  # fmt: skip
    return Picture(data, layout, clues_summary(clues))


def clues_summary(clues: Clues) -> str:
    """The clues in words; they never name the fault."""
    inside = clues.weights[clues.windows]
    outside = int((np.abs(clues.weights[~clues.windows]) > 1e-3).sum())
    errors = clues.errors[np.isfinite(clues.errors)]
    off = int((errors > clues.tolerance).sum())
    weights = (
        _(
            "weights inside windows from {lowest} to {highest}",
            lowest=_number(inside.min()),
            highest=_number(inside.max()),
        )
        if len(inside)
        else _("no update belongs to a window")
    )
    unlike = len(clues.errors) - len(errors)
    counted = clauses(
        [
            _(
                "{name} {found:.0f} of {should:.0f}",
                name=sentences(*_(name).split("<br>")),
                found=found,
                should=should,
            )
            for name, found, should in zip(clues.happenings, clues.found, clues.expected, strict=True)
            if np.isfinite(found)
        ]
    )
    return (
        _(
            "{updates} updates: {weights}; {outside} micro-batches in an update where they do not belong. "
            "{off} updates are off by more than rounding",
            updates=len(clues.errors),
            weights=weights,
            outside=outside,
            off=off,
        )
        + (_(", {unlike} stand for no window at all", unlike=unlike) if unlike else "")
        + _(". Counted: {counted}. ", counted=counted)
        + (_losses(clues) if len(clues.logged) else _("It was given nothing else, and logs no loss."))
    )


def _losses(clues: Clues) -> str:
    gap = float(np.abs(clues.logged - clues.true_losses).max())
    return _(
        "The losses that it logs are up to {gap} away from the true ones.",
        gap=_number(gap) if gap > 1e-9 else "0",
    )


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-9 else value:.3g}"


def _drawn(errors: np.ndarray) -> np.ndarray:
    """Errors as they are drawn: a logarithm has no place for 0."""
    return np.clip(errors, FLOOR, CEILING)


def _dots(
    x: np.ndarray, y: np.ndarray, name: str, colour: str, symbol: str, weights: np.ndarray
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": x, "y": y, "xaxis": "x", "yaxis": "y", "name": name,
        "marker": {"symbol": symbol, "size": [round(WIDEST * float(w) ** 0.5, 2) for w in weights],
                   "color": colour, "opacity": 1.0 if symbol.endswith("open") else 0.75,
                   "line": {"width": 2, "color": colour}},
        "cliponaxis": False,  # a weight of four reaches beyond the first update's row
    }  # fmt: skip


def _series(
    panel: str, x: np.ndarray, y: np.ndarray, name: str, colour: str, symbol: str | None, dash: str
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines+markers" if symbol else "lines", "x": x, "y": y,
        "xaxis": f"x{panel}", "yaxis": f"y{panel}", "name": name,
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"symbol": symbol or "circle", "size": 9, "color": colour},
    }  # fmt: skip


def _counted(times: np.ndarray, name: str, colour: str) -> dict[str, Any]:
    frame = colour == theme.NONE
    return {
        "type": "bar", "x": np.arange(len(times)) + 1.0, "y": np.nan_to_num(times), "xaxis": "x3",
        "yaxis": "y3", "width": 0.75 if frame else 0.45, "name": name,
        "marker": {"color": colour, "line": {"color": theme.BLACK if frame else colour, "width": 1.5}},
    }  # fmt: skip


# --- Which observation sees which fault

SHORT = {"loss curve": N_("loss"), "accuracy": N_("accuracy"), "weights, Adam": "Adam", "weights, SGD": "SGD",
         "this checker": N_("checker")}  # fmt: skip


COLUMNS, GAP = 4, 0.08  # of the line-up: panels in a row, and the room between two
BOXES = 3  # its trace with a box for each run, which a reader marks
HIGHEST_LOSS = 3.0  # nats at the top of a panel


def letters(runs: LineUp) -> list[str]:
    """A letter for each run."""
    return [chr(ord("A") + i) for i in range(len(runs.titles))]


def line_up_picture(runs: LineUp, shown: bool) -> Picture:
    """Draw the losses of every run in a panel of its own, all on one pair of axes.

    Args:
        runs: what was trained.
        shown: whether the broken ones are named.
    """
    broken = np.array([bool(title) for title in runs.titles])
    corners = np.array([(i % COLUMNS, -(i // COLUMNS)) for i in range(len(broken))], dtype=float)
    smooth = np.stack([np.convolve(row, np.ones(runs.epoch) / runs.epoch, "valid") for row in runs.losses])
    every = slice(None, None, 6)
    names = [
        textwrap.fill(_(title), 26).replace("\n", "<br>") if shown and title else "" for title in runs.titles
    ]
    data = [
        theme.line(*_in_panels(corners, runs.losses[:, ::3]), "", _("each micro-batch"), "#c9c9c9", "solid"),
        theme.line(*_in_panels(corners, smooth[:, every], ~broken | (not shown)), "", _("mean over an epoch"),
                   theme.BLUE, "solid"),
        theme.line(*_in_panels(corners, smooth[:, every], broken & shown), "", _("of a broken loop"),
                   theme.VERMILION, "dash"),
        _lettering(corners, (0.06, 0.14), letters(runs), 14)
        | {"mode": "markers+text", "marker": {"symbol": "square", "size": 26, "color": "white",
           "line": {"color": theme.GREY, "width": 1}}, "hoverinfo": "none"},
        _lettering(corners, (0.13, 0.14), names, 11) | {"textposition": "middle right"},
    ]  # fmt: skip
    data[0]["line"]["width"] = 0.8
    rows = -(-len(broken) // COLUMNS)
    nothing = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "fixedrange": True}
    layout = theme.layout(
        height=470,
        top=8,
        margin={"l": 40, "r": 8, "t": 8, "b": 34},
        xaxis=theme.axis(
            _("training, six epochs"), (0.0, 1.0), range=[-0.02, COLUMNS - GAP + 0.02], **nothing
        ),
        yaxis=theme.axis(
            _("loss, 0 to 3 nats in each panel"), (0.0, 0.93), range=[1 - rows - 0.02, 1.0], **nothing
        ),
        shapes=[_frame(corner) for corner in corners],
    )
    return Picture(data, layout, line_up_summary(runs, shown))


def line_up_summary(runs: LineUp, shown: bool) -> str:
    """The ends of all curves in words, and which are broken once that is shown."""
    ends = runs.losses[:, -runs.epoch :].mean(axis=1)
    said = clauses(
        [
            f"{letter} {end:.2f} ({_(title)})" if shown and title else f"{letter} {end:.2f}"
            for letter, end, title in zip(letters(runs), ends, runs.titles, strict=True)
        ]
    )
    if shown:
        return _("Mean loss of the last epoch, with the fault of the broken loops: {said}.", said=said)
    return _("Mean loss of the last epoch, each run from another seed: {said}.", said=said)


def _in_panels(
    corners: np.ndarray, rows: np.ndarray, chosen: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Each row as a curve in its panel, with a gap after it; a row that is not chosen is all gap."""
    width = np.linspace(0, 1 - GAP, rows.shape[1])
    x = np.column_stack([corners[:, :1] + width, np.full(len(rows), np.nan)])
    heights = np.minimum(rows, HIGHEST_LOSS) / HIGHEST_LOSS * (1 - GAP)
    y = np.column_stack([corners[:, 1:] + heights, np.full(len(rows), np.nan)])
    if chosen is not None:
        y[~chosen] = np.nan
    return x.ravel(), y.ravel()


def _lettering(
    corners: np.ndarray, place: tuple[float, float], texts: list[str], size: int
) -> dict[str, Any]:
    """A text at the same place in each panel."""
    x, y = (corners + np.array(place)).T
    trace = theme.line(x, y, "", "", theme.BLACK, "solid", "text")
    return trace | {"text": texts, "textfont": {"size": size, "color": "#212121"}, "hoverinfo": "skip"}


def _frame(corner: np.ndarray) -> dict[str, Any]:
    x, y = corner
    return {
        "type": "rect", "x0": x, "x1": x + 1 - GAP, "y0": y, "y1": y + 1 - GAP, "layer": "below",
        "line": {"color": "#e5e5e5", "width": 1}, "fillcolor": "#fcfcfc",
    }  # fmt: skip


def sightings_picture(found: Sightings, observation: str) -> Picture:
    """Draw the whole table, and beside it what one observation measured of each fault."""
    chosen = found.observations.index(observation)
    faults = np.arange(len(found.faults)) + 1.0
    columns = np.arange(len(found.observations)) + 1.0
    seen_rows, seen_columns = np.nonzero(found.seen)
    hidden_rows, hidden_columns = np.nonzero(~found.seen)
    limit = max(float(found.normal[chosen]), 1e-15)
    values = np.nan_to_num(found.values[:, chosen], nan=np.inf)
    values = np.clip(values, limit / 700, 1e3)  # what is 0, or endless, is drawn at the edge
    ends = np.array([0.0, len(faults) + 1.0])
    data = [
        _mark("", seen_columns + 1.0, seen_rows + 1.0, _("seen"), theme.VERMILION, "circle", 12),
        _mark("", hidden_columns + 1.0, hidden_rows + 1.0, _("hidden"), theme.GREY, "circle-open", 9),
        _mark("2", values, faults, _("measured"), theme.BLUE, "diamond", 10),
        _series("2", np.full(2, limit), ends, _("still normal"), theme.GREY, None, "dash"),
    ]  # fmt: skip
    rows = {"range": [len(faults) + 0.7, 0.3], "tickvals": list(faults)}
    layout = theme.layout(
        height=520,
        top=8,
        xaxis=theme.axis(_("what one looks at"), (0.0, 0.44), range=[0.4, len(columns) + 0.6],
                         tickvals=list(columns), ticktext=[_(SHORT[o]) for o in found.observations]),
        yaxis=theme.axis(_("fault"), (0.0, 0.92), ticktext=[_name(f) for f in found.faults], **rows),
        xaxis2=theme.axis(_("{what}: {unit}", what=_(observation), unit=_(UNITS[observation])), (0.52, 1.0),
                          anchor="y2", type="log", range=[np.log10(limit / 1e3), 3.2],
                          exponentformat="power"),
        yaxis2=theme.axis(_("the same faults"), (0.0, 0.92), anchor="x2", showticklabels=False, **rows),
    )  # fmt: skip
    layout["margin"]["l"] = 215
    return Picture(data, layout, sightings_summary(found, observation))


CODES = (  # the faults' codes in words, here for translation
    N_("no division"), N_("mean of means"), N_("divided twice"), N_("wrong denominator"),
    N_("tail divided by k"), N_("dropped tail"), N_("leaked tail"), N_("off by one"),
    N_("cleared mid window"), N_("stepped per micro batch"), N_("clipped per micro batch"),
    N_("scheduler per micro batch"), N_("ema per micro batch"), N_("last loss logged"),
    N_("low precision buffer"),
)  # fmt: skip
UNITS = {
    "loss curve": N_("standard deviations"),
    "accuracy": N_("standard deviations"),
    "weights, Adam": N_("relative distance"),
    "weights, SGD": N_("relative distance"),
    "this checker": N_("relative error"),
}


def sightings_summary(found: Sightings, observation: str) -> str:
    """Which faults an observation sees, in words."""
    chosen = found.observations.index(observation)
    seen = [_name(f) for f, s in zip(found.faults, found.seen[:, chosen], strict=True) if s]
    total = len(found.faults)
    each = listed([f"{_(o)} {int(found.seen[:, i].sum())}" for i, o in enumerate(found.observations)])
    which = _("all of them") if len(seen) == total else listed(seen) or _("none")
    return _(
        "Looking at {observation}, {seen} of {total} faults stand out: {which}. Measured: {unit}. Faults "
        "that each observation sees: {each}.",
        observation=_(observation),
        seen=len(seen),
        total=total,
        which=which,
        unit=_(found.units[chosen]),
        each=each,
    )


def _name(code: str) -> str:
    """A fault's code in words, for an axis."""
    return _(code.replace("_", " "))


def _mark(
    panel: str, x: np.ndarray, y: np.ndarray, name: str, colour: str, symbol: str, size: int
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": x, "y": y, "xaxis": f"x{panel}", "yaxis": f"y{panel}",
        "name": name, "line": {"color": colour},
        "marker": {"symbol": symbol, "size": size, "color": colour, "line": {"width": 2, "color": colour}},
    }  # fmt: skip
