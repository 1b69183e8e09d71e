"""Moves that change coordinates and ranges alone, drawn by a shorter way than all others."""

import pytest

pytestmark = pytest.mark.browser

RANGES = """
import numpy as np
from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture

def picture_of(a):
    x = np.arange(20.0)
    first = theme.line(x, x, "", "still", theme.BLUE, "solid", "lines+markers")
    second = theme.line(x, x * a, "", "moves", theme.ORANGE, "dash", "lines+markers")
    for trace in (first, second):
        trace["marker"]["maxdisplayed"] = 6
    x_axis, y_axis = theme.axis("x", (0, 1), range=[0, 19]), theme.axis("y", (0, 1), range=[0, 20 * a])
    return Picture([first, second], theme.layout(300, xaxis=x_axis, yaxis=y_axis), f"a is {a}")

GridExplorer([Control("a", "A", (1, 2, 3), 1)], picture_of).show()
"""


def test_there_and_back_again_is_drawn_as_at_first(scratch) -> None:
    """Plotly writes the new ranges into the layout it holds: that must not be the setting's own."""
    _, explorer = scratch(RANGES)
    for key, a in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("ArrowLeft", 1)):
        explorer.press("a", key)
        assert explorer.summary() == f"a is {a}"
        assert explorer.look().axes["yaxis"][:2] == [0, 20 * a]
        assert explorer.plotted()[1]["y"][-1] == 19 * a
        assert explorer.drawn_as_if_new(), "also which of the markers are shown"
