"""A window cut into micro-batches: each example's weight, and the gradient, in two ways to weigh."""

from typing import Any

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.three_descents.record import CutWindow, Weighing
from accum_lib.words import _, listed, sentences

STRIP, GRADIENT, UPRIGHT = (0.0, 0.6), (0.72, 1.0), (0.0, 0.84)
ROW, LOWEST, HIGHEST = -0.05, -0.1, 0.54  # of the examples; of the weights' axis
WIDTH = 0.36  # of one bar of the gradient
EXACT = 1e-12
MEANS = (theme.NONE, theme.VERMILION)  # fill and edge
LOOKS = ((theme.GREEN, "square"), (theme.ORANGE, "diamond"), (theme.SKY, "circle"))  # of the micro-batches


def picture(window: CutWindow, gradient_range: list[float]) -> Picture:
    """Draw one way to cut; ``gradient_range`` is the lowest and the highest gradient of all of them."""
    means, total = window.mean_of_means, window.over_total
    edges = np.cumsum([0, *window.sizes])
    data = [
        _bars("", np.arange(edges[-1]) + 0.5, means.weights, 0.9, *MEANS, _("mean of means")),
        theme.line(edges[[0, -1]], total.weights[[0, -1]], "", "", theme.BLUE, "dash"),
        *(_examples(edges, k) for k in range(len(LOOKS))),
        theme.line(*_cuts(edges), "", "", theme.BLACK, "solid"),
        _bars(
            "2", _places(-1), total.gradient, WIDTH, theme.BLUE, theme.BLUE, _("sum over the window's count")
        ),
        _bars("2", _places(1), means.gradient, WIDTH, *MEANS, ""),
        _bars("2", _places(-1), window.big_batch, WIDTH, theme.NONE, theme.BLACK, _("one big batch")),
    ]
    layout = theme.layout(
        height=380,
        top=8,
        barmode="overlay",
        xaxis=theme.axis(
            _("the window's examples, cut into micro-batches"), STRIP, range=[0, int(edges[-1])],
            dtick=1, showgrid=False, zeroline=False,
        ),
        yaxis=theme.axis(
            _("weight of one example"), UPRIGHT, range=[LOWEST, HIGHEST], tickvals=[0, 0.1, 0.2, 0.3, 0.4],
        ),
        xaxis2=theme.axis(
            _("weight"), GRADIENT, anchor="y2", tickvals=[0, 1], ticktext=["w₁", "w₂"], range=[-0.6, 1.6]
        ),
        yaxis2=theme.axis(_("gradient (loss per unit)"), UPRIGHT, anchor="x2", range=gradient_range),
    )  # fmt: skip
    return Picture(data, layout, summary(window))


def summary(window: CutWindow) -> str:
    """The cut in words, with its numbers."""
    cut = _("Micro-batches of {sizes}.", sizes=listed([str(size) for size in window.sizes]))
    weights = window.mean_of_means.weights[np.cumsum([0, *window.sizes[:-1]])]
    error = window.error(window.mean_of_means)
    means = (
        _("They count alike, so a mean of means weighs every example alike, too, and is exact.")
        if error < EXACT
        else _(
            "Mean of means: an example weighs {weights}; the gradient is off by {error:.0%}.",
            weights=listed([f"{weight:.3f}" for weight in weights]),
            error=error,
        )
    )
    total = _(
        "Sum over the window's count: {weight:.3f} each; off by {error:.0e}, which is rounding.",
        weight=window.over_total.weights[0],
        error=window.error(window.over_total),
    )
    return sentences(cut, means, total)


def _places(side: int) -> np.ndarray:
    """Of the bars of w₁ and w₂: to the left (-1), or to the right (1)."""
    return np.arange(2.0) + side * WIDTH / 2


def _bars(
    panel: str, x: np.ndarray, y: np.ndarray, width: float, fill: str, edge: str, name: str
) -> dict[str, Any]:
    return {
        "type": "bar",
        "x": x,
        "y": y,
        "xaxis": f"x{panel}",
        "yaxis": f"y{panel}",
        "width": width,
        "name": name,
        "showlegend": bool(name),
        "marker": {"color": fill, "line": {"color": edge, "width": 2}},
    }


def _examples(edges: np.ndarray, k: int) -> dict[str, Any]:
    """Those of micro-batch ``k``; none if there are fewer micro-batches."""
    x = np.arange(*edges[k : k + 2]) + 0.5 if k + 1 < len(edges) else np.empty(0)
    colour, symbol = LOOKS[k]
    return theme.line(x, np.full(len(x), ROW), "", "", colour, "solid", "markers", symbol, 15)


def _cuts(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line across the panel at each inner edge."""
    x = np.repeat(edges[1:-1].astype(float), 3)
    return x, np.tile([LOWEST, HIGHEST, np.nan], len(edges) - 2)


def room(windows: list[CutWindow]) -> list[float]:
    """A range for the gradients of all of them, with 0 in it and some air."""
    every: list[Weighing] = [each for w in windows for each in (w.over_total, w.mean_of_means)]
    ends = [value for each in every for value in (*each.gradient, 0.0)]
    air = 0.06 * (max(ends) - min(ends))
    return [float(min(ends) - air), float(max(ends) + air)]
