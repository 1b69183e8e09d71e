"""Notebook 07's figures: they draw what the records hold, name their axes, and say the same in words."""

import numpy as np
import pytest
from stills import seen

from accum_lib.lessons.beyond_text import figure
from accum_lib.lessons.beyond_text.record import NormErrors, SpeechRun, Weighting
from accum_lib.lessons.kit.still import png
from accum_lib.problems.audio import NAMES

SIZES = np.array([1, 4, 8])
NOTHING = np.full(3, np.nan)


def errors(norm: str, corrected: bool = False) -> NormErrors:
    if norm == "group":
        return NormErrors(norm, corrected, 8, SIZES, np.array([1e-16, 2e-16, 0]), NOTHING, NOTHING, NOTHING)
    series = (np.array([0.3, 0.1, 0]), np.array([0.03, 0.01, 0]), np.array([0.06, 0.02, 0]))
    return NormErrors(norm, corrected, 8, SIZES, *series, np.array([1.02, 1.01, 1]))


def weighting(name: str) -> Weighting:
    weights = np.ones((3, 8)) if name == "window" else np.linspace(0.5, 2, 24).reshape(3, 8)
    return Weighting(name, SIZES, np.array([0.2, 0.1, 0]), np.arange(1, 9), weights)


def run(name: str) -> SpeechRun:
    scores = np.random.default_rng(0).dirichlet(np.ones(7), (3, 20))
    return SpeechRun(
        name, np.array([1, 0.5, 0.1]), np.arange(20) * 0.016, scores, ("–", "ba", "ba da"), "ba da"
    )


NORMS = [errors(norm) for norm in figure.NORMS]
WEIGHTINGS = [weighting(name) for name in figure.WEIGHTINGS]
RUNS = [run(name) for name in figure.WEIGHTINGS]
PICTURES = {
    "batch": figure.norm_picture(NORMS[0], NORMS, 4),
    "group": figure.norm_picture(NORMS[1], NORMS, 1),
    "weighting": figure.weighting_picture(WEIGHTINGS[1], WEIGHTINGS, 4),
    "training": figure.training_picture(RUNS[0], RUNS, 1, NAMES),
}
by_picture = pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)


@by_picture
def test_plotly_accepts_it_and_every_axis_has_a_title(picture) -> None:
    assert picture.figure().layout.meta["summary"] == picture.summary
    axes = {k: v for k, v in picture.layout.items() if k.startswith(("xaxis", "yaxis"))}
    assert len(axes) == 4
    assert all(axis["title"]["text"] for axis in axes.values())


@by_picture
def test_no_two_named_series_differ_by_colour_alone(picture) -> None:
    for panel in {t["xaxis"] for t in picture.data}:
        series = [t for t in picture.data if t["name"] and t["xaxis"] == panel]
        styles = [(t["mode"], t["line"]["dash"], t.get("marker", {}).get("symbol")) for t in series]
        assert len(set(styles)) == len(styles)


@by_picture
def test_the_still_picture_is_drawn(picture) -> None:
    assert seen(png(picture))[1] > 20, "not an empty sheet"


def named(picture, name: str) -> dict:
    return next(t for t in picture.data if t["name"] == name)


def test_they_draw_what_the_records_hold() -> None:
    star = named(PICTURES["batch"], "this setting")
    assert (star["x"][0], star["y"][0]) == (4, 0.1)
    assert np.array_equal(named(PICTURES["batch"], "running variance")["y"], [0.06, 0.02, figure.FLOOR])
    rings = named(PICTURES["weighting"], "found")
    assert np.array_equal(rings["x"], np.arange(1, 9))
    assert np.array_equal(rings["y"], WEIGHTINGS[1].weights[1])
    assert np.array_equal(named(PICTURES["training"], "ba")["y"], RUNS[0].scores[1][:, 1])


def test_the_words_follow_the_numbers() -> None:
    assert "differs from one big batch's by 10.00%" in PICTURES["batch"].summary
    assert "1.0e-16 (rounding). GroupNorm keeps no running" in PICTURES["group"].summary
    assert "corrected for K" in figure.norm_picture(errors("batch", True), NORMS, 4).summary
    assert "do not move" in figure.norm_picture(errors("frozen"), NORMS, 4).summary
    assert "between 1 and 1.5 times" in PICTURES["weighting"].summary
    assert "weighs what it should" in figure.weighting_picture(WEIGHTINGS[0], WEIGHTINGS, 4).summary
    assert "50.0% of the held-out utterances are not read exactly" in PICTURES["training"].summary
    assert "reads: ba (wrong)" in PICTURES["training"].summary
    assert "reads: ba da (right)" in figure.training_picture(RUNS[0], RUNS, 2, NAMES).summary
