"""Notebook 07's pictures: BatchNorm against M, CTC's weightings against M, and a net that learns to spell."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accum_lib.figures import theme
from accum_lib.figures.picture import Picture
from accum_lib.records.batch_norm import NormErrors
from accum_lib.records.speech import SpeechRun, Weighting

LEFT, RIGHT, TOP = (0.0, 0.44), (0.58, 1.0), (0.0, 0.84)
FLOOR = 1e-17  # an error of 0 is drawn here: a logarithm has no place for it
NORMS = {
    "batch": ("BatchNorm", theme.VERMILION, "solid", "circle"),
    "group": ("GroupNorm", theme.BLUE, "dash", "square"),
    "frozen": ("frozen statistics", theme.GREEN, "dot", "diamond"),
}
WEIGHTINGS = {
    "window": ("sum / window's syllables", theme.BLUE, "solid", "circle"),
    "mean of means": ("mean of means", theme.VERMILION, "dash", "square"),
    "torch mean": ("torch's mean", theme.PURPLE, "dot", "diamond"),
}
STYLES = (  # of the six syllables
    (theme.BLUE, "circle"), (theme.ORANGE, "square"), (theme.GREEN, "diamond"),
    (theme.VERMILION, "triangle-up"), (theme.PURPLE, "cross"), (theme.SKY, "x"),
)  # fmt: skip


def norm_picture(chosen: NormErrors, every: Sequence[NormErrors], micro_batch_size: int) -> Picture:
    """The gradient's error of each normalisation against M, and beside it the running statistics' error.

    Args:
        chosen: the normalisation that the reader has picked; the right panel is its own.
        every: all three, for the left panel.
        micro_batch_size: the M that is marked.
    """
    sizes = chosen.micro_batch_sizes
    at = [int(np.flatnonzero(sizes == micro_batch_size)[0])]
    data = [
        *(theme.line(sizes, _floored(e.gradient_errors), "", *_style(NORMS[e.norm])) for e in every),
        _star(sizes[at], _floored(chosen.gradient_errors[at]), ""),
        theme.line(sizes, _floored(chosen.mean_errors), "2", "running mean", theme.SKY, "solid",
                   "lines+markers", "triangle-up"),
        theme.line(sizes, _floored(chosen.variance_errors), "2", "running variance", theme.ORANGE, "dash",
                   "lines+markers", "square"),
    ]  # fmt: skip
    layout = _layout(sizes, "relative error of the gradient")
    layout["yaxis2"] = theme.axis("error of the running statistics", TOP, anchor="x2", **_LOG)
    layout["xaxis2"] = _size_axis(sizes, RIGHT, anchor="y2")
    nothing = "GroupNorm keeps none" if np.isnan(chosen.mean_errors).all() else ""
    layout["annotations"] = [theme.heading(nothing, sum(RIGHT) / 2, 0.4)]  # or the panel would be empty
    return Picture(data, layout, norm_summary(chosen, at[0]))


def norm_summary(chosen: NormErrors, at: int) -> str:
    """One normalisation at one M in words, with its numbers."""
    m, b = int(chosen.micro_batch_sizes[at]), chosen.effective_batch_size
    error, name = chosen.gradient_errors[at], NORMS[chosen.norm][0]
    words = f"{name}, M = {m}, K = {b // m}, B = {b}: the gradient differs from one big batch's by "
    words += f"{_says(error)}. "
    if chosen.norm == "group":
        return words + "GroupNorm keeps no running statistics."
    if chosen.norm == "frozen":
        return words + "The running statistics do not move."
    how = "corrected for K" if chosen.corrected else "0.1 as it is"
    return words + (
        f"With a momentum of {how}, the running mean differs by {_says(chosen.mean_errors[at])}, the running "
        f"variance by {_says(chosen.variance_errors[at])} (on average it is "
        f"{chosen.variance_ratios[at]:.3f} times as large)."
    )


def weighting_picture(chosen: Weighting, every: Sequence[Weighting], micro_batch_size: int) -> Picture:
    """The gradient's error of each weighting against M, and what one syllable weighs in each utterance."""
    sizes = chosen.micro_batch_sizes
    at = [int(np.flatnonzero(sizes == micro_batch_size)[0])]
    data = [
        *(theme.line(sizes, _floored(w.errors), "", *_style(WEIGHTINGS[w.name])) for w in every),
        _star(sizes[at], _floored(chosen.errors[at]), ""),
        theme.line([0, 9], [1, 1], "2", "right: 1", theme.GREY, "dash"),
        theme.line(chosen.lengths, chosen.weights[at[0]], "2", "found", theme.BLUE, "solid", "markers",
                   "circle-open", 9),
    ]  # fmt: skip
    layout = _layout(sizes, "relative error of the gradient")
    layout["xaxis2"] = theme.axis("syllables in the utterance", RIGHT, anchor="y2", range=[0.5, 8.5], dtick=1)
    layout["yaxis2"] = theme.axis(
        "weight of one syllable, 1 being right", TOP, anchor="x2", type="log", range=[-0.75, 1.0],
        tickvals=[0.25, 0.5, 1, 2, 4, 8], ticktext=["¼", "½", "1", "2", "4", "8"],
    )  # fmt: skip
    return Picture(data, layout, weighting_summary(chosen, at[0]))


