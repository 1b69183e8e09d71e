"""Every figure: it draws what the record holds, names its axes, and says the same in words."""

import io

import matplotlib.image
import numpy as np
import pytest

from accum_lib.figures import descents as descents_figure
from accum_lib.figures import moments as moments_figure
from accum_lib.figures.picture import Picture
from accum_lib.figures.still import png
from accum_lib.lenses.moments import moments
from accum_lib.lenses.paths import DescentComparison, surface
from accum_lib.problems.regression import Regression

PROBLEM = Regression(44)
GROUND = surface(PROBLEM)


def descents_picture(**settings) -> Picture:
    return descents_figure.picture(DescentComparison(PROBLEM).compare(11, 2, 0.1, **settings), GROUND)


def moments_picture(index: int = 4) -> Picture:
    return moments_figure.picture(moments(PROBLEM, 4, 4, 0.1), index, PROBLEM.x.numpy(), GROUND)


PICTURES = [descents_picture(), descents_picture(gradient="sum"), moments_picture(), moments_picture(16)]


@pytest.mark.parametrize("picture", PICTURES)
def test_plotly_accepts_it_and_it_carries_its_summary(picture) -> None:
    figure = picture.figure()
    assert len(figure.data) == len(picture.data)
    assert figure.layout.meta["summary"] == picture.summary


@pytest.mark.parametrize("picture", PICTURES)
def test_every_axis_has_a_title(picture) -> None:
    axes = {k: v for k, v in picture.layout.items() if k.startswith(("xaxis", "yaxis"))}
    assert len(axes) == 6
    assert all(axis["title"]["text"] for axis in axes.values())


@pytest.mark.parametrize("picture", PICTURES)
def test_no_two_series_differ_by_colour_alone(picture) -> None:
    for panel in {t.get("xaxis", "x") for t in picture.data}:
        series = [t for t in picture.data if "symbol" in t.get("marker", {}) and t.get("xaxis", "x") == panel]
        styles = [(t["mode"], t["marker"]["symbol"], t["marker"]["size"]) for t in series]
        assert len(set(styles)) == len(styles)


@pytest.mark.parametrize("picture", PICTURES)
def test_the_still_picture_is_drawn(picture) -> None:
    pixels = matplotlib.image.imread(io.BytesIO(png(picture, width=640)))
    assert pixels.shape[:2] == (picture.layout["height"], 640)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 20, "not an empty sheet"


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
