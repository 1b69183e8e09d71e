"""The explorer of notebook 10: a small RoBERTa under the script as it was found, and as the reader has it."""

from collections.abc import Callable
from functools import cache

from accum_lib.check.loop import Loop
from accum_lib.lessons.capstone import figure
from accum_lib.lessons.capstone.measure import Run, apart, big_batch, found_script
from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
from accum_lib.words import N_


def run_explorer(
    script: Loop, run: Callable[[Loop], Run] = Run, reference: Callable[[], Run] = big_batch
) -> GridExplorer:
    """Train with a script, and show it beside one big batch for each update.

    Args:
        script: ``script(model, optimizer, loader, accumulation_steps, scheduler, max_grad_norm)``, an epoch.
        run: trains with one.
        reference: one big batch for each update, trained when it is first needed.
    """
    scripts = {"found": found_script, "yours": script}
    runs = cache(lambda name: run(scripts[name]))

    def picture_of(which: str) -> Picture:
        found, right = runs(which), reference()
        return figure.picture(found.losses, right.losses, apart(found, right))

    words = (N_("as it was found"), N_("in the cell above"))
    return GridExplorer(
        [Control("which", N_("Script:"), tuple(scripts), "found", words, "choice")], picture_of
    )
