"""Advice on M and K: what fits, what the batch buys, what it takes in time; and how it did in races."""

from typing import Any

import numpy as np

from accum_lib.lessons.choose_k.record import Advice, Landscape, Trial
from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.words import _, clauses, listed, sentences

PANELS = ((0.0, 0.27), (0.37, 0.64), (0.74, 1.0))
HEIGHT = (0.0, 0.7)  # below the legends and the headings
TRIAL_HEIGHT = (0.0, 0.84)  # one legend, of one row
LEGENDS = ("legend", "legend2", "legend3")  # one above each panel: side by side they would be too many
MOST_WORK = 100.0  # the top of the work axes; curves go on beyond it
WIDEST = 1e6
SIZE_TICKS = (1, 4, 16, 64, 256, 1024)
BATCH_TICKS = (1, 10, 100, 1000, 10000)
MEMORY_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
TRIAL_STYLES = (
    (theme.ORANGE, "dot", "triangle-up"),
    (theme.BLUE, "solid", "circle"),
    (theme.VERMILION, "dash", "square"),
)
FAST = 1.1  # times the least time: as good as the best


def picture(advice: Advice, land: Landscape, headline: str, facts: dict[str, Any] | None = None) -> Picture:
    """One screen for one question: memory against M, work against B, time against B.

    Args:
        advice: with its reasons.
        land: over M and B.
        headline: the choice in words.
        facts: what was measured for it; kept in ``layout.meta`` beside the picture.
    """
    measured = bool(np.isfinite(land.time).any())
    panels = (_memory(advice, land), _work(advice, land), _time(advice, land))
    data = [{**t, "legend": name} for name, traces in zip(LEGENDS, panels, strict=True) for t in traces]
    headings = (
        _("memory: what fits"),
        _("noise: what B buys"),
        _("time, measured") if measured else _("work: no time measured"),
    )
    middles = [sum(panel) / 2 for panel in PANELS]
    words = [theme.heading(t, x, HEIGHT[1]) for t, x in zip(headings, middles, strict=True)]
    layout = theme.layout(
        height=430,
        top=8,
        annotations=[*words, *_why_empty(advice, land, middles)],
        **dict(zip(LEGENDS, _legends(), strict=True)),
        xaxis=theme.axis(
            _("micro-batch size M"),
            PANELS[0],
            type="log",
            range=[-0.1, 3.1],
            tickvals=list(SIZE_TICKS),
            ticktext=[str(t) for t in SIZE_TICKS],
        ),
        yaxis=_memory_axis(advice, land),
        xaxis2=_batch_axis(PANELS[1], "y2"),
        yaxis2=_work_axis(_("work / least possible"), "x2"),
        xaxis3=_batch_axis(PANELS[2], "y3"),
        yaxis3=_work_axis(_("time or work / least"), "x3"),
        meta={"facts": facts or {}},
    )
    return Picture(data, layout, sentences(headline, *advice.reasons))


def _legends() -> list[dict[str, Any]]:
    """One above each panel; the last has long names, and ends with its panel."""
    beside = {"orientation": "v", "y": 1.0, "yanchor": "top", "font": {"size": 12}, "bgcolor": theme.NONE}
    return [
        {**beside, "x": PANELS[0][0]},
        {**beside, "x": PANELS[1][0]},
        {**beside, "x": PANELS[2][1], "xanchor": "right"},
    ]


def _why_empty(a: Advice, land: Landscape, middles: list[float]) -> list[dict[str, Any]]:
    """Words in a panel that has no curve."""
    why = _("noise not known:<br>choose a scale") if a.noise is None else _("no M fits on this card")
    curves = ((1, land.updates), (2, land.passes))
    return [theme.heading(why, middles[i], 0.3) for i, curve in curves if not np.isfinite(curve).any()]


def _memory(a: Advice, land: Landscape) -> list[dict[str, Any]]:
    m, unit = land.micro_batch_sizes, _unit(a, land)[0]
    limit = a.limit_bytes / unit
    at, peak = (a.micro_batch_size, a.peak_bytes / unit) if a.fits else (np.nan, np.nan)
    return [
        theme.line(m, land.peak_one / unit, "", _("peak, K = 1"), theme.GREEN, "dash"),
        theme.line(m, land.peak_more / unit, "", _("peak, K ≥ 2"), theme.BLUE, "solid"),
        theme.line([0.5, 2000], [limit, limit], "", _("allowed on the card"), theme.BLACK, "dot"),
        theme.line([at], [peak], "", _("advised"), theme.VERMILION, "solid", "markers", "star", 15),
    ]


