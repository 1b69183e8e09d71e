"""The first explorers of notebook 03: pick the curve, then see what M, K and the way of sampling do to it."""

from accum_lib.explorers.grid import Control, GridExplorer
from accum_lib.figures import variance as figure
from accum_lib.figures.picture import Picture
from accum_lib.lenses.variance import SAMPLINGS, VarianceLab
from accum_lib.words import N_

WORDS = (
    N_("shuffled, without replacement"),
    N_("with replacement"),
    N_("in file order"),
    N_("sorted by class"),
)
CONTROLS = [
    Control("micro_batch_size", N_("Micro-batch size M"), (1, 2, 4, 8, 16, 32), 8),
    Control("accumulation_steps", N_("Accumulation steps K"), (1, 2, 4, 8, 16), 4),
    Control("sampling", N_("Examples come:"), SAMPLINGS, "shuffled", WORDS, "choice"),
]
GUESS_CONTROLS = [
    Control("picked", N_("The variance:"), (0, 1, 2, 3), 0, figure.GUESSES, "choice"),
    Control(
        "revealed",
        N_("Show:"),
        (False, True),
        False,
        (N_("my guess"), N_("my guess and the measurement")),
        "choice",
    ),
]


def variance_explorer(lab: VarianceLab | None = None) -> GridExplorer:
    """Mini-batch gradients around the full gradient, under M, K and four ways of sampling."""
    lab = lab or VarianceLab()

    def picture_of(micro_batch_size: int, accumulation_steps: int, sampling: str) -> Picture:
        batches = lab.batches(micro_batch_size * accumulation_steps, sampling)
        curve = lab.curve(sampling)
        return figure.picture(batches, curve, accumulation_steps, lab.full_entry, lab.entry_variance)

    return GridExplorer(CONTROLS, picture_of)


def guess_explorer(lab: VarianceLab | None = None) -> GridExplorer:
    """Pick a curve of the variance against K; then have the measured one drawn beside it."""
    guesses = (lab or VarianceLab()).guesses()
    return GridExplorer(
        GUESS_CONTROLS, lambda picked, revealed: figure.guess_picture(guesses, picked, revealed)
    )
