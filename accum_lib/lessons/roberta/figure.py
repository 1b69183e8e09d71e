"""Loss curves of one B cut in several ways, and how far they are apart."""

from typing import Any

import numpy as np

from accum_lib.figures import theme
from accum_lib.figures.picture import Picture
from accum_lib.records.fixed_batch import FixedBatch
from accum_lib.words import _

LEFT, RIGHT = (0.0, 0.44), (0.56, 1.0)
TOP = (0.0, 0.84)
FLOOR, CEILING = 1e-7, 3.0  # of the axis of differences: losses in float32 hardly differ by less but by 0


def picture(runs: FixedBatch, steps: int) -> Picture:
    """Draw the run with ``steps`` = K beside that of one big batch.

    Args:
        runs: of one problem.
        steps: one of its K's.
    """
    at = runs.steps.index(steps)
    updates = np.arange(1, runs.losses.shape[1] + 1)
    big, chosen = runs.losses[0], runs.losses[at]
    data = [
        theme.line(
            updates, big, "", _("one big batch, K = 1"), theme.BLACK, "solid", "markers", "circle-open", 11
        ),
        theme.line(updates, runs.again, "", _("once more, K = 1"), theme.GREY, "dot"),
        theme.line(updates, chosen, "", _("accumulated, this K"), theme.BLUE, "solid", "lines+markers"),
        _apart(updates, runs.again, big, "", theme.GREY, "dot", "circle"),
        _apart(updates, chosen, big, "", theme.BLUE, "solid", "circle"),
    ]
    high, low = max(big.max(), runs.losses.max()), min(big.min(), runs.losses.min())
    margin = 0.1 * (high - low)
    ends = [0, len(updates) + 1]
    layout = theme.layout(
        height=400,
        top=8,
        xaxis=theme.axis(_("optimizer updates"), LEFT, range=ends),
        yaxis=theme.axis(
            _("mean loss of the window"), TOP, range=[float(low - margin), float(high + margin)]
        ),
        xaxis2=theme.axis(_("optimizer updates"), RIGHT, anchor="y2", range=ends),
        yaxis2=theme.axis(
            _("loss, apart from K = 1"), TOP, anchor="x2", type="log", exponentformat="power", dtick=2,
            range=[float(np.log10(FLOOR)) - 0.3, float(np.log10(CEILING))],
        ),
    )  # fmt: skip
    return Picture(data, layout, summary(runs, steps))


def summary(runs: FixedBatch, steps: int) -> str:
    """The comparison in words, with its numbers."""
    at = runs.steps.index(steps)
    m = runs.batch_size // steps
    apart = float(np.abs(runs.losses[at] - runs.losses[0]).max())
    what = _(
        "{name} ({parameters:,} weights), B = {b}: M = {m}, K = {steps}.",
        name=_(runs.name),
        parameters=runs.parameters,
        b=runs.batch_size,
        m=m,
        steps=steps,
    )
    if steps == 1:
        return _("{what} This is the one big batch itself; move K.", what=what)
    end = _(
        "the final weights differ by {distance:.1g} of the way that they went", distance=runs.distances[at]
    )
    if runs.distance_again > 0:
        return _(
            "{what} Dropout draws other masks in each pass: losses are up to {apart:.1g} apart, {end}. One "
            "big batch trained once more with other masks ends {distance_again:.1g} apart from itself.",
            what=what,
            apart=apart,
            end=end,
            distance_again=runs.distance_again,
        )
    if runs.batch_norm:
        return _(
            "{what} BatchNorm sees M examples, not B: losses are up to {apart:.1g} apart, {end}.",
            what=what,
            apart=apart,
            end=end,
        )
    return _(
        "{what} Its losses are never further than {apart:.1g} from the big batch's; {end}.",
        what=what,
        apart=apart,
        end=end,
    )


def _apart(
    x: np.ndarray, y: np.ndarray, other: np.ndarray, name: str, colour: str, dash: str, symbol: str
) -> dict[str, Any]:
    difference = np.clip(np.abs(y - other), FLOOR, None)
    return theme.line(x, difference, "2", name, colour, dash, "lines+markers", symbol, 6)
