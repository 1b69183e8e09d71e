"""Loss curves of one B cut in several ways, and how far they are apart."""

from typing import Any

import numpy as np

from accum_lib.figures import theme
from accum_lib.figures.picture import Picture
from accum_lib.records.fixed_batch import FixedBatch

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
            updates, big, "", "one big batch, K = 1", theme.BLACK, "solid", "markers", "circle-open", 11
        ),
        theme.line(updates, runs.again, "", "once more, K = 1", theme.GREY, "dot"),
        theme.line(updates, chosen, "", "accumulated, this K", theme.BLUE, "solid", "lines+markers"),
        _apart(updates, runs.again, big, "", theme.GREY, "dot", "circle"),
        _apart(updates, chosen, big, "", theme.BLUE, "solid", "circle"),
    ]
    high, low = max(big.max(), runs.losses.max()), min(big.min(), runs.losses.min())
    margin = 0.1 * (high - low)
    ends = [0, len(updates) + 1]
    layout = theme.layout(
        height=400,
        top=8,
        xaxis=theme.axis("optimizer updates", LEFT, range=ends),
        yaxis=theme.axis(
            "mean loss of the window", TOP, range=[float(low - margin), float(high + margin)]
        ),
        xaxis2=theme.axis("optimizer updates", RIGHT, anchor="y2", range=ends),
        yaxis2=theme.axis(
            "loss, apart from K = 1", TOP, anchor="x2", type="log", exponentformat="power", dtick=2,
            range=[float(np.log10(FLOOR)) - 0.3, float(np.log10(CEILING))],
        ),
    )  # fmt: skip
    return Picture(data, layout, summary(runs, steps))


def summary(runs: FixedBatch, steps: int) -> str:
    """The comparison in words, with its numbers."""
    at = runs.steps.index(steps)
    m = runs.batch_size // steps
    apart = float(np.abs(runs.losses[at] - runs.losses[0]).max())
    what = f"{runs.name} ({runs.parameters:,} weights), B = {runs.batch_size}: M = {m}, K = {steps}."
    if steps == 1:
        return f"{what} This is the one big batch itself; move K."
    end = f"the final weights differ by {runs.distances[at]:.1g} of the way that they went"
    if runs.distance_again > 0:
        return (
            f"{what} Dropout draws other masks in each pass: losses are up to {apart:.1g} apart, {end}. One "
            f"big batch trained once more with other masks ends {runs.distance_again:.1g} apart from itself."
        )
    if runs.batch_norm:
        return f"{what} BatchNorm sees M examples, not B: losses are up to {apart:.1g} apart, {end}."
    return f"{what} Its losses are never further than {apart:.1g} from the big batch's; {end}."


def _apart(
    x: np.ndarray, y: np.ndarray, other: np.ndarray, name: str, colour: str, dash: str, symbol: str
) -> dict[str, Any]:
    difference = np.clip(np.abs(y - other), FLOOR, None)
    return theme.line(x, difference, "2", name, colour, dash, "lines+markers", symbol, 6)
