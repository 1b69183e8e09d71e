"""A real training run under a progress bar, for notebook 06. An interrupt of the kernel (■) stops it."""

import ipywidgets
from IPython.display import display

from accum_lib.explorers.stills import show_still
from accum_lib.figures.training import picture
from accum_lib.records.training import Update
from accum_lib.roberta.rehearsal import Rehearsal, rehearse
from accum_lib.words import _


def train_and_show(epochs: int = 2) -> Rehearsal | None:
    """Train tiny RoBERTa, then draw loss and held-out accuracy; None if the reader has stopped it."""
    bar = ipywidgets.IntProgress(description=_("Training"), layout={"width": "24em"})
    words = ipywidgets.HTML()
    box = ipywidgets.HBox([bar, words])
    display({**(box._repr_mimebundle_() or {}), "text/plain": _("Training, with a progress bar.")}, raw=True)

    def tell(update: Update, planned: int) -> None:
        bar.max, bar.value = planned, update.update
        words.value = _(
            "loss {loss:.2f}, {tokens_per_second:,.0f} tokens/s",
            loss=update.loss,
            tokens_per_second=update.tokens_per_second,
        )

    try:
        done = rehearse(epochs, tell)
    except KeyboardInterrupt:
        words.value = _("Stopped. Run this cell again to train anew.")
        return None
    show_still(lambda: picture(done.updates, done.training.evaluations, done.majority))
    return done
