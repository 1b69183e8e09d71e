"""Every figure: it draws what the record holds, names its axes, and says the same in words."""

import numpy as np
import pytest
from stills import seen

from accum_lib.check.faults import loops
from accum_lib.lessons.equivalence import figure as rounding_figure
from accum_lib.lessons.equivalence.measure import microscope
from accum_lib.lessons.kit.still import WIDTH, png
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.three_descents import cut_figure as cuts_figure
from accum_lib.lessons.three_descents import figure as descents_figure
from accum_lib.lessons.three_descents import slow_motion as moments_figure
from accum_lib.lessons.three_descents.measure import DescentComparison, cut_window, surface, window_story
from accum_lib.lessons.when_it_breaks import figure as pitfalls_figure
from accum_lib.lessons.when_it_breaks.clues import clues
from accum_lib.lessons.when_it_breaks.record import Sightings
from accum_lib.problems.regression import Regression

PROBLEM = Regression(44)
GROUND = surface(PROBLEM)


def descents_picture(**settings) -> Picture:
    return descents_figure.picture(DescentComparison(PROBLEM).compare(11, 2, 0.1, **settings), GROUND)


def moments_picture(index: int = 4) -> Picture:
    return moments_figure.picture(window_story(PROBLEM, 4, 4, 0.1), index, PROBLEM.x.numpy(), GROUND)


def microscope_picture() -> Picture:
    found = [microscope(name, "mean of means", True, [1, 4]) for name in ("float32", "float64")]
    return rounding_figure.picture(found[0], 4, found[1:])


def sightings_picture() -> Picture:
    values = np.array([[0.0, np.inf], [3.0, 1e-3], [0.5, 1e-20]])
    seen = np.array([[False, True], [True, True], [False, False]])
    names = ("loss curve", "this checker")
    table = Sightings(("a", "b_c", "d"), names, values, seen, ("deviations", "errors"), np.array([2.0, 0.0]))
    return pitfalls_figure.sightings_picture(table, "loss curve")


PICTURES = [
    descents_picture(),
    descents_picture(gradient="sum"),
    moments_picture(),
    moments_picture(16),
    cuts_figure.picture(cut_window(Regression(12), (5, 5)), [-20.0, 5.0]),
    descents_figure.start_picture(DescentComparison(PROBLEM).compare(11, 2, 0.1, budget="updates"), GROUND),
    microscope_picture(),
    sightings_picture(),
    pitfalls_figure.clues_picture(clues(loops.leaked_tail)),
    pitfalls_figure.clues_picture(clues(loops.last_loss_logged)),
]


@pytest.mark.parametrize("picture", PICTURES)
def test_plotly_accepts_it_and_it_carries_its_summary(picture) -> None:
    figure = picture.figure()
    assert len(figure.data) == len(picture.data)
    assert figure.layout.meta["summary"] == picture.summary


@pytest.mark.parametrize("picture", PICTURES)
def test_every_axis_has_a_title(picture) -> None:
    axes = {k: v for k, v in picture.layout.items() if k.startswith(("xaxis", "yaxis"))}
    assert len(axes) in (4, 6, 8)
    assert all(axis["title"]["text"] for axis in axes.values())


def dash(trace) -> str:
    return trace.get("line", {}).get("dash", "solid")


@pytest.mark.parametrize("picture", PICTURES)
def test_no_two_series_differ_by_colour_alone(picture) -> None:
    for panel in {t.get("xaxis", "x") for t in picture.data}:
        series = [t for t in picture.data if "symbol" in t.get("marker", {}) and t.get("xaxis", "x") == panel]
        styles = [(t["mode"], t["marker"]["symbol"], str(t["marker"]["size"]), dash(t)) for t in series]
        assert len(set(styles)) == len(styles)


@pytest.mark.parametrize("picture", PICTURES)
def test_the_still_picture_is_drawn(picture) -> None:
    size, colours = seen(png(picture))
    assert size == (picture.layout["height"], WIDTH)
    assert colours > 20, "not an empty sheet"


def test_a_trace_that_cannot_be_drawn_still_is_an_error() -> None:
    picture = PICTURES[0]
    strange = Picture([{**picture.data[-1], "type": "violin"}], picture.layout, "")
    with pytest.raises(ValueError, match="'violin'"):
        png(strange)


def test_the_paths_drawn_are_the_paths_measured() -> None:
    comparison = DescentComparison(PROBLEM).compare(11, 2, 0.1)
    picture = descents_figure.picture(comparison, GROUND)
    accumulated = [t for t in picture.data if t.get("name", "").startswith("accumulated")]
    on_surface, by_update, by_example = accumulated
    assert np.array_equal(np.c_[on_surface["x"], on_surface["y"]], comparison.accumulated.weights)
    assert np.array_equal(by_update["x"], np.arange(comparison.accumulated.updates + 1))
    assert np.array_equal(by_example["x"], comparison.accumulated.examples)
    assert np.array_equal(by_example["y"], comparison.accumulated.excess)


def test_the_words_have_the_numbers() -> None:
    comparison = DescentComparison(PROBLEM).compare(11, 2, 0.1)
    words = descents_figure.summary(comparison)
    assert f"made {comparison.accumulated.updates} updates from 220 examples in 20 passes" in words
    assert "the same path" in words
    assert "apart" in descents_figure.summary(DescentComparison(PROBLEM).compare(11, 2, 0.1, gradient="sum"))


def test_the_buffers_bars_add_up_to_the_outline_when_it_is_full() -> None:
    picture = moments_picture(4)
    bars = [t for t in picture.data if t["type"] == "bar"]
    *shares, big = bars
    total = sum(bar["y"] for bar in shares)
    assert np.abs(total - big["y"]).max() < 1e-12
    assert np.abs(big["y"]).max() > 1
    assert np.array_equal(shares[1]["base"], shares[0]["y"]), "each begins where the one before ends"


def test_the_trailing_window_is_called_so() -> None:
    assert "trailing, shorter window" in moments_picture(13).summary
    assert "trailing" not in moments_picture(2).summary


def test_a_weight_is_drawn_as_an_area() -> None:
    picture = pitfalls_figure.clues_picture(clues(loops.no_division))
    right, found = picture.data[:2]
    assert set(right["marker"]["size"]) == {pitfalls_figure.WIDEST}
    assert found["marker"]["size"][1] / pitfalls_figure.WIDEST == pytest.approx(13**0.5, rel=1e-3)  # 13 / 1


def test_what_is_seen_is_filled_and_the_rest_is_hollow() -> None:
    seen, hidden = sightings_picture().data[:2]
    assert sorted(zip(seen["x"], seen["y"], strict=True)) == [(1, 2), (2, 1), (2, 2)]
    assert sorted(zip(hidden["x"], hidden["y"], strict=True)) == [(1, 1), (1, 3), (2, 3)]
