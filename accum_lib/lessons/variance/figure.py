"""What the effective batch buys: a cloud of gradients, one coordinate's histogram, variance against B."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.variance.record import MiniBatches, VarianceCurve
from accum_lib.words import N_, _, sentences

LEFT, RIGHT = (0.0, 0.44), (0.56, 1.0)
TOP, BOTTOM = (0.5, 0.83), (0.0, 0.33)
FLOOR = 1e-3  # of the logarithmic variance axis, in |G|^2; a batch of all examples has 0 and is drawn here
BINS = 24
REACH = 7.0  # of the cloud's axes, in |G|
GUESSES = (
    N_("stays as it is"),
    N_("falls as 1/√K"),
    N_("falls as 1/K"),
    N_("falls as 1/K, then faster, to 0"),
)


def picture(
    batches: MiniBatches, curve: VarianceCurve, steps: int, entry: float, entry_variance: float
) -> Picture:
    """Draw the mini-batches of one B.

    Args:
        batches: of the B that the reader has set.
        curve: of the same sampling, over all B.
        steps: K; M is B / K.
        entry: the full gradient's coordinate.
        entry_variance: of that coordinate over the examples.
    """
    b, n = batches.batch_size, curve.num_samples
    here = curve.batch_sizes == b
    width = np.sqrt(entry_variance / b * max(1 - b / n, 0))
    reach = 3.2 * np.sqrt(entry_variance / 4)
    data = [
        _dots(
            batches.points[:, 0], batches.points[:, 1], "", _("mini-batch gradients"), theme.BLUE, "circle", 4
        ),
        _dots(np.ones(1), np.zeros(1), "", _("full gradient G"), theme.VERMILION, "star", 15),
        theme.line(np.zeros(1), np.zeros(1), "", "", theme.BLACK, "solid", mode="markers", symbol="cross"),
        theme.line(curve.law_sizes, curve.law, "2", _("law, no replacement"), theme.BLACK, "solid"),
        theme.line(
            curve.law_sizes, curve.law_with_replacement, "2", _("law, with replacement"), theme.GREY, "dot"
        ),
        _intervals(curve),
        _dots(curve.batch_sizes, _shown(curve.measured), "2", _("measured"), theme.BLUE, "circle-open", 9),
        _dots(
            curve.batch_sizes[here],
            _shown(curve.measured[here]),
            "2",
            _("this B"),
            theme.ORANGE,
            "diamond",
            11,
        ),
        theme.line(*_histogram(batches.entries), "3", "", theme.BLUE, "solid"),
        theme.line(*_normal(entry, width, batches.entries), "3", _("normal curve"), theme.BLACK, "dash"),
    ]
    layout = theme.layout(
        height=520,
        top=8,
        xaxis=theme.axis(_("along G, in lengths of G"), LEFT, range=[1 - REACH, 1 + REACH]),
        yaxis=theme.axis(_("across G, in lengths of G"), (0.0, 0.83), range=[-REACH, REACH]),
        xaxis2=_size_axis(n),
        yaxis2=theme.axis(_("variance / |G|²"), TOP, anchor="x2", type="log",
                          range=[float(np.log10(FLOOR)) - 0.2, 2.2], dtick=1, exponentformat="power"),
        xaxis3=theme.axis(_("gradient of one weight"), RIGHT, anchor="y3",
                          range=[entry - reach, entry + reach]),
        yaxis3=theme.axis(_("share of mini-batches"), BOTTOM, anchor="x3", range=[0, 0.35]),
    )  # fmt: skip
    return Picture(data, layout, summary(batches, curve, steps))


def summary(batches: MiniBatches, curve: VarianceCurve, steps: int) -> str:
    """The mini-batches in words, with their numbers."""
    b, at = batches.batch_size, int(np.flatnonzero(curve.batch_sizes == batches.batch_size)[0])
    measured, low, high = curve.measured[at], curve.low[at], curve.high[at]
    scale, n = curve.noise_scale, curve.num_samples
    replacement = curve.sampling == "with replacement"
    law = scale / b * (1 - 1 / n if replacement else 1 - b / n)
    agrees = low <= law <= high or np.isclose(law, measured, atol=1e-9)
    random = curve.sampling in ("shuffled", "with replacement")
    verdict = (
        _("the law says {law:.3g}, which the interval holds", law=law)
        if agrees
        else _("the law says {law:.3g}, just outside, as one interval in 20 is by chance", law=law)
        if random
        else _(
            "{ratio:.2g} times the {law:.3g} that the law says for shuffled examples",
            ratio=measured / law,
            law=law,
        )
    )
    noise = _("shorter") if measured < 1 else _("longer")
    return _(
        "M = {m}, K = {steps}, so B = {b} of N = {n} examples, {sampling}. The variance of the mini-batch "
        "gradient is {measured} |G|² (95 % interval {low} to {high}): {verdict}. The noise is {noise} than "
        "the full gradient; the two are alike at B = {scale:.0f}, the gradient noise scale. Median cosine "
        "similarity to G: {cosine:.2f}.",
        m=b // steps,
        steps=steps,
        b=b,
        n=n,
        sampling=_(curve.sampling),
        measured=_number(measured),
        low=_number(low),
        high=_number(high),
        verdict=verdict,
        noise=noise,
        scale=scale,
        cosine=np.median(batches.cosines),
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if value > 1e-12 else "0"


def _shown(variance: np.ndarray) -> np.ndarray:
    return np.maximum(variance, FLOOR)


def _size_axis(n: int) -> dict[str, Any]:
    ticks = [4**i for i in range(10) if 4**i <= n]
    return theme.axis(
        _("effective batch size B = M·K, examples"), RIGHT, anchor="y2", type="log",
        range=[-0.1, float(np.log10(n)) + 0.1], tickvals=ticks, ticktext=[str(t) for t in ticks],
    )  # fmt: skip


def _intervals(curve: VarianceCurve) -> dict[str, Any]:
    """Vertical strokes, from the lower to the upper end of each interval."""
    x = np.repeat(curve.batch_sizes.astype(float), 3)
    y = np.stack([_shown(curve.low), _shown(curve.high), np.full(len(curve.low), np.nan)], axis=1).ravel()
    return theme.line(x, y, "2", "", theme.BLUE, "solid")


def _histogram(entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outline of a histogram whose bins are spread over the entries, as ``(x, y)`` of a line."""
    heights, edges = np.histogram(entries, bins=_edges(entries))
    return np.repeat(edges, 2), np.concatenate([[0], np.repeat(heights / len(entries), 2), [0]])


