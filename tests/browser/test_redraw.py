"""Moves that leave titles and most of the layout as they are: drawn by a shorter way than all others."""

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
    third = theme.line(x[::a], x[::a], "", f"by {a}", theme.GREEN, "solid", "markers")
    third["marker"] |= {"size": [10.0 * a - k / 2 for k in range(20)], "symbol": ["star", "square"][a % 2]}
    colour = [theme.BLACK, theme.BLUE, theme.GREEN, theme.ORANGE][a]
    bars = {"type": "bar", "x": x[:4], "y": x[:4] * a, "name": "bars", "marker": {"color": colour}}
    ticks = {"tickvals": [0, 5 * a], "ticktext": ["none", f"five times {a}"]}
    x_axis = theme.axis("x", (0, 1), range=[0, 19])
    y_axis = theme.axis("y", (0, 1), range=[0, 20 * a], **ticks)
    x_few = x[: 3 * (a > 1)]  # a series without points leaves the legend
    fourth = theme.line(x_few, x_few, "", "above 1", theme.BLACK, "solid", "markers")
    notes = [theme.heading(f"A is {a}", 0.5)] + [theme.heading("large", 0.2)] * (a > 1)
    layout = theme.layout(300, xaxis=x_axis, yaxis=y_axis, annotations=notes)
    return Picture([first, second, third, fourth, bars], layout, f"a is {a}")

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
        assert explorer.drawn_as_if_new(), "also which of the markers are shown, their styles, and all words"
    explorer.root.locator(".annotation text").first.evaluate("text => { text.textContent = 'A is 9'; }")
    assert not explorer.drawn_as_if_new(), "what is not drawn would be noticed"