def weighting_summary(chosen: Weighting, at: int) -> str:
    """One weighting at one M in words, with its numbers."""
    m, weights = int(chosen.micro_batch_sizes[at]), chosen.weights[at]
    spread = (
        "every syllable weighs what it should"
        if np.allclose(weights, 1)
        else f"a syllable weighs between {weights.min():.2g} and {weights.max():.2g} times what it should"
    )
    return (
        f"{WEIGHTINGS[chosen.name][0]}, M = {m}, K = {len(weights) // m}, B = {len(weights)} utterances of "
        f"{chosen.lengths.min()} to {chosen.lengths.max()} syllables: {spread}. The gradient differs from "
        f"that of the mean over all syllables by {_says(chosen.errors[at])}."
    )


def training_picture(
    chosen: SpeechRun, every: Sequence[SpeechRun], epoch: int, names: Sequence[str]
) -> Picture:
    """How many held-out utterances are misread after each epoch, and what the net hears in one of them.

    Args:
        chosen: the run whose hearing is shown.
        every: all runs, for the left panel.
        epoch: which state; 0 is before training.
        names: the syllables, in the order of the classes after the blank.
    """
    epochs = np.arange(len(chosen.error_rates))
    scores = chosen.scores[epoch]  # (frames, classes)
    seconds = chosen.seconds
    data = [
        *(theme.line(epochs, r.error_rates, "", *_style(WEIGHTINGS[r.name])) for r in every),
        _star(epochs[[epoch]], chosen.error_rates[[epoch]], ""),
        theme.line(seconds, scores[:, 0], "2", "blank", theme.GREY, "dash"),
        *(
            theme.line(seconds, scores[:, i + 1], "2", name, colour, "solid", "lines+markers", symbol)
            for i, (name, (colour, symbol)) in enumerate(zip(names, STYLES, strict=True))
        ),
    ]
    low = (0.0, 0.76)  # eleven names take four lines
    layout = theme.layout(
        height=500,
        top=8,
        xaxis=theme.axis("epochs", LEFT, range=[-0.4, len(epochs) - 0.6], dtick=2),
        yaxis=theme.axis("sequence error rate, share", low, range=[0, 1.05]),
        xaxis2=theme.axis("time, seconds", RIGHT, anchor="y2", range=[0, float(seconds[-1])]),
        yaxis2=theme.axis("probability", low, anchor="x2", range=[0, 1.05]),
    )
    return Picture(data, layout, training_summary(chosen, epoch))


def training_summary(run: SpeechRun, epoch: int) -> str:
    """One state of one run in words."""
    verdict = "right" if run.spelled[epoch] == run.target else "wrong"
    return (
        f"{WEIGHTINGS[run.name][0]}, after {epoch} epochs: {run.error_rates[epoch]:.1%} of the held-out "
        f"utterances are not read exactly. In the one on the right was said: {run.target}; the net reads: "
        f"{run.spelled[epoch]} ({verdict})."
    )


_LOG: dict[str, Any] = {"type": "log", "range": [-17.3, 2.2], "dtick": 4, "exponentformat": "power"}


def _layout(sizes: np.ndarray, title: str) -> dict[str, Any]:
    return theme.layout(
        height=430,
        top=8,
        margin={"l": 84, "r": 16, "t": 8, "b": 48},
        xaxis=_size_axis(sizes, LEFT),
        yaxis=theme.axis(title, TOP, **_LOG),
    )


def _size_axis(sizes: np.ndarray, domain: tuple[float, float], **more: Any) -> dict[str, Any]:
    """A logarithmic axis for M; it reaches a little beyond the sizes."""
    ends = [-0.1, float(np.log10(max(sizes[-1], 1))) + 0.1]
    ticks = {"tickvals": list(sizes), "ticktext": [str(s) for s in sizes]}
    return theme.axis("micro-batch size M", domain, type="log", range=ends, **ticks, **more)


def _style(style: tuple[str, str, str, str]) -> tuple[str, str, str, str, str]:
    """Name, colour, dash, mode and marker as ``theme.line`` takes them."""
    name, colour, dash, symbol = style
    return name, colour, dash, "lines+markers", symbol


def _star(x: np.ndarray, y: np.ndarray, panel: str) -> dict[str, Any]:
    return theme.line(x, y, panel, "this setting", theme.BLACK, "solid", "markers", "star", 15)


def _floored(errors: np.ndarray) -> np.ndarray:
    return np.maximum(errors, FLOOR)


def _says(error: float) -> str:
    return f"{error:.1e} (rounding)" if error < 1e-12 else f"{error:.2%}"
