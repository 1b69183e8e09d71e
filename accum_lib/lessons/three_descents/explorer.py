"""The explorer of notebook 01: three descents under M, K, the learning rate, sum or mean, and a budget."""

from accum_lib.explorers.grid import Control, GridExplorer
from accum_lib.figures import descents as figure
from accum_lib.figures.picture import Picture
from accum_lib.lenses.paths import EPOCHS, UPDATES, DescentComparison, surface
from accum_lib.problems.regression import Regression
from accum_lib.words import N_, _

CONTROLS = [
    Control("micro_batch_size", N_("Micro-batch size M"), (20, 50, 100, 200, 500), 100),
    Control("accumulation_steps", N_("Accumulation steps K"), (1, 2, 4, 5, 10), 2),
    Control("learning_rate", N_("Learning rate"), (0.01, 0.03, 0.1, 0.2, 0.4), 0.1),
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