def _work(a: Advice, land: Landscape) -> list[dict[str, Any]]:
    b, star, work = land.batch_sizes, theme.VERMILION, [a.updates_factor, a.examples_factor]
    at = float(a.effective_batch_size) if a.fits and a.accumulation_steps else np.nan
    low, high = (a.noise.low, min(a.noise.high, WIDEST)) if a.noise else (np.nan, np.nan)
    return [
        _band(low, high, "2", _("noise scale, interval"), theme.SKY),
        theme.line(b, land.updates, "2", _("updates"), theme.PURPLE, "dash"),
        theme.line(b, land.examples, "2", _("examples"), theme.ORANGE, "solid"),
        _unnamed(theme.line([at, at], work, "2", _("advised"), star, "solid", "markers", "star", 15)),
    ]


def _time(a: Advice, land: Landscape) -> list[dict[str, Any]]:
    b = land.batch_sizes.astype(float)
    measured = bool(np.isfinite(land.time).any())
    examples = _over_least(np.where(land.steps > 0, land.examples, np.nan))
    good = b[land.time <= FAST] if measured else np.array([np.nan])
    at = time = np.nan
    if a.slower is not None:
        at, time = a.effective_batch_size, _at(b, land.time, a.effective_batch_size)
    return [
        _band(good[0], good[-1], "3", _("time within 10 % of the least"), theme.GREEN),
        theme.line(b, examples, "3", _("if a pass takes as long as its examples"), theme.ORANGE, "dot"),
        theme.line(b, land.passes, "3", _("if every pass takes equally long"), theme.GREY, "dashdot"),
        theme.line(b, land.time, "3", _("time, as measured here"), theme.BLACK, "solid"),
        _unnamed(
            theme.line([at], [time], "3", _("advised"), theme.VERMILION, "solid", "markers", "star", 15)
        ),
    ]


def _band(low: float, high: float, panel: str, name: str, colour: str) -> dict[str, Any]:
    """A see-through rectangle over the panel's height."""
    low, high = max(low, 0.5), max(high, 0.5)
    x, y = [low, low, high, high], [0.1, 10 * MOST_WORK, 10 * MOST_WORK, 0.1]
    trace = theme.line(x, y, panel, name, colour, "dot" if panel == "2" else "dash")
    trace["line"]["width"] = 1
    return {**trace, "fill": "tozeroy", "fillcolor": theme.faint(colour), "hoverinfo": "skip"}


def _unnamed(trace: dict[str, Any]) -> dict[str, Any]:
    """The same without a second entry in the legend."""
    return {**trace, "showlegend": False}


def _at(b: np.ndarray, values: np.ndarray, where: float) -> float:
    return float(np.exp(np.interp(np.log(where), np.log(b), np.log(values))))


def _over_least(values: np.ndarray) -> np.ndarray:
    known = values[np.isfinite(values)]
    return values / known.min() if len(known) else values


def _unit(a: Advice, land: Landscape) -> tuple[int, str]:
    """The unit in which the lowest of what is drawn is still a number above a tenth."""
    least = min(float(np.nanmin(land.peak_one)), a.limit_bytes)
    return next((u for u in MEMORY_UNITS if least >= 0.1 * u[0]), MEMORY_UNITS[-1])


def _memory_axis(a: Advice, land: Landscape) -> dict[str, Any]:
    unit, name = _unit(a, land)
    low = min(float(np.nanmin(land.peak_one)), a.limit_bytes) / unit
    high = max(float(np.nanmax(land.peak_more)), a.limit_bytes) / unit
    ends = [float(np.floor(np.log10(low))), float(np.ceil(np.log10(high)))]
    step = max(1, round((ends[1] - ends[0]) / 6))
    return theme.axis(_("predicted peak, {name}", name=name), HEIGHT, type="log", range=ends, dtick=step)


def _batch_axis(domain: tuple[float, float], anchor: str) -> dict[str, Any]:
    ticks = {"tickvals": list(BATCH_TICKS), "ticktext": ["1", "10", "100", "1k", "10k"]}
    title = _("effective batch size B")
    return theme.axis(title, domain, anchor=anchor, type="log", range=[-0.1, 4.3], **ticks)


def _work_axis(title: str, anchor: str) -> dict[str, Any]:
    ticks = {"tickvals": [1, 2, 5, 10, 20, 50, 100], "ticktext": ["1", "2", "5", "10", "20", "50", "100"]}
    return theme.axis(
        title, HEIGHT, anchor=anchor, type="log", range=[-0.05, float(np.log10(MOST_WORK))], **ticks
    )


# --- The trial


