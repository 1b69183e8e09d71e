"""Three descents on one surface: their paths, and their loss against updates and against examples."""

from typing import Any

import numpy as np

from accum_lib.figures import theme
from accum_lib.figures.picture import Picture
from accum_lib.records import Comparison, Path, Surface

LEFT, RIGHT = (0.0, 0.47), (0.57, 1.0)
TOP, BOTTOM = (0.6, 1.0), (0.0, 0.4)
FLOOR = 1e-4  # the loss axis ends here; below it a path has as good as arrived


def contour(surface: Surface) -> dict[str, Any]:
    """Contour lines of the loss above its minimum, each 10^(1/4) times the one inside it."""
    return {
        "type": "contour",
        "x": surface.w1.tolist(),
        "y": surface.w2.tolist(),
        "z": np.log10(np.maximum(surface.excess, 1e-9)).round(4).tolist(),
        "contours": {"start": -2.0, "end": 2.0, "size": 0.25, "coloring": "lines"},
        "colorscale": [[0, "#b0b0b0"], [1, "#b0b0b0"]],
        "showscale": False,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def weight_axes(
    surface: Surface, x_domain: tuple[float, float], y_domain: tuple[float, float]
) -> dict[str, Any]:
    """The layout of a panel in which a path over the surface is drawn."""
    return {
        "xaxis": theme.axis("weight w₁", x_domain, range=_ends(surface.w1)),
        "yaxis": theme.axis("weight w₂", y_domain, range=_ends(surface.w2)),
    }


def picture(comparison: Comparison, surface: Surface) -> Picture:
    """Draw a ``Comparison`` on its ``Surface``."""
    c = comparison
    mean_or_sum = "" if c.gradient == "mean" else ", summed"
    series = [
        (f"full batch: B = {c.num_samples}", c.full, theme.GREEN, "dashdot", "diamond", 5),
        (f"mini-batch: B = M = {c.mini.micro_batch_size}", c.mini, theme.ORANGE, "dash", "triangle-up", 5),
        (
            f"accumulated: {_setting(c.accumulated)}{mean_or_sum}",
            c.accumulated,
            theme.BLUE,
            "solid",
            "circle",
            5,
        ),
        (f"one big batch: B = {c.big.micro_batch_size}", c.big, theme.BLACK, None, "circle-open", 10),
    ]
    data = [contour(surface)]
    for panel in range(3):
        data += [_curve(panel, *each) for each in series]
    data.append(_marker(surface))
    most = max(path.updates for _, path, *_ in series)
    budget = max(path.examples[-1] for _, path, *_ in series)
    layout = theme.layout(
        height=500,
        **weight_axes(surface, LEFT, (0.0, 1.0)),
        xaxis2=theme.axis("optimizer updates", RIGHT, anchor="y2", range=[0, most * 1.02]),
        yaxis2=_loss_axis(surface, TOP, "x2"),
        xaxis3=theme.axis("examples seen", RIGHT, anchor="y3", range=[0, int(budget) * 1.02]),
        yaxis3=_loss_axis(surface, BOTTOM, "x3"),
    )
    return Picture(data, layout, summary(c))


def summary(c: Comparison) -> str:
    """The comparison in words, with its numbers."""
    a = c.accumulated
    size = min(a.micro_batch_size * a.accumulation_steps, c.num_samples)
    what = f"Accumulated descent, M = {a.micro_batch_size}, K = {a.accumulation_steps}"
    end = (
        f"diverged after {a.updates} updates"
        if a.diverged
        else f"made {a.updates} updates from {a.examples[-1]:,} examples in {a.passes:,} passes "
        f"and ended {a.excess[-1]:.3g} above the minimum"
    )
    if c.gradient == "mean" or a.accumulation_steps == 1:
        against = (
            f"One big batch of {size} is never further away than {_distance(c.distance)}: the same path."
        )
    else:
        against = (
            f"Summing makes each step up to {a.accumulation_steps} times as long as that of one big batch of "
            f"{size}; the paths come to lie {_distance(c.distance)} apart."
        )
    others = f"Mini-batches of {c.mini.micro_batch_size}: {_end(c.mini)}. Full batch: {_end(c.full)}."
    return f"{what}, {end}. {against} {others}"


def _end(path: Path) -> str:
    if path.diverged:
        return f"diverged after {path.updates} updates"
    return f"{path.updates} updates, {path.excess[-1]:.3g} above the minimum"


def _distance(value: float) -> str:
    return "0" if value == 0 else f"{value:.1g}"


def _setting(path: Path) -> str:
    return f"M = {path.micro_batch_size}, K = {path.accumulation_steps}"


def _curve(
    panel: int, name: str, path: Path, colour: str, dash: str | None, symbol: str, size: int
) -> dict[str, Any]:
    updates = np.arange(len(path.weights))
    x = (path.weights[:, 0], updates, path.examples)[panel]
    y = path.weights[:, 1] if panel == 0 else np.maximum(path.excess, FLOOR / 10)
    axis = "" if panel == 0 else str(panel + 1)
    return {
        "type": "scatter",
        "mode": "markers" if dash is None else "lines+markers",
        "x": x,
        "y": y,
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
        "name": name,
        "showlegend": panel == 0,
        "legendgroup": symbol,
        "line": {"color": colour, "dash": dash or "solid", "width": 2},
        "marker": {"symbol": symbol, "size": size, "color": colour},
    }


def _marker(surface: Surface) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": surface.minimum[:1],
        "y": surface.minimum[1:],
        "name": "minimum",
        "marker": {"symbol": "star", "size": 13, "color": theme.PURPLE},
    }


def _loss_axis(surface: Surface, domain: tuple[float, float], anchor: str) -> dict[str, Any]:
    top = float(np.log10(surface.excess.max())) + 0.5
    return theme.axis(
        "loss above minimum",
        domain,
        anchor=anchor,
        type="log",
        range=[float(np.log10(FLOOR)), top],
        exponentformat="power",
        dtick=1,
    )


def _ends(values: np.ndarray) -> list[float]:
    return [float(values[0]), float(values[-1])]
