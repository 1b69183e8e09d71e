"""The explorers of notebook 07: normalisations on images, weightings on audio, and a net that learns."""

from functools import cache

from accum_lib.lessons.beyond_text import figure, measure
from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
from accum_lib.problems.audio import NAMES
from accum_lib.words import N_

NORMS = tuple(figure.NORMS)
MOMENTA = (N_("0.1 as it is"), N_("corrected for K"))
WEIGHTING = Control(
    "name", N_("Losses are averaged:"), tuple(figure.WEIGHTINGS), "mean of means",
    [words for words, *_look in figure.WEIGHTINGS.values()], "choice",
)  # fmt: skip


def _sizes(sizes: tuple[int, ...], batch: int) -> list[str]:
    return [f"{m} (K = {batch // m})" for m in sizes]


def norm_explorer() -> GridExplorer:
    """M at B = 64 for three normalisations: the gradient's error, and the running statistics'."""
    measured = cache(measure.norm_errors)
    sizes = measure.SIZES
    controls = [
        Control("micro_batch_size", N_("Micro-batch size M"), sizes, 8, _sizes(sizes, measure.BATCH)),
        Control("norm", N_("Normalisation:"), NORMS, "batch",
                [words for words, *_look in figure.NORMS.values()], "choice"),
        Control("corrected", N_("BatchNorm's momentum:"), (False, True), False, MOMENTA, "choice"),
    ]  # fmt: skip

    def picture_of(micro_batch_size: int, norm: str, corrected: bool) -> Picture:
        every = [measured(n, corrected and n == "batch") for n in NORMS]
        return figure.norm_picture(every[NORMS.index(norm)], every, micro_batch_size)

    return GridExplorer(controls, picture_of)


def weighting_explorer() -> GridExplorer:
    """M at B = 32 for three ways of averaging CTC's losses, and what a syllable then weighs."""
    measured = cache(measure.weigh)
    sizes = measure.SPEECH_SIZES
    controls = [
        Control("micro_batch_size", N_("Micro-batch size M"), sizes, 4, _sizes(sizes, measure.SPEECH_BATCH)),
        WEIGHTING,
    ]

    def picture_of(micro_batch_size: int, name: str) -> Picture:
        every = [measured(n) for n in figure.WEIGHTINGS]
        return figure.weighting_picture(measured(name), every, micro_batch_size)

    return GridExplorer(controls, picture_of)


def speech_explorer(epochs: int = 10) -> GridExplorer:
    """Follow a net that learns to spell, epoch by epoch, under each weighting."""
    trained = cache(measure.train)
    start = Control(WEIGHTING.name, WEIGHTING.label, WEIGHTING.values, "window", WEIGHTING.labels, "choice")
    states = Control("epoch", N_("Epochs of training"), tuple(range(epochs + 1)), 2, play_ms=700)

    def picture_of(epoch: int, name: str) -> Picture:
        every = [trained(n, epochs=epochs) for n in figure.WEIGHTINGS]
        return figure.training_picture(trained(name, epochs=epochs), every, epoch, NAMES)

    return GridExplorer([states, start], picture_of)
