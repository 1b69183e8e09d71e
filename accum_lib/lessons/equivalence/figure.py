"""The equivalence microscope: the error against K beside its bound, and how much each micro-batch weighs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accum_lib.lessons.equivalence.record import Microscope
from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.words import _, listed

LEFT, RIGHT, TOP = (0.0, 0.5), (0.63, 1.0), (0.0, 0.84)
FLOOR = 1e-17  # an error of 0 is drawn here: a logarithm has no place for it
SHOWN = 16  # micro-batches whose weights are drawn


def picture(chosen: Microscope, k: int, others: Sequence[Microscope]) -> Picture:
    """Draw one measurement at one K.

    Args:
        chosen: the format and the weighing that the reader has picked.
        k: which of its K.
        others: the same weighing in the other formats, drawn faintly.
    """
    at = int(np.flatnonzero(chosen.steps == k)[0])
    weights, counts = chosen.weights[at][:SHOWN], chosen.counts[at][:SHOWN]
    data = [
        *(_faint(m) for m in others),
        _curve(chosen.steps, chosen.bounds, _("bound from rounding"), theme.GREY, "dash", None, 2),
        _curve(chosen.steps, chosen.errors, _("measured"), theme.BLUE, "solid", "circle", 2),
        _curve(chosen.steps[[at]], chosen.errors[[at]], _("this K"), theme.VERMILION, None, "star", 16),
        _panel2(np.array([0.0, SHOWN + 1.0]), np.ones(2), _("right: 1"), theme.GREY, "dash", None),
        _panel2(np.arange(len(weights)) + 1.0, weights, _("found"), theme.BLUE, None, "circle"),
    ]
    layout = theme.layout(
        height=430,
        top=8,
        margin={"l": 84, "r": 16, "t": 8, "b": 48},
        xaxis=theme.axis(_("accumulation steps K"), LEFT, type="log", range=[-0.1, 2.2],
                         tickvals=list(chosen.steps), ticktext=[str(s) for s in chosen.steps]),
        yaxis=theme.axis(_("relative error of the gradient"), TOP, type="log", range=[-17.3, 3], dtick=3,
                         exponentformat="power"),
        xaxis2=theme.axis(_("micro-batch (the first 16)"), RIGHT, anchor="y2", range=[0, SHOWN + 1]),
        yaxis2=theme.axis(_("weight, 1 being right"), TOP, anchor="x2", type="log", range=[-1.2, 3], dtick=1),
    )  # fmt: skip
    return Picture(data, layout, summary(chosen, k, counts))


def summary(m: Microscope, k: int, counts: np.ndarray) -> str:
    """The measurement in words, with its numbers."""
    at = int(np.flatnonzero(m.steps == k)[0])
    error, bound = m.errors[at], m.bounds[at]
    within = _("that is rounding") if error <= bound else _("that is not rounding: the weights are wrong")
    weights = m.weights[at]
    spread = (
        _("every micro-batch weighs what it should")
        if np.allclose(weights, 1)
        else _(
            "micro-batches weigh between {lowest:.2g} and {highest:.2g} times what they should",
            lowest=weights.min(),
            highest=weights.max(),
        )
    )
    shown = listed([str(c) for c in counts[:8]]) + (_(", ") + "…" if len(counts) > 8 else "")
    return _(
        "{format}, K = {k}, micro-batches of {shown} tokens: {spread}. The error is {error:.0e}, or "
        "{units:,.0f} units of rounding; at most {bound:.0e} can be rounding, so {within}.",
        format=_(m.format),
        k=k,
        shown=shown,
        spread=spread,
        error=error,
        units=error / m.unit,
        bound=bound,
        within=within,
    )


def _curve(
    x: np.ndarray, y: np.ndarray, name: str, colour: str, dash: str | None, symbol: str | None, size: int
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers" if dash is None else "lines+markers" if symbol else "lines",
        "x": x.astype(float),
        "y": np.maximum(y, FLOOR),
        "xaxis": "x",
        "yaxis": "y",
        "name": name,
        "line": {"color": colour, "dash": dash or "solid", "width": 2},
        "marker": {"symbol": symbol or "circle", "size": max(size, 7), "color": colour},
    }


def _faint(m: Microscope) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": m.steps.astype(float),
        "y": np.maximum(m.errors, FLOOR),
        "xaxis": "x",
        "yaxis": "y",
        "line": {"color": "#c9c9c9", "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _panel2(
    x: np.ndarray, y: np.ndarray, name: str, colour: str, dash: str | None, symbol: str | None
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines" if dash else "markers",
        "x": x,
        "y": y,
        "xaxis": "x2",
        "yaxis": "y2",
        "name": name,
        "line": {"color": colour, "dash": dash or "solid", "width": 2},
        "marker": {"symbol": symbol or "circle", "size": 9, "color": colour},
    }
