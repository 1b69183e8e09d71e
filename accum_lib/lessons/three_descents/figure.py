"""Three descents on one surface: their paths, and their loss against updates and against examples."""

from typing import Any

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.three_descents.record import Comparison, Path, Surface
from accum_lib.words import _, sentences

LEFT, RIGHT = (0.0, 0.47), (0.57, 1.0)
TALL, TOP, BOTTOM = (0.0, 0.86), (0.5, 0.86), (0.0, 0.34)
MARKERS = 18  # at most, on one curve: thousands would take longer to draw than a hand takes to move
FLOOR = 1e-4  # the loss axis ends here; below it a path has as good as arrived


def contour(surface: Surface) -> dict[str, Any]:
    """The surface's contour lines, as one series: a contour trace would be slower to redraw."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": surface.contours[:, 0],
        "y": surface.contours[:, 1],
        "line": {"color": "#b0b0b0", "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def weight_axes(
    surface: Surface, x_domain: tuple[float, float], y_domain: tuple[float, float]
) -> dict[str, Any]:
    """The layout of a panel in which a path over the surface is drawn."""
    return {
        "xaxis": theme.axis(_("weight w₁"), x_domain, range=_ends(surface.w1)),
        "yaxis": theme.axis(_("weight w₂"), y_domain, range=_ends(surface.w2)),
    }


def picture(comparison: Comparison, surface: Surface) -> Picture:
    """Draw a ``Comparison`` on its ``Surface``."""
    paths = _paths(comparison)
    budget = max(path.examples[-1] for path in paths)
    layout = theme.layout(
        height=480,
        top=8,
        **weight_axes(surface, LEFT, TALL),
        **_loss_over_updates(paths, surface, TOP),
        xaxis3=theme.axis(
            _("examples seen"), RIGHT, anchor="y3", range=[0, int(budget) * 1.02], tickformat=",d", nticks=5
        ),
        yaxis3=_loss_axis(surface, BOTTOM, "x3"),
    )
    return Picture(_curves(paths, 3, surface), layout, summary(comparison))


def start_picture(comparison: Comparison, surface: Surface) -> Picture:
    """Draw the paths from one start, and their loss against updates."""
    paths = _paths(comparison)
    layout = theme.layout(
        height=420,
        top=8,
        **weight_axes(surface, LEFT, TALL),
        **_loss_over_updates(paths, surface, TALL),
    )
    return Picture(_curves(paths, 2, surface), layout, start_summary(comparison))


def start_summary(c: Comparison) -> str:
    """Where each descent has come to from this start, in words."""
    w1, w2 = c.accumulated.weights[0]
    ends = _(
        "Above the minimum after {updates} updates from ({w1:g}, {w2:g}): accumulated: {accumulated:.3g}, "
        "mini-batches of {m}: {mini:.3g}, full batch: {full:.3g}.",
        updates=c.accumulated.updates,
        w1=w1,
        w2=w2,
        accumulated=c.accumulated.excess[-1],
        m=c.mini.micro_batch_size,
        mini=c.mini.excess[-1],
        full=c.full.excess[-1],
    )
    return sentences(ends, _same_path(c))


def summary(c: Comparison) -> str:
    """The comparison in words, with its numbers."""
    a = c.accumulated
    what = _("Accumulated descent, M = {m}, K = {k}", m=a.micro_batch_size, k=a.accumulation_steps)
    end = (
        _("diverged after {updates} updates", updates=a.updates)
        if a.diverged
        else _(
            "made {updates} updates from {examples:,} examples in {passes:,} passes and ended {excess:.3g} "
            "above the minimum",
            updates=a.updates,
            examples=a.examples[-1],
            passes=a.passes,
            excess=a.excess[-1],
        )
    )
    if c.gradient == "mean" or a.accumulation_steps == 1:
        against = _same_path(c)
    else:
        against = _(
            "Summing makes each step up to {k} times as long as that of one big batch of {size}; the paths "
            "come to lie {distance} apart.",
            k=a.accumulation_steps,
            size=c.big.micro_batch_size,
            distance=_distance(c.distance),
        )
    others = _(
        "Mini-batches of {m}: {mini}. Full batch: {full}.",
        m=c.mini.micro_batch_size,
        mini=_end(c.mini),
        full=_end(c.full),
    )
    return sentences(_("{what}, {end}.", what=what, end=end), against, others)


def _same_path(c: Comparison) -> str:
    return _(
        "One big batch of {size} is never further away than {distance}: the same path.",
        size=c.big.micro_batch_size,
        distance=_distance(c.distance),
    )


def _end(path: Path) -> str:
    if path.diverged:
        return _("diverged after {updates} updates", updates=path.updates)
    return _(
        "{updates} updates, {excess:.3g} above the minimum", updates=path.updates, excess=path.excess[-1]
    )


def _distance(value: float) -> str:
    return "0" if value == 0 else f"{value:.1g}"


def _paths(c: Comparison) -> tuple[Path, ...]:
    return c.full, c.mini, c.accumulated, c.big


def _curves(paths: tuple[Path, ...], panels: int, surface: Surface) -> list[dict[str, Any]]:
    """The surface, all paths in each of the first panels, the minimum."""
    looks = [  # names without numbers: a legend that changes takes as long to draw as all the rest
        (_("full batch: B = N"), theme.GREEN, "dashdot", "diamond", 5),
        (_("mini-batch: B = M"), theme.ORANGE, "dash", "triangle-up", 5),
        (_("accumulated: M, K times"), theme.BLUE, "solid", "circle", 5),
        (_("one big batch: B = M·K"), theme.BLACK, None, "circle-open", 10),
    ]
    drawn = [
        _curve(panel, path, *look) for panel in range(panels) for path, look in zip(paths, looks, strict=True)
    ]
    return [contour(surface), *drawn, _marker(surface)]


def _loss_over_updates(
    paths: tuple[Path, ...], surface: Surface, domain: tuple[float, float]
) -> dict[str, Any]:
    most = max(path.updates for path in paths)
    return {
        "xaxis2": theme.axis(_("optimizer updates"), RIGHT, anchor="y2", range=[0, most * 1.02]),
        "yaxis2": _loss_axis(surface, domain, "x2"),
    }


def _curve(
    panel: int, path: Path, name: str, colour: str, dash: str | None, symbol: str, size: int
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
        "marker": {"symbol": symbol, "size": size, "color": colour, "maxdisplayed": MARKERS},
    }


def _marker(surface: Surface) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": surface.minimum[:1],
        "y": surface.minimum[1:],
        "name": _("minimum"),
        "marker": {"symbol": "star", "size": 13, "color": theme.PURPLE},
    }


def _loss_axis(surface: Surface, domain: tuple[float, float], anchor: str) -> dict[str, Any]:
    top = float(np.log10(surface.excess.max())) + 0.5
    return theme.axis(
        _("loss above minimum"),
        domain,
        anchor=anchor,
        type="log",
        range=[float(np.log10(FLOOR)), top],
        exponentformat="power",
        dtick=2,
    )


def _ends(values: np.ndarray) -> list[float]:
    return [float(values[0]), float(values[-1])]
