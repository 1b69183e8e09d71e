"""The one idea as an animation: micro-batches pass, the gradient buffer fills, the optimizer moves."""

from typing import Any

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.three_descents.figure import contour, weight_axes
from accum_lib.lessons.three_descents.record import Moment, Surface
from accum_lib.words import _, sentences

SAMPLES, BUFFER, WEIGHTS = (0.0, 0.27), (0.36, 0.62), (0.71, 1.0)
WIDTH = 0.7  # of a weight's bars
COLOURS = (theme.BLUE, theme.ORANGE, theme.GREEN, theme.VERMILION)  # of the micro-batches of a window


def picture(story: list[Moment], index: int, inputs: np.ndarray, surface: Surface) -> Picture:
    """Draw one moment.

    Args:
        story: all moments; the axes stay the same for all of them.
        index: which one.
        inputs: (N, 2) all samples' inputs.
        surface: the loss under the weights.
    """
    moment = story[index]
    longest = max(m.window_length for m in story)
    data = [
        _points(inputs, _("all samples"), "#c4c4c4", "circle", 6),
        _points(moment.samples, _("in the model now"), _colour(moment), "diamond", 11),
        *(_share(moment, k, longest) for k in range(longest)),
        _big_batch(moment),
        contour(surface),
        _trail(moment),
        _here(moment),
    ]
    for trace, panel in zip(data, ["", "", *["2"] * (longest + 1), "3", "3", "3"], strict=True):
        trace.update(xaxis=f"x{panel}", yaxis=f"y{panel}")
    weights = weight_axes(surface, WEIGHTS, (0.0, 1.0))
    layout = theme.layout(
        height=400,
        barmode="overlay",
        xaxis=theme.axis(_("feature x₁"), SAMPLES, range=_room(inputs[:, 0])),
        yaxis=theme.axis(_("feature x₂"), (0.0, 1.0), range=_room(inputs[:, 1])),
        xaxis2=theme.axis(
            _("weight"), BUFFER, anchor="y2", tickvals=[0, 1], ticktext=["w₁", "w₂"], range=[-0.6, 1.6]
        ),
        yaxis2=theme.axis(_("gradient (loss per unit)"), (0.0, 1.0), anchor="x2", range=_buffer_range(story)),
        xaxis3={**weights["xaxis"], "anchor": "y3"},
        yaxis3={**weights["yaxis"], "anchor": "x3"},
        showlegend=False,
        annotations=[
            theme.heading(_("1. micro-batches pass"), sum(SAMPLES) / 2),
            theme.heading(_("2. the gradient buffer fills"), sum(BUFFER) / 2),
            theme.heading(_("3. the optimizer moves"), sum(WEIGHTS) / 2),
        ],
    )
    return Picture(data, layout, summary(moment))


def summary(moment: Moment) -> str:
    """The moment in words, with its numbers."""
    where = _("Update {number}", number=moment.update + 1)
    short = "" if moment.window_length == 4 else _(" (the trailing, shorter window)")
    if moment.moved:
        w1, w2 = moment.weights[-1]
        return _(
            "{where}: the optimizer has moved the weights to ({w1:.3f}, {w2:.3f}) with the gradient in the "
            "buffer, and cleared the buffer. Updates so far: {updates}.",
            where=where,
            w1=w1,
            w2=w2,
            updates=len(moment.weights) - 1,
        )
    if moment.micro_batch == 0:
        return _(
            "{where}{short}: the buffer is empty. {window_length} micro-batches will pass before the "
            "weights move.",
            where=where,
            short=short,
            window_length=moment.window_length,
        )
    g1, g2 = moment.shares.sum(axis=0)
    text = _(
        "{where}{short}: micro-batch {micro_batch} of {window_length} has passed. The buffer holds "
        "({g1:.3f}, {g2:.3f}); the weights have not moved.",
        where=where,
        short=short,
        micro_batch=moment.micro_batch,
        window_length=moment.window_length,
        g1=g1,
        g2=g2,
    )
    if moment.micro_batch < moment.window_length:
        return text
    b1, b2 = moment.big_batch
    full = _(
        "It is full: one big batch of the whole window gives ({b1:.3f}, {b2:.3f}), the black outline.",
        b1=b1,
        b2=b2,
    )
    return sentences(text, full)


def _colour(moment: Moment) -> str:
    return COLOURS[(moment.micro_batch - 1) % len(COLOURS)]


def _points(points: np.ndarray, name: str, colour: str, symbol: str, size: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": points[:, 0],
        "y": points[:, 1],
        "name": name,
        "marker": {"symbol": symbol, "size": size, "color": colour},
    }


def _share(moment: Moment, k: int, longest: int) -> dict[str, Any]:
    """What micro-batch ``k`` added, as a step that begins where the one before it ended."""
    done = k < len(moment.shares)
    step = WIDTH / longest
    return {
        "type": "bar",
        "x": np.arange(2.0) - WIDTH / 2 + step * (k + 0.5),
        "y": moment.shares[k] if done else np.zeros(2),
        "base": moment.shares[:k].sum(axis=0) if done else np.zeros(2),
        "width": step,
        "name": _("added by micro-batch {number}", number=k + 1),
        "marker": {"color": COLOURS[k % len(COLOURS)], "line": {"color": "white", "width": 1}},
    }


def _big_batch(moment: Moment) -> dict[str, Any]:
    full = moment.micro_batch == moment.window_length and not moment.moved
    return {
        "type": "bar",
        "x": np.arange(2.0),
        "y": moment.big_batch if full else np.zeros(2),
        "width": WIDTH,
        "name": _("one big batch"),
        "marker": {"color": theme.NONE, "line": {"color": theme.BLACK, "width": 3 if full else 0}},
    }


def _trail(moment: Moment) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": moment.weights[:, 0],
        "y": moment.weights[:, 1],
        "name": _("weights so far"),
        "line": {"color": theme.BLUE, "width": 2},
        "marker": {"symbol": "circle", "size": 6, "color": theme.BLUE},
    }


def _here(moment: Moment) -> dict[str, Any]:
    return _points(
        moment.weights[-1:],
        _("weights now"),
        theme.VERMILION if moment.moved else theme.BLUE,
        "star" if moment.moved else "circle",
        16 if moment.moved else 11,
    )


def _buffer_range(story: list[Moment]) -> list[float]:
    """Room for every partial sum of every window."""
    sums = [np.cumsum(m.shares, axis=0) for m in story if len(m.shares)] + [[m.big_batch] for m in story]
    return _room(np.concatenate([np.zeros((1, 2)), *sums]))


def _room(values: np.ndarray) -> list[float]:
    """A range that holds all of them; without one, Plotly would look for it again with each move."""
    spread = float(np.ptp(values)) * 0.08
    return [float(values.min()) - spread, float(values.max()) + spread]
