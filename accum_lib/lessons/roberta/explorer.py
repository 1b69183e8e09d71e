"""The explorer of notebook 06: one B at five sizes of model, cut into any K."""

from collections.abc import Callable
from functools import cache

import ipywidgets
from IPython.display import display

from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.still import show_still
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.roberta import figure
from accum_lib.lessons.roberta.figure import training_picture as picture
from accum_lib.lessons.roberta.measure import Rehearsal, fixed_batch, rehearse
from accum_lib.lessons.roberta.problem import TaskProblem
from accum_lib.lessons.roberta.record import FixedBatch
from accum_lib.problems.base import Problem
from accum_lib.problems.digits import Digits
from accum_lib.problems.regression import Regression
from accum_lib.training.records import UpdateRecord
from accum_lib.words import N_, _, language

STEPS = (1, 2, 4, 8)
UPDATES = 10
MAX_TOKENS = 20  # longer docstrings are cut, so that all runs take seconds
MODELS: dict[str, tuple[str, Callable[[], Problem]]] = {
    "regression": (N_("regression"), Regression),
    "mlp": (N_("digits, MLP"), lambda: Digits("mlp")),
    "cnn": (N_("digits, CNN"), lambda: Digits("cnn")),
    "roberta": (N_("tiny RoBERTa"), lambda: TaskProblem(max_tokens=MAX_TOKENS)),
    "dropout": (N_("with dropout"), lambda: TaskProblem(max_tokens=MAX_TOKENS, dropout=0.1)),
}
CONTROLS = [
    Control("steps", N_("Accumulation steps K"), STEPS, 8),
    Control("model", N_("Model:"), tuple(MODELS), "mlp", [words for words, _ in MODELS.values()], "choice"),
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


def train_and_show(epochs: int = 2) -> Rehearsal | None:
    """Train tiny RoBERTa, then draw loss and held-out accuracy; None if the reader has stopped it."""
    bar = ipywidgets.IntProgress(description=_("Training"), layout={"width": "24em"})
    words = ipywidgets.HTML()
    box = ipywidgets.HBox([bar, words])
    display({**(box._repr_mimebundle_() or {}), "text/plain": _("Training, with a progress bar.")}, raw=True)

    def tell(update: UpdateRecord, planned: int) -> None:
        bar.max, bar.value = planned, update.update
        words.value = _(
            "loss {loss:.2f}, {tokens_per_second:,.0f} tokens/s",
            loss=update.loss,
            tokens_per_second=update.tokens_per_second,
        )

    try:
        done = rehearse(epochs, tell)
    except KeyboardInterrupt:
        words.value = _("Stopped. Run this cell to train again.")
        return None
    show_still(lambda: picture(done.updates, done.training.evaluations, done.majority))
    return done
