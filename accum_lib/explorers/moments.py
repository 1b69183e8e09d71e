"""The explorer of notebook 00: one epoch of accumulation, moment by moment, with a play button."""

from accum_lib.explorers.grid import Control, GridExplorer
from accum_lib.figures import moments as figure
from accum_lib.lenses.moments import moments
from accum_lib.lenses.paths import surface
from accum_lib.problems.regression import Regression
from accum_lib.words import N_, _

SAMPLES, MICRO_BATCH, STEPS, LEARNING_RATE = 44, 4, 4, 0.1  # 11 micro-batches: windows of 4, 4 and 3


def moments_explorer() -> GridExplorer:
    """Watch micro-batches fill the gradient buffer: a real run on 44 samples, M = 4, K = 4."""
    problem = Regression(num_samples=SAMPLES)
    story, ground = moments(problem, MICRO_BATCH, STEPS, LEARNING_RATE), surface(problem)
    inputs = problem.x.numpy()
    full = STEPS  # the moment at which the first buffer is full tells most: start there
    control = Control(
        "moment",
        N_("Moment"),
        range(len(story)),
        full,
        [_("{number} of {all}", number=i + 1, all=len(story)) for i in range(len(story))],
        play_ms=900,
    )
    return GridExplorer([control], lambda moment: figure.picture(story, moment, inputs, ground))
