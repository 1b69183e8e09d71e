"""Races between batch sizes: loss against updates and examples, and what a target took."""

from typing import Any

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.variance.record import NoiseOverTraining, Race, ToTarget
from accum_lib.words import _, clauses

LEFT, RIGHT = (0.0, 0.44), (0.56, 1.0)
TOP, BOTTOM = (0.49, 0.8), (0.0, 0.31)
STYLES = [
    (theme.ORANGE, "dot", "triangle-up"),
    (theme.GREEN, "dashdot", "diamond"),
    (theme.BLUE, "solid", "circle"),
    (theme.VERMILION, "dash", "square"),
    (theme.BLACK, "solid", "x"),
]
LOSS_RANGE = [-0.55, 0.42]  # of a logarithmic axis: 0.28 to 2.6 nats
LOSS_TICKS = [0.3, 0.5, 1, 2]
HIGHEST = 3.0  # a loss beyond it is drawn here: it has diverged


def picture(
    races: tuple[Race, ...], found: ToTarget, noise: NoiseOverTraining, rate: float | None
) -> Picture:
    """Draw a race to one target.

    Args:
        races: one for each batch size.
        found: what the target took.
        noise: the noise scale along a run.
        rate: of all of them; None: for each batch size its fastest to the target.
    """
    data = []
    for panel in ("", "2"):
        for race, its, style in zip(races, found.rates, STYLES, strict=True):
            data += _curves(race, int(np.flatnonzero(race.rates == its)[0]), panel, style)
        data.append(theme.line([1, 1e6], [found.target] * 2, panel, "", theme.GREY, "dash"))
    data += [*_to_target(found, noise), *_noise(noise, found.target)]
    layout = theme.layout(
        height=580,
        top=8,
        xaxis=theme.axis(_("optimizer updates"), LEFT, type="log", range=[0, 3.0], dtick=1),
        yaxis=loss_axis(TOP, "x"),
        xaxis2=theme.axis(_("examples seen"), LEFT, anchor="y2", type="log", range=[0.8, 4.8], dtick=1),
        yaxis2=loss_axis(BOTTOM, "x2"),
        xaxis3=_size_axis(found.batch_sizes),
        yaxis3=theme.axis(_("examples to target"), TOP, anchor="x3", type="log", range=[1.7, 5.1], dtick=1),
        xaxis4=theme.axis(_("held-out loss (training goes right), nats"), RIGHT, anchor="y4", type="log",
                          range=LOSS_RANGE[::-1], tickvals=LOSS_TICKS, ticktext=[str(t) for t in LOSS_TICKS]),
        yaxis4=theme.axis(_("noise scale, examples"), BOTTOM, anchor="x4", type="log", range=[1, 3.1],
                          dtick=1),
    )  # fmt: skip
    return Picture(data, layout, summary(found, noise, rate))


def summary(found: ToTarget, noise: NoiseOverTraining, rate: float | None) -> str:
    """What the target took, in words."""
    took = [
        _took(*each)
        for each in zip(found.batch_sizes, found.rates, found.updates, found.examples, strict=True)
    ]
    which = (
        _("each batch size at its fastest rate") if rate is None else _("all at the rate {rate:g}", rate=rate)
    )
    critical = (
        _(
            "The fitted critical batch size is {critical_batch_size:.0f} examples",
            critical_batch_size=found.critical_batch_size,
        )
        if np.isfinite(found.critical_batch_size)
        else _("Too few reached it for a critical batch size to be fitted")
    )
    return _(
        "To a held-out loss of {target:g}, {which}: {took}. {critical}; the gradient noise scale, measured "
        "exactly at that loss, is {scale:.0f}.",
        target=found.target,
        which=which,
        took=clauses(took),
        critical=critical,
        scale=noise_at(noise, found.target),
    )


def noise_at(noise: NoiseOverTraining, loss: float) -> float:
    """The exact noise scale when the run was at a held-out loss: on a straight line between two looks."""
    return float(np.interp(-loss, -noise.losses, noise.exact))


def _took(size: int, rate: float, updates: np.ndarray, examples: np.ndarray) -> str:
    if not np.isfinite(updates).all():
        return _("B = {size} did not reach it", size=size)
    return _(
        "B = {size} took {updates:.0f} updates, {examples:,.0f} examples (rate {rate:g})",
        size=size,
        updates=updates.mean(),
        examples=examples.mean(),
        rate=rate,
    )