def _edges(entries: np.ndarray) -> np.ndarray:
    low, high = float(entries.min()), float(entries.max())
    margin = max(high - low, 1e-6 * max(abs(low), abs(high), 1e-9)) * 0.02
    return np.linspace(low - margin, high + margin, BINS + 1)


def _normal(entry: float, width: float, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The normal curve with the law's variance, times the width of a bin; nothing where it has no width."""
    grid = np.linspace(-4, 4, 61)
    if width <= 1e-12:
        return np.full(61, entry), np.full(61, np.nan)
    edges = _edges(entries)
    return entry + width * grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi) / width * (edges[1] - edges[0])


def _dots(
    x: np.ndarray, y: np.ndarray, panel: str, name: str, colour: str, symbol: str, size: int
) -> dict[str, Any]:
    return theme.line(x, y, panel, name, colour, "solid", "markers", symbol, size)


# --- The reader's guess

FIRST, STEPS = 2, 16  # M, and the K at which the reader guesses
WIDE, HIGH = (0.0, 1.0), (0.0, 0.84)


def guess_places(curve: VarianceCurve, shares: Sequence[float]) -> list[tuple[float | None, float | None]]:
    """Where each guess is: at K = 16, that share of the variance at K = 1."""
    return [(STEPS, _variance_at(curve, 1) * share) for share in shares]


def guess_picture(curve: VarianceCurve, share: float, shown: bool) -> Picture:
    """Draw the guess as a straight line, and the measured curve only once it is shown.

    Args:
        curve: shuffled, measured at B = 2 to 32.
        share: what the reader expects at K = 16, of the variance at K = 1.
        shown: whether the measurement and the law are drawn, too.
    """
    first = _variance_at(curve, 1)
    steps, law_steps = curve.batch_sizes / FIRST, curve.law_sizes / FIRST
    kept, law = (shown & (k >= 1) & (k <= STEPS) for k in (steps, law_steps))
    data = [
        theme.line([1, STEPS], [first, first * share], "", _("your guess"), theme.ORANGE, "dash"),
        theme.line(law_steps[law], curve.law[law], "", _("law, no replacement"), theme.BLACK, "solid"),
        _dots(steps[kept], curve.measured[kept], "", _("measured"), theme.BLUE, "circle-open", 11),
        _dots(np.ones(1), np.array([first]), "", _("measured at K = 1"), theme.BLUE, "star", 14),
    ]
    ticks = [1, 2, 4, 8, 16]
    layout = theme.layout(
        height=340,
        top=8,
        xaxis=theme.axis(_("accumulation steps K, at M = 2"), WIDE, type="log", range=[-0.06, 1.27],
                         tickvals=ticks, ticktext=[str(k) for k in ticks]),
        yaxis=theme.axis(_("variance / |G|²"), HIGH, type="log", dtick=1, exponentformat="power",
                         range=[float(np.log10(first / 100)), float(np.log10(first * 2))]),
    )  # fmt: skip
    return Picture(data, layout, guess_summary(curve, share, shown))


def guess_summary(curve: VarianceCurve, share: float, shown: bool) -> str:
    """The guess in words, and what was measured once it is shown."""
    first, measured = _variance_at(curve, 1), _variance_at(curve, STEPS)
    guess = _(
        "Measured at K = 1: a variance of {first:.3g} |G|². Your guess at K = 16: {guess:.3g}.",
        first=first,
        guess=first * share,
    )
    if not shown:
        return guess
    return sentences(
        guess,
        _("Measured there: {measured:.3g}, 1/{part:.1f} of it.", measured=measured, part=first / measured),
    )


def _variance_at(curve: VarianceCurve, steps: int) -> float:
    return float(curve.measured[curve.batch_sizes == FIRST * steps][0])
