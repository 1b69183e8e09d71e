"""What a reader sees when a computation is stopped or fails: words, and an explorer that still works."""

import pytest

pytestmark = pytest.mark.browser

SLOW = """
import time
import numpy as np
from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture

AXIS = {"title": {"text": "t"}, "domain": [0, 1]}

def picture_of(a):
    if a == FAILS_AT:
        raise ValueError("seven is too much for it")
    if explorer is not None:
        time.sleep(WAIT)
    trace = {"type": "scatter", "mode": "lines", "x": np.arange(2.0), "y": np.full(2, float(a))}
    layout = {"height": 200, "xaxis": AXIS, "yaxis": AXIS}
    return Picture([trace], layout, f"a is {a}")

explorer = None
explorer = GridExplorer([Control("a", "A", tuple(range(8)), 0)], picture_of)
explorer.show()
"""


def test_an_interrupt_leaves_what_was_computed_and_can_be_taken_up_again(scratch) -> None:
    notebook, explorer = scratch(SLOW.replace("FAILS_AT", "-1").replace("WAIT", "1.0"))
    notebook.page.wait_for_timeout(2500)
    notebook.command("notebook:interrupt-kernel")
    explorer.root.get_by_text("Stopped:").wait_for(timeout=20_000)
    assert "settings can be explored" in explorer.status()
    notebook.page.wait_for_function(
        "() => [...document.querySelectorAll('.accum')].at(-1).querySelector('.accum-button:not([hidden])')"
    )
    explorer.press("a", "End")
    assert explorer.is_error()
    assert explorer.summary() == "This setting is not computed yet."
    explorer.press("a", "Home")
    assert explorer.summary() == "a is 0"
    assert not explorer.is_error()
    explorer.root.get_by_role("button", name="Compute the rest").click()
    explorer.press("a", "End")
    explorer.root.get_by_text("a is 7").wait_for(timeout=20_000)
    assert explorer.plotted()[0]["y"] == [7, 7]


def test_a_setting_that_fails_says_so_and_the_others_work(scratch) -> None:
    _, explorer = scratch(SLOW.replace("FAILS_AT", "7").replace("WAIT", "0.0"))
    explorer.root.get_by_text("1 settings could not be computed").wait_for(timeout=20_000)
    explorer.press("a", "End")
    assert explorer.summary() == "This setting could not be computed: seven is too much for it"
    assert explorer.is_error()
    explorer.press("a", "ArrowLeft")
    assert explorer.summary() == "a is 6"
    assert explorer.plotted()[0]["y"] == [6, 6]