def trial_picture(trial: Trial) -> Picture:
    """Held-out loss against updates and against examples, and the ratios that were predicted and measured."""
    data = []
    for panel in ("", "2"):
        for race, k, rate, style in zip(
            trial.races, trial.steps, trial.found.rates, TRIAL_STYLES, strict=True
        ):
            which = int(np.flatnonzero(race.rates == rate)[0])
            x = (race.updates if not panel else race.examples)[1:].astype(float)
            losses = race.losses[1:, which]
            data += _curve(x, losses, panel, f"K = {k}", style)
    data += _ratios(trial)
    tops = [
        float(np.log10(max(getattr(r, w)[-1] for r in trial.races))) + 0.1 for w in ("updates", "examples")
    ]
    headings = _("equal updates"), _("equal examples"), _("updates to the target")
    over = _("over those of K = {advised}", advised=trial.steps[1])
    seen = _("examples seen")
    layout = theme.layout(
        height=400,
        top=8,
        annotations=[
            theme.heading(t, sum(p) / 2, TRIAL_HEIGHT[1])
            for t, p in zip(headings, PANELS, strict=True)
        ],
        xaxis=theme.axis(_("optimizer updates"), PANELS[0], type="log", range=[-0.1, tops[0]], dtick=1),
        yaxis=_loss_axis("x"),
        xaxis2=theme.axis(seen, PANELS[1], anchor="y2", type="log", range=[1, tops[1]], dtick=1),
        yaxis2=_loss_axis("x2"),
        xaxis3=theme.axis(_("accumulation steps K"), PANELS[2], anchor="y3", range=[-0.5, 2.5],
                          zeroline=False, tickvals=[0, 1, 2], ticktext=[str(k) for k in trial.steps]),
        yaxis3=theme.axis(over, TRIAL_HEIGHT, anchor="x3", type="log",
                          range=[-0.52, 0.62], tickvals=[0.5, 1, 2, 4], ticktext=["½", "1", "2", "4"]),
    )  # fmt: skip
    return Picture(data, layout, trial_summary(trial))


def trial_summary(trial: Trial) -> str:
    """What each K took, in words."""
    updates, examples = trial.found.updates, trial.found.examples
    took = [
        _(
            "K = {k} took {updates:.0f} updates and {examples:,.0f} examples",
            k=k,
            updates=u.mean(),
            examples=e.mean(),
        )
        if np.isfinite(u).all()
        else _("K = {k} was not there with every seed", k=k)
        for k, u, e in zip(trial.steps, updates, examples, strict=True)
    ]
    ratios = listed([f"{r:.2f}" for r in trial.predicted()])
    measured = listed([f"{r.mean():.2f}" for r in trial.measured()])
    return _(
        "{name}, M = {m}, to a held-out loss of {target:g} (mean of {seeds} seeds): "
        "{took}. Updates over those of K = {advised}: predicted {ratios} from the "
        "noise scale of {scale:.0f}, measured {measured}.",
        name=_(trial.name),
        m=trial.micro_batch_size,
        target=trial.found.target,
        seeds=updates.shape[1],
        took=clauses(took),
        advised=trial.steps[1],
        ratios=ratios,
        scale=trial.noise.noise_scale,
        measured=measured,
    )


def _curve(
    x: np.ndarray, losses: np.ndarray, panel: str, name: str, style: tuple[str, str, str]
) -> list[dict[str, Any]]:
    """The mean of the seeds, and the outline of their range, faint."""
    colour, dash, symbol = style
    outline = np.concatenate([losses.min(axis=1), [np.nan], losses.max(axis=1)])
    band = theme.line(np.concatenate([x, [np.nan], x]), outline, panel, "", colour, "solid")
    band["line"]["width"], band["hoverinfo"] = 0.7, "skip"
    curve = theme.line(x, losses.mean(axis=1), panel, name, colour, dash, "lines+markers", symbol)
    curve["marker"]["maxdisplayed"] = 6
    return [band, curve if not panel else _unnamed(curve)]


def _ratios(trial: Trial) -> list[dict[str, Any]]:
    measured, at = trial.measured(), np.arange(3.0)
    seeds = measured.shape[1]
    x = np.repeat(at, seeds) + np.tile(np.linspace(-0.12, 0.12, seeds), 3)
    predicted = theme.line(at - 0.25, trial.predicted(), "3", _("predicted"), theme.BLACK, "solid", "markers",
                           "diamond", 11)  # fmt: skip
    return [
        predicted,
        theme.line(
            x, measured.ravel(), "3", _("measured, each seed"), theme.PURPLE, "solid", "markers", "cross"
        ),
    ]


def _loss_axis(anchor: str) -> dict[str, Any]:
    ticks = {"tickvals": [0.3, 0.5, 1, 2], "ticktext": ["0.3", "0.5", "1", "2"]}
    return theme.axis(
        _("held-out loss, nats"), TRIAL_HEIGHT, anchor=anchor, type="log", range=[-0.5, 0.42], **ticks
    )
