"""Figures of the races: they draw what the records hold, name their axes, and say the same in words."""

import numpy as np
import pytest
from made_races import claim_races, races
from stills import seen

from accum_lib.lessons.kit.still import png
from accum_lib.lessons.two_claims import figure as claims_figure
from accum_lib.lessons.variance import figure
from accum_lib.lessons.variance import race_figure as races_figure
from accum_lib.lessons.variance.measure import VarianceLab
from accum_lib.lessons.variance.targets import to_target

LAB = VarianceLab(num_samples=64, draws=60)


def cloud(size: int = 8, sampling: str = "shuffled"):
    entry = LAB.full_entry, LAB.entry_variance
    return figure.picture(LAB.batches(size, sampling), LAB.curve(sampling), 2, *entry)


def race_picture(target: float = 0.6, rate=None):
    return races_figure.picture(races().plain, to_target(races().plain, target, rate), races().noise, rate)


PICTURES = {
    "cloud": (cloud(), 6),
    "all": (cloud(64), 6),
    "sorted": (cloud(8, "sorted by class"), 6),
    "guess": (figure.guess_picture(LAB.curve("shuffled"), 0.25, shown=True), 2),
    "races": (race_picture(), 8),
    "claims": (claims_figure.picture(claim_races().small, None), 2),
}
by_picture = pytest.mark.parametrize(("picture", "axes"), PICTURES.values(), ids=PICTURES)


@by_picture
def test_plotly_accepts_it_and_every_axis_has_a_title(picture, axes) -> None:
    drawn = picture.figure()
    assert drawn.layout.meta["summary"] == picture.summary
    found = {k: v for k, v in picture.layout.items() if k.startswith(("xaxis", "yaxis"))}
    assert len(found) == axes
    assert all(axis["title"]["text"] for axis in found.values())


@by_picture
def test_no_two_named_series_differ_by_colour_alone(picture, axes) -> None:
    for panel in {t["xaxis"] for t in picture.data}:
        series = [t for t in picture.data if t["name"] and t["xaxis"] == panel]
        styles = [(t["mode"], t["line"]["dash"], t.get("marker", {}).get("symbol")) for t in series]
        assert len(set(styles)) == len(styles)


@by_picture
def test_the_still_picture_is_drawn(picture, axes) -> None:
    assert seen(png(picture))[1] > 20, "not an empty sheet"


def named(picture, name: str) -> dict:
    return next(t for t in picture.data if t["name"] == name)


def test_the_cloud_and_the_curve_are_what_was_measured() -> None:
    batches, curve, picture = LAB.batches(8), LAB.curve("shuffled"), cloud()
    dots = named(picture, "mini-batch gradients")
    assert np.array_equal(np.c_[dots["x"], dots["y"]], batches.points)
    assert np.array_equal(named(picture, "measured")["y"][:-1], curve.measured[:-1])
    star = named(picture, "this B")
    assert (star["x"][0], star["y"][0]) == (8, curve.measured[3])
    outline = next(t for t in picture.data if t["xaxis"] == "x3")
    heights = outline["y"][1:-1:2]
    assert heights.sum() == pytest.approx(1), "every mini-batch is in a bin"


def test_the_words_tell_a_law_that_fails_from_one_that_holds() -> None:
    assert "which the interval holds" in cloud().summary
    assert "times the" in cloud(8, "sorted by class").summary
    assert "is 0 |G|²" in cloud(64).summary


def test_what_the_races_took_is_drawn_and_said() -> None:
    found = to_target(races().plain, 0.6)
    picture = race_picture()
    assert named(picture, "measured")["y"] == pytest.approx(found.examples.mean(axis=1))
    assert f"critical batch size is {found.critical_batch_size:.0f} examples" in picture.summary
    assert f"B = 4 took {found.updates[0].mean():.0f} updates" in picture.summary
    slow = race_picture(0.4, 0.1)
    assert "did not reach it" in slow.summary


def test_the_noise_scale_between_two_looks_is_on_the_line() -> None:
    assert races_figure.noise_at(races().noise, 1.2) == pytest.approx(175)


def test_the_claims_ends_are_said() -> None:
    picture = claims_figure.picture(claim_races().small, None)
    last = claim_races().small["one"][0]
    assert f"one: {last.losses[-1, last.best].mean():.2f} at B = 4" in picture.summary
    assert "at its best rate" in picture.summary
    fixed = claims_figure.picture(claim_races().small, 0).summary
    assert f"one: {last.losses[-1, 0].mean():.2f} at B = 4" in fixed
    assert "best rate" not in fixed


@pytest.mark.parametrize("shown", [False, True])
def test_a_guess_is_drawn_where_its_grip_is_and_the_curve_only_when_shown(shown) -> None:
    curve = LAB.curve("shuffled")
    drawn = figure.guess_picture(curve, 0.25, shown)
    guess, law, measured, first = drawn.data
    ((k, variance),) = figure.guess_places(curve, [0.25])
    assert [guess["x"][-1], guess["y"][-1]] == [k, variance] == [16, guess["y"][0] / 4]
    at = dict(zip(curve.batch_sizes.tolist(), curve.measured, strict=True))
    assert first["y"] == [at[2]]
    assert (len(law["x"]) > 0) == shown
    assert dict(zip(measured["x"] * 2, measured["y"], strict=True)) == (
        {b: v for b, v in at.items() if 2 <= b <= 32} if shown else {}
    )
    assert (f"{at[32]:.3g}, 1/{at[2] / at[32]:.1f} of it" in drawn.summary) == shown, (
        "nothing is given away before"
    )
