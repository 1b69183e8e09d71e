"""The explorer of notebook 02: number format, weighing and K, and what they do to the gradient."""

from functools import cache

from accum_lib.lessons.equivalence import figure
from accum_lib.lessons.equivalence.measure import FORMATS, REDUCTIONS, STEPS, microscope
from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
from accum_lib.words import N_

WORDS = (N_("loss sums over the window's count"), N_("mean losses over K"), N_("mean losses, not divided"))
CONTROLS = [
    Control("steps", N_("Accumulation steps K"), STEPS, 8, axis="xaxis"),
    Control("name", N_("Number format"), tuple(FORMATS), "float32"),
    Control("reduction", N_("The loop adds up:"), REDUCTIONS, "right", WORDS, "choice"),
    Control(
        "ragged",
        N_("Micro-batches count:"),
        (True, False),
        True,
        (N_("1 to 12 tokens"), N_("6 tokens each")),
        "choice",
    ),
]


def microscope_explorer() -> GridExplorer:
    """Look at one window's gradient in four number formats, weighed rightly and wrongly, for K up to 128."""
    measured = cache(microscope)

    def picture_of(steps: int, name: str, reduction: str, ragged: bool) -> Picture:
        others = [measured(other, reduction, ragged) for other in FORMATS if other != name]
        return figure.picture(measured(name, reduction, ragged), steps, others)

    return GridExplorer(CONTROLS, picture_of)
