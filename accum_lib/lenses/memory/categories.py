"""What each storage is for: said by the tracer where it knows, decided by its lifetime where not."""

import numpy as np

from accum_lib.lenses.memory.storages import Tape


def categories(tape: Tape) -> np.ndarray:
    """(storages,) the category of each.

    A storage that nobody has named and that is alive when its micro-batch's backward pass begins is an
    *activation*: the forward pass kept it. Any other is a *temporary*: it comes and goes within one pass,
    like the gradients of activations, or within the update.
    """
    named = tape.category
    kept = np.zeros(len(named), dtype=bool)
    for name, event, _ in tape.marks:
        if name == "backward":
            kept |= _alive_at(tape, event)
    return np.where(named != "", named, np.where(kept, "activations", "temporaries"))


def _alive_at(tape: Tape, event: int) -> np.ndarray:
    """(storages,) born, and not dead, before this event."""
    alive = np.zeros(len(tape.nbytes), dtype=int)
    np.add.at(alive, tape.storage[:event], tape.sign[:event])
    return alive > 0