def _curves(race: Race, rate: int, panel: str, style: tuple[str, str, str]) -> list[dict[str, Any]]:
    """The mean of the seeds with markers, and the outline of all seeds' range, faint."""
    colour, dash, symbol = style
    x = (race.updates if not panel else race.examples)[1:]
    losses = np.minimum(race.losses[1:, rate], HIGHEST)
    band_x = np.concatenate([x, [np.nan], x])
    band_y = np.concatenate([losses.min(axis=1), [np.nan], losses.max(axis=1)])
    band = theme.line(band_x, band_y, panel, "", colour, "solid")
    band["line"]["width"], band["hoverinfo"] = 0.7, "skip"
    curve = theme.line(
        x, losses.mean(axis=1), panel, f"B = {race.batch_size}", colour, dash, "lines+markers", symbol
    )
    curve["showlegend"] = not panel
    curve["marker"]["maxdisplayed"] = 6
    return [band, curve]


def _to_target(found: ToTarget, noise: NoiseOverTraining) -> list[dict[str, Any]]:
    reached = np.isfinite(found.examples).all(axis=1)
    examples = np.where(reached, np.nan_to_num(found.examples, posinf=0).mean(axis=1), np.nan)
    size, scale = found.critical_batch_size, noise_at(noise, found.target)
    seeds = [e if ok else np.full(1, np.nan) for e, ok in zip(found.examples, reached, strict=True)]
    return [
        theme.line(
            found.batch_sizes, found.fitted_examples, "3", _("fit: Eₘᵢₙ + Sₘᵢₙ·B"), theme.SKY, "solid"
        ),
        strokes(list(found.batch_sizes), seeds, "3", theme.PURPLE),
        theme.line(
            found.batch_sizes,
            examples,
            "3",
            _("measured"),
            theme.PURPLE,
            "solid",
            "markers",
            "circle-open",
            9,
        ),
        theme.line([size, size], [1, 1e6], "3", _("critical batch (fit)"), theme.SKY, "dash"),
        theme.line([scale, scale], [1, 1e6], "3", _("noise scale, exact"), theme.GREEN, "dot"),
    ]


def _noise(noise: NoiseOverTraining, target: float) -> list[dict[str, Any]]:
    x = np.repeat(noise.losses, 3)
    y = np.stack([noise.low, np.minimum(noise.high, 1e4), np.full(len(noise.low), np.nan)], axis=1).ravel()
    return [
        theme.line(noise.losses, noise.exact, "4", "", theme.GREEN, "dot", "lines+markers", "diamond", 9),
        theme.line(x, y, "4", "", theme.VERMILION, "solid"),
        theme.line(noise.losses, noise.estimated, "4", _("noise scale, free"), theme.VERMILION, "solid",
              "markers", "cross", 9),
        theme.line([target, target], [1, 1e4], "4", "", theme.GREY, "dash"),
    ]  # fmt: skip


def strokes(sizes: list[Any], seeds: list[np.ndarray], panel: str, colour: str) -> dict[str, Any]:
    """A vertical stroke at each size, from the lowest seed to the highest."""
    x = np.repeat(np.asarray(sizes, dtype=float), 3)
    y = np.array([[s.min(), s.max(), np.nan] for s in seeds]).ravel()
    return theme.line(x, y, panel, "", colour, "solid")


def _size_axis(sizes: np.ndarray) -> dict[str, Any]:
    return theme.axis(
        _("effective batch size B, examples"), RIGHT, anchor="y3", type="log", range=[0.4, 3.2],
        tickvals=[int(s) for s in sizes], ticktext=[str(s) for s in sizes],
    )  # fmt: skip


def loss_axis(domain: tuple[float, float], anchor: str) -> dict[str, Any]:
    """A logarithmic axis of held-out loss, the same in every picture of a race."""
    return theme.axis(
        _("held-out loss, nats"), domain, anchor=anchor, type="log", range=LOSS_RANGE, tickvals=LOSS_TICKS,
        ticktext=[str(t) for t in LOSS_TICKS],
    )  # fmt: skip
