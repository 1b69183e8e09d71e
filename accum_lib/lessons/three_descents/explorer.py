"""The explorer of notebook 01: three descents under M, K, the learning rate, sum or mean, and a budget."""

import itertools
from functools import cache

from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.three_descents import cut_figure, figure, slow_motion
from accum_lib.lessons.three_descents.measure import (
    EPOCHS,
    UPDATES,
    DescentComparison,
    cut_window,
    surface,
    window_story,
)
from accum_lib.problems.regression import Regression
from accum_lib.words import N_, _

CONTROLS = [
    Control("micro_batch_size", N_("Micro-batch size M"), (20, 50, 100, 200, 500), 20),
    Control("accumulation_steps", N_("Accumulation steps K"), (1, 2, 4, 5, 10), 10),
    Control("learning_rate", N_("Learning rate"), (0.01, 0.03, 0.1, 0.2, 0.4), 0.2),
    Control(
        "gradient", N_("Gradient:"), ("mean", "sum"), "mean", (N_("mean of K"), N_("sum of K")), "choice"
    ),
]


def descents_explorer(problem: Regression | None = None) -> GridExplorer:
    """An explorer of the three descents on a regression, by default that of the worked example."""
    problem = problem or Regression()
    runs, ground = DescentComparison(problem), surface(problem)

    def picture_of(
        micro_batch_size: int, accumulation_steps: int, learning_rate: float, gradient: str, budget: str
    ) -> Picture:
        comparison = runs.compare(micro_batch_size, accumulation_steps, learning_rate, gradient, budget)
        return figure.picture(comparison, ground)

    words = [_("examples ({epochs} epochs)", epochs=EPOCHS), _("updates ({updates})", updates=UPDATES)]
    budget = Control("budget", N_("Compare at equal:"), ("examples", "updates"), "examples", words, "choice")
    return GridExplorer([*CONTROLS, budget], picture_of)


STARTS = [
    (w1, w2) for w2 in (-4.0, -2.5, -1.0, 0.5, 2.0) for w1 in (-2.0, -0.5, 1.0, 2.5, 4.0, 5.5)
]  # in rows
START_WORDS = [f"({w1:g}, {w2:g})".replace("-", "−") for w1, w2 in STARTS]


def starts_explorer(num_samples: int = 1000) -> GridExplorer:
    """The worked example's three descents from wherever the reader puts the start, at equal updates."""
    ground = surface(Regression(num_samples))

    @cache
    def runs_from(start: tuple[float, float]) -> DescentComparison:
        return DescentComparison(Regression(num_samples, start=start))

    def picture_of(start: tuple[float, float], learning_rate: float) -> Picture:
        return figure.start_picture(runs_from(start).compare(100, 2, learning_rate, budget="updates"), ground)

    controls = [
        Control("start", N_("Start (w₁, w₂)"), STARTS, (-2.0, 2.0), START_WORDS, axis="xaxis", places=STARTS),
        Control("learning_rate", N_("Learning rate:"), (0.1, 0.4), 0.1, kind="choice"),
    ]
    return GridExplorer(controls, picture_of)


SAMPLES, MICRO_BATCH, STEPS, LEARNING_RATE = 44, 4, 4, 0.1  # 11 micro-batches: windows of 4, 4 and 3


def moments_explorer() -> GridExplorer:
    """Watch micro-batches fill the gradient buffer: a real run on 44 samples, M = 4, K = 4."""
    problem = Regression(num_samples=SAMPLES)
    story, ground = window_story(problem, MICRO_BATCH, STEPS, LEARNING_RATE), surface(problem)
    inputs = problem.x.numpy()
    control = Control(
        "moment",
        N_("Moment"),
        range(len(story)),
        0,
        [_("{number} of {all}", number=i + 1, all=len(story)) for i in range(len(story))],
        play_ms=900,
    )
    return GridExplorer([control], lambda moment: slow_motion.picture(story, moment, inputs, ground))


WINDOW = 12  # examples, as in the shorter window of the moments


def cuts_explorer() -> GridExplorer:
    """Drag the cuts between micro-batches: a mean of means changes, the sum over the count does not."""
    places = range(1, WINDOW)
    found = {
        cuts: cut_window(Regression(num_samples=WINDOW), cuts) for cuts in itertools.product(places, repeat=2)
    }
    gradients = cut_figure.room(list(found.values()))
    controls = [
        Control("first", N_("First cut after example"), places, 1, axis="xaxis"),
        Control("second", N_("Second cut after example"), places, 8, axis="xaxis"),
    ]
    return GridExplorer(controls, lambda first, second: cut_figure.picture(found[first, second], gradients))
