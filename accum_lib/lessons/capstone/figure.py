"""Training with a script, beside one big batch for each update."""

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.words import _

ROUNDING = 1e-4  # float32, six epochs of AdamW: what rounding alone makes stays far below


def picture(losses: np.ndarray, reference: np.ndarray, distance: float) -> Picture:
    """Draw both losses against epochs.

    Args:
        losses, reference: (E + 1,) mean loss in nats, of the script and of one big batch.
        distance: of the weights at the end, relative to the way that the big batch's went.
    """
    epochs = np.arange(len(reference))
    lowest, highest = float(min(losses.min(), reference.min())), float(max(losses.max(), reference.max()))
    data = [
        theme.line(epochs, reference, "", _("one big batch"), theme.BLACK, "solid"),
        theme.line(epochs, losses, "", _("the script"), theme.VERMILION, "dash", "lines+markers", size=9),
    ]
    layout = theme.layout(
        height=330,
        top=8,
        xaxis=theme.axis(_("epoch"), (0.0, 1.0), range=[-0.1, len(epochs) - 0.9], dtick=1),
        yaxis=theme.axis(
            _("mean loss over all hidden tokens, nats"), (0.0, 0.84), range=[lowest - 0.1, highest + 0.1]
        ),
    )
    return Picture(data, layout, summary(losses, reference, distance))


def summary(losses: np.ndarray, reference: np.ndarray, distance: float) -> str:
    """Both ends in words."""
    if distance < ROUNDING:
        verdict = _("That is rounding: it is the same run.")
    else:
        verdict = _("That is not rounding: it is another run.")
    return _(
        "After {epochs} epochs the loss is {loss:.3f} with the script and {right:.3f} with one big batch "
        "for each update. The weights end {distance:.2g} apart, relative to the way that the big batch's "
        "went. {verdict}",
        epochs=len(reference) - 1,
        loss=losses[-1],
        right=reference[-1],
        distance=distance,
        verdict=verdict,
    )
