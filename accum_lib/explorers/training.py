"""A real training run under a progress bar, for notebook 06. An interrupt of the kernel (■) stops it."""

import base64
import textwrap

import ipywidgets
from IPython.display import display

from accum_lib.figures.picture import Picture
from accum_lib.figures.still import png
from accum_lib.figures.training import picture
from accum_lib.records.training import Update
from accum_lib.roberta.rehearsal import Rehearsal, interrupted_and_not, rehearse

__all__ = ["interrupted_and_not", "train_and_show"]


def train_and_show(epochs: int = 2) -> Rehearsal | None:
    """Train tiny RoBERTa, then draw loss and held-out accuracy; None if the reader has stopped it."""
    bar = ipywidgets.IntProgress(description="Training", layout={"width": "24em"})
    words = ipywidgets.HTML()
    box = ipywidgets.HBox([bar, words])
    display({**(box._repr_mimebundle_() or {}), "text/plain": "Training, with a progress bar."}, raw=True)

    def tell(update: Update, planned: int) -> None:
        bar.max, bar.value = planned, update.update
        words.value = f"loss {update.loss:.2f}, {update.tokens_per_second:,.0f} tokens/s"

    try:
        done = rehearse(epochs, tell)
    except KeyboardInterrupt:
        words.value = "Stopped. Run this cell again to train anew."
        return None
    show_still(picture(done.updates, done.training.evaluations, done.majority))
    return done


def show_still(drawn: Picture) -> None:
    """A picture that has nothing to set, with its text for those who can't see it."""
    shown = {"image/png": base64.b64encode(png(drawn)).decode(), "text/plain": drawn.summary}
    display(shown, metadata={"image/png": {"alt": drawn.summary}}, raw=True)
    print(textwrap.fill(drawn.summary, 96))
