"""The explorer of notebook 06: one B at five sizes of model, cut into any K."""

from collections.abc import Callable
from functools import cache

from accum_lib.explorers.grid import Control, GridExplorer
from accum_lib.figures import fixed_batch as figure
from accum_lib.figures.picture import Picture
from accum_lib.lenses.fixed_batch import fixed_batch
from accum_lib.problems import Digits, Regression
from accum_lib.problems.base import Problem
from accum_lib.records.fixed_batch import FixedBatch
from accum_lib.roberta.problem import RobertaTask
from accum_lib.words import N_, language

STEPS = (1, 2, 4, 8)
UPDATES = 10
MAX_TOKENS = 20  # longer docstrings are cut, so that all runs take seconds
MODELS: dict[str, tuple[str, Callable[[], Problem]]] = {
    "regression": (N_("regression"), Regression),
    "mlp": (N_("digits, MLP"), lambda: Digits("mlp")),
    "cnn": (N_("digits, CNN"), lambda: Digits("cnn")),
    "roberta": (N_("tiny RoBERTa"), lambda: RobertaTask(max_tokens=MAX_TOKENS)),
    "dropout": (N_("with dropout"), lambda: RobertaTask(max_tokens=MAX_TOKENS, dropout=0.1)),
}
CONTROLS = [
    Control("steps", N_("Accumulation steps K"), STEPS, 8),
    Control(
        "model", N_("Model:"), tuple(MODELS), "roberta", [words for words, _ in MODELS.values()], "choice"
    ),
]


def runs_of(model: str) -> FixedBatch:
    """The runs of one model, made once in each language: they bear the model's name in words."""
    return _runs_of(model, language())


@cache
def _runs_of(model: str, _spoken: str) -> FixedBatch:
    _, make = MODELS[model]
    return fixed_batch(make(), steps=STEPS, updates=UPDATES)


def fixed_batch_explorer() -> GridExplorer:
    """Loss curves at fixed B = 32: which K, and which model."""

    def picture_of(steps: int, model: str) -> Picture:
        return figure.picture(runs_of(model), steps)

    return GridExplorer(CONTROLS, picture_of)
