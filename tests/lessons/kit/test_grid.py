"""The grid explorer without a browser: what it sends, what it says when something fails, how it stops."""

import base64

import numpy as np
import pytest

from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.three_descents.explorer import descents_explorer, moments_explorer

CONTROLS = [Control("a", "A", (1, 2, 3), 2), Control("b", "B", ("x", "y"), "x", kind="choice")]
LAYOUT = {
    "height": 200,
    "xaxis": {"title": {"text": "t"}, "domain": [0, 1]},
    "yaxis": {"title": {"text": "u"}, "domain": [0, 1]},
}


def picture_of(a: int, b: str) -> Picture:
    trace = {
        "type": "scatter",
        "x": np.arange(a),
        "y": np.full(a, 0.5 * a),
        "name": f"a = {a}",
        "mode": "lines",
    }
    return Picture([trace], {**LAYOUT, "title": b}, f"a is {a}, b is {b}")


def received(explorer: GridExplorer, *key: int) -> dict:
    """The first trace as the browser puts it together."""
    cell = explorer.cells[",".join(map(str, key))]
    numbers = np.frombuffer(explorer.numbers, dtype="<f8")
    trace = dict(explorer.figure["data"][0])
    for _, attribute, start, length in cell["arrays"]:
        trace[attribute] = numbers[start : start + length].tolist()
    for _, changes in cell["changes"]:
        trace.update(changes)
    return trace


def test_what_the_browser_puts_together_is_each_settings_picture() -> None:
    explorer = GridExplorer(CONTROLS, picture_of)
    explorer.fill()
    assert explorer.complete
    assert len(explorer.cells) == 6
    for i, a in enumerate((1, 2, 3)):
        for j, b in enumerate("xy"):
            trace, expected = received(explorer, i, j), picture_of(a, b)
            assert trace["x"] == expected.data[0]["x"].tolist()
            assert trace["y"] == expected.data[0]["y"].tolist()
            assert trace["name"] == f"a = {a}"
            assert explorer.cells[f"{i},{j}"]["summary"] == expected.summary
            assert explorer.cells[f"{i},{j}"]["layout"].get("title", "x") == b


def test_the_first_setting_stands_before_the_rest_is_computed() -> None:
    asked = []
    explorer = GridExplorer(CONTROLS, lambda **s: asked.append(s) or picture_of(**s))
    assert asked == [{"a": 2, "b": "x"}]
    assert list(explorer.cells) == ["1,0"]
    assert not explorer.complete


def test_a_setting_that_fails_says_so_in_words_and_the_others_work() -> None:
    def fragile(a: int, b: str) -> Picture:
        if (a, b) == (3, "y"):
            raise ValueError("three is too many")
        return picture_of(a, b)

    explorer = GridExplorer(CONTROLS, fragile)
    explorer.fill()
    assert explorer.cells["2,1"] == {"error": "This setting could not be computed: three is too many"}
    assert [str(e) for e in explorer.errors] == ["three is too many"]
    assert "1 settings could not be computed" in explorer.status
    assert explorer.complete
    assert received(explorer, 2, 0)["name"] == "a = 3"


def test_an_interrupt_keeps_what_is_done_and_can_be_taken_up_again() -> None:
    calls = iter(range(100))

    def interrupted(**settings) -> Picture:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return picture_of(**settings)

    explorer = GridExplorer(CONTROLS, interrupted)
    explorer.fill()
    assert (explorer.complete, explorer.computing) == (False, False)
    assert explorer.status == "Stopped: 3 of 6 settings can be explored."
    assert len(explorer.cells) == 3
    explorer._on_message(None, {"type": "fill"}, [])
    assert explorer.complete
    assert explorer.status == ""


def test_controls_are_moved_from_code() -> None:
    explorer = GridExplorer(CONTROLS, picture_of)
    assert explorer.settings == {"a": 2, "b": "x"}
    explorer.choose(a=3, b="y")
    assert explorer.settings == {"a": 3, "b": "y"}
    assert explorer.picture().summary == "a is 3, b is y"


@pytest.mark.parametrize(
    ("settings", "message"), [({"c": 1}, "no control 'c'"), ({"a": 9}, r"one of \[1, 2, 3\]; got 9")]
)
def test_a_setting_that_does_not_exist_is_named(settings, message) -> None:
    explorer = GridExplorer(CONTROLS, picture_of)
    with pytest.raises(ValueError, match=message):
        explorer.choose(**settings)
    assert explorer.settings == {"a": 2, "b": "x"}


def test_a_control_starts_at_one_of_its_values() -> None:
    with pytest.raises(ValueError, match="starts at 9"):
        Control("a", "A", (1, 2), 9)


def test_pictures_of_another_shape_are_refused() -> None:
    def growing(a: int, b: str) -> Picture:
        picture = picture_of(a, b)
        return Picture(picture.data * a, picture.layout, "")

    explorer = GridExplorer(CONTROLS, growing)
    explorer.fill()
    assert {str(e) for e in explorer.errors} == {
        "1 traces where the first picture has 2",
        "3 traces where the first picture has 2",
    }


def test_a_saved_notebook_shows_a_still_picture_with_words() -> None:
    data, metadata = GridExplorer(CONTROLS, picture_of)._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == metadata["image/png"]["alt"] == "a is 2, b is x"


@pytest.mark.parametrize("make", [descents_explorer, moments_explorer])
def test_no_setting_of_a_real_explorer_fails(make, some_settings) -> None:
    explorer = make()
    explorer.fill()
    assert explorer.errors == []
    assert explorer.complete
    assert all(cell.get("summary") for cell in explorer.cells.values())
