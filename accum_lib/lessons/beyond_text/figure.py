"""Notebook 07's pictures: BatchNorm against M, CTC's weightings against M, and a net that learns to spell."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accum_lib.lessons.beyond_text.record import NormErrors, SpeechRun, Weighting
from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.words import N_, _, sentences

LEFT, RIGHT, TOP = (0.0, 0.44), (0.58, 1.0), (0.0, 0.84)
FLOOR = 1e-17  # an error of 0 is drawn here: a logarithm has no place for it
NORMS = {
    "batch": ("BatchNorm", theme.VERMILION, "solid", "circle"),
    "group": ("GroupNorm", theme.BLUE, "dash", "square"),
    "frozen": (N_("frozen statistics"), theme.GREEN, "dot", "diamond"),
}
WEIGHTINGS = {
    "window": (N_("sum / window's syllables"), theme.BLUE, "solid", "circle"),
    "mean of means": (N_("mean of means"), theme.VERMILION, "dash", "square"),
    "torch mean": (N_("torch's mean"), theme.PURPLE, "dot", "diamond"),
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
        theme.line(sizes, _floored(chosen.mean_errors), "2", _("running mean"), theme.SKY, "solid",
                   "lines+markers", "triangle-up"),
        theme.line(sizes, _floored(chosen.variance_errors), "2", _("running variance"), theme.ORANGE, "dash",
                   "lines+markers", "square"),
    ]  # fmt: skip
    layout = _layout(sizes, _("relative error of the gradient"))
    layout["yaxis2"] = theme.axis(_("error of the running statistics"), TOP, anchor="x2", **_LOG)
    layout["xaxis2"] = _size_axis(sizes, RIGHT, anchor="y2")
    nothing = _("GroupNorm keeps none") if np.isnan(chosen.mean_errors).all() else ""
    layout["annotations"] = [theme.heading(nothing, sum(RIGHT) / 2, 0.4)]  # or the panel would be empty
    return Picture(data, layout, norm_summary(chosen, at[0]))


def norm_summary(chosen: NormErrors, at: int) -> str:
    """One normalisation at one M in words, with its numbers."""
    m, b = int(chosen.micro_batch_sizes[at]), chosen.effective_batch_size
    error, name = chosen.gradient_errors[at], _(NORMS[chosen.norm][0])
    words = _(
        "{name}, M = {m}, K = {k}, B = {b}: the gradient differs from one big batch's by {error}.",
        name=name,
        m=m,
        k=b // m,
        b=b,
        error=_says(error),
    )
    if chosen.norm == "group":
        return sentences(words, _("GroupNorm keeps no running statistics."))
    if chosen.norm == "frozen":
        return sentences(words, _("The running statistics do not move."))
    how = _("corrected for K") if chosen.corrected else _("0.1 as it is")
    statistics = _(
        "With a momentum of {how}, the running mean differs by {mean}, the running variance by "
        "{variance} (on average it is {ratio:.3f} times as large).",
        how=how,
        mean=_says(chosen.mean_errors[at]),
        variance=_says(chosen.variance_errors[at]),
        ratio=chosen.variance_ratios[at],
    )
    return sentences(words, statistics)


def weighting_picture(chosen: Weighting, every: Sequence[Weighting], micro_batch_size: int) -> Picture:
    """The gradient's error of each weighting against M, and what one syllable weighs in each utterance."""
    sizes = chosen.micro_batch_sizes
    at = [int(np.flatnonzero(sizes == micro_batch_size)[0])]
    data = [
        *(theme.line(sizes, _floored(w.errors), "", *_style(WEIGHTINGS[w.name])) for w in every),
        _star(sizes[at], _floored(chosen.errors[at]), ""),
        theme.line([0, 9], [1, 1], "2", _("right: 1"), theme.GREY, "dash"),
        theme.line(chosen.lengths, chosen.weights[at[0]], "2", _("found"), theme.BLUE, "solid", "markers",
                   "circle-open", 9),
    ]  # fmt: skip
    layout = _layout(sizes, _("relative error of the gradient"))
    layout["xaxis2"] = theme.axis(
        _("syllables in the utterance"), RIGHT, anchor="y2", range=[0.5, 8.5], dtick=1
    )
    layout["yaxis2"] = theme.axis(
        _("weight of one syllable, 1 being right"), TOP, anchor="x2", type="log", range=[-0.75, 1.0],
        tickvals=[0.25, 0.5, 1, 2, 4, 8], ticktext=["¼", "½", "1", "2", "4", "8"],
    )  # fmt: skip
    return Picture(data, layout, weighting_summary(chosen, at[0]))


def weighting_summary(chosen: Weighting, at: int) -> str:
    """One weighting at one M in words, with its numbers."""
    m, weights = int(chosen.micro_batch_sizes[at]), chosen.weights[at]
    spread = (
        _("every syllable weighs what it should")
        if np.allclose(weights, 1)
        else _(
            "a syllable weighs between {lowest:.2g} and {highest:.2g} times what it should",
            lowest=weights.min(),
            highest=weights.max(),
        )
    )
    return _(
        "{name}, M = {m}, K = {k}, B = {b} utterances of {shortest} to {longest} syllables: {spread}. The "
        "gradient differs from that of the mean over all syllables by {error}.",
        name=_(WEIGHTINGS[chosen.name][0]),
        m=m,
        k=len(weights) // m,
        b=len(weights),
        shortest=chosen.lengths.min(),
        longest=chosen.lengths.max(),
        spread=spread,
        error=_says(chosen.errors[at]),
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
        theme.line(seconds, scores[:, 0], "2", _("blank"), theme.GREY, "dash"),
        *(
            theme.line(seconds, scores[:, i + 1], "2", name, colour, "solid", "lines+markers", symbol)
            for i, (name, (colour, symbol)) in enumerate(zip(names, STYLES, strict=True))
        ),
    ]
    low = (0.0, 0.76)  # eleven names take four lines
    layout = theme.layout(
        height=500,
        top=8,
        xaxis=theme.axis(_("epochs"), LEFT, range=[-0.4, len(epochs) - 0.6], dtick=2),
        yaxis=theme.axis(_("sequence error rate, share"), low, range=[0, 1.05]),
        xaxis2=theme.axis(_("time, seconds"), RIGHT, anchor="y2", range=[0, float(seconds[-1])]),
        yaxis2=theme.axis(_("probability"), low, anchor="x2", range=[0, 1.05]),
    )
    return Picture(data, layout, training_summary(chosen, epoch))


def training_summary(run: SpeechRun, epoch: int) -> str:
    """One state of one run in words."""
    verdict = _("right") if run.spelled[epoch] == run.target else _("wrong")
    return _(
        "{name}, after {epoch} epochs: {share:.1%} of the held-out utterances are not read exactly. In the "
        "one on the right was said: {target}; the net reads: {heard} ({verdict}).",
        name=_(WEIGHTINGS[run.name][0]),
        epoch=epoch,
        share=run.error_rates[epoch],
        target=run.target,
        heard=run.spelled[epoch],
        verdict=verdict,
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
    return theme.axis(_("micro-batch size M"), domain, type="log", range=ends, **ticks, **more)


def _style(style: tuple[str, str, str, str]) -> tuple[str, str, str, str, str]:
    """Name, colour, dash, mode and marker as ``theme.line`` takes them."""
    name, colour, dash, symbol = style
    return _(name), colour, dash, "lines+markers", symbol


def _star(x: np.ndarray, y: np.ndarray, panel: str) -> dict[str, Any]:
    return theme.line(x, y, panel, _("this setting"), theme.BLACK, "solid", "markers", "star", 15)


def _floored(errors: np.ndarray) -> np.ndarray:
    return np.maximum(errors, FLOOR)


def _says(error: float) -> str:
    return _("{error:.1e} (rounding)", error=error) if error < 1e-12 else f"{error:.2%}"
