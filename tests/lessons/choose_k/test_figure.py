"""The pictures of advice draw the records, label everything, and say the same in words."""

import itertools

import numpy as np
import pytest
from asking import asked
from made_trials import NOISE, times_from, trial

from accum_lib.lessons.choose_k import explorer as module
from accum_lib.lessons.choose_k import figure, questions
from accum_lib.lessons.choose_k.choose import known_noise
from accum_lib.lessons.choose_k.explorer import (
    CARDS,
    choose_k_explorer,
    trial_explorer,
    trial_track,
)
from accum_lib.lessons.choose_k.record import TimeModel, Trials
from accum_lib.lessons.choose_k.subjects import HERE
from accum_lib.lessons.choose_k.trial import AdviceTrial
from accum_lib.lessons.kit.still import png

ONES = np.ones(2)
TIMES = {name: TimeModel("cpu", 2e-3, 3e-4, 2e-3, ONES, ONES, ONES) for name in HERE}
NOISES = {name: known_noise(64) for name in HERE}
TRIALS = Trials((trial(NOISE), trial(10.0)), 1.0)
SHORT = {  # of the controls: enough to see every kind of setting without a trace of each model
    "model": ("digits-mlp", "tiny-roberta", "roberta-base"),
    "card": ("toy card, 3 MiB", "RTX 4060, 8 GB"),
}


@pytest.fixture(scope="module")
def explorer():
    return choose_k_explorer(TIMES, NOISES)


def by_name(picture, panel: str) -> dict:
    return {t["name"]: t for t in picture.data if t["xaxis"] == f"x{panel}"}


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_every_kind_of_setting_has_a_picture_of_one_shape(explorer, every) -> None:
    first = explorer.picture()
    values = itertools.product(SHORT["model"], SHORT["card"], module.SCALES, ("balance", "time"))
    for model, card, scale, goal in itertools.islice(values, 0, None, every):
        explorer.choose(model=model, card=card, scale=scale, goal=goal, num_samples=200)
        picture = explorer.picture()
        assert [t["name"] for t in picture.data] == [t["name"] for t in first.data]
        assert picture.summary
    explorer.choose(**{c.name: c.start for c in module.CONTROLS})


def test_the_panels_are_the_advice_and_its_landscape(explorer) -> None:
    explorer.choose(model="tiny-roberta", card="toy card, 3 MiB", scale=256.0, num_samples=2000)
    picture = explorer.picture()
    memory, work, time = (by_name(picture, panel) for panel in ("", "2", "3"))
    limit = CARDS["toy card, 3 MiB"].usable_bytes * 0.9 / 2**20
    assert memory["allowed on the card"]["y"] == pytest.approx([limit, limit], rel=1e-6)
    assert memory["advised"]["y"][0] <= limit
    b = work["updates"]["x"]
    there = b <= 2000
    assert work["updates"]["y"][there] == pytest.approx(1 + 256 / b[there])
    assert work["examples"]["y"][there] == pytest.approx(1 + b[there] / 256)
    assert np.isnan(work["updates"]["y"][~there]).all()
    assert sorted(set(work["noise scale, interval"]["x"])) == [128, 512]
    assert np.nanmin(time["time, as measured here"]["y"]) == pytest.approx(1)
    band = time["time within 10 % of the least"]["x"]
    low = np.nanmax(np.where(time["time, as measured here"]["y"] <= 1.1, b, np.nan))
    assert band.max() == low
    explorer.choose(scale=None)


def test_a_card_without_a_measurement_has_no_time(explorer) -> None:
    explorer.choose(model="roberta-base", card="RTX 4060, 8 GB", scale=256.0)
    picture = explorer.picture()
    time = by_name(picture, "3")
    assert np.isnan(time["time, as measured here"]["y"]).all()
    assert not np.isnan(time["if every pass takes equally long"]["y"]).all()
    assert "no time is named" in picture.summary
    assert "no time measured" in picture.layout["annotations"][2]["text"]
    explorer.choose(scale=None)
    assert "nothing is known of the noise" in explorer.picture().summary
    explorer.choose(**{c.name: c.start for c in module.CONTROLS})


def test_few_points_and_fixed_axes_make_it_light(explorer) -> None:
    """Sliders that do not change the memory axis move traces only: no layout, few points."""
    pictures = []
    for scale in module.SCALES[1:]:
        explorer.choose(scale=scale)
        pictures.append(explorer.picture())
    assert all(p.layout == pictures[0].layout for p in pictures)
    assert sum(len(t["x"]) for t in pictures[0].data) < 500
    explorer.choose(scale=None)


def test_the_picture_can_be_made_anew_from_its_facts(explorer) -> None:
    again = choose_k_explorer(times_from(explorer.picture().layout["meta"]["facts"]), NOISES)
    assert again.picture().summary == explorer.picture().summary
    for one, two in zip(again.picture().data, explorer.picture().data, strict=True):
        assert np.array_equal(one["y"], two["y"], equal_nan=True)
    other = {name: TimeModel("cpu", 9e-3, 3e-4, 1e-1, ONES, ONES, ONES) for name in HERE}
    assert choose_k_explorer(other, NOISES).picture().summary != explorer.picture().summary


def test_every_panel_has_curves_or_words_and_a_legend_of_its_own(explorer) -> None:
    for model, card, scale, words in (
        ("roberta-base", "RTX 4060, 8 GB", None, ["choose a scale", "choose a scale"]),
        ("roberta-base", "toy card, 3 MiB", 256.0, ["no M fits"]),
        ("tiny-roberta", "toy card, 3 MiB", 256.0, []),
    ):
        explorer.choose(model=model, card=card, scale=scale)
        picture = explorer.picture()
        said = [note["text"] for note in picture.layout["annotations"][3:]]
        assert len(said) == len(words)
        assert all(word in text for word, text in zip(words, said, strict=True))
    explorer.choose(**{c.name: c.start for c in module.CONTROLS})
    for legend, panel in zip(figure.LEGENDS, ("x", "x2", "x3"), strict=True):
        assert {t["xaxis"] for t in picture.data if t["legend"] == legend} == {panel}
        assert sum(t["showlegend"] for t in picture.data if t["legend"] == legend) <= 4, "or it covers curves"


def test_large_numbers_are_words_a_reader_reads(explorer) -> None:
    explorer.choose(scale=2048.0)
    assert "e+0" not in explorer.picture().summary
    assert "from 1,024 to 4,096 (assumed)" in explorer.picture().summary
    explorer.choose(scale=None)


def test_the_trial_is_drawn_and_said() -> None:
    picture = figure.trial_picture(trial(NOISE))
    loss, ratios = by_name(picture, ""), by_name(picture, "3")
    assert {"K = 2", "K = 8", "K = 32"} <= set(loss)
    assert ratios["predicted"]["y"] == pytest.approx(trial(NOISE).predicted())
    assert sorted(ratios["measured, each seed"]["y"]) == pytest.approx(
        sorted(trial(NOISE).measured().ravel())
    )
    assert "predicted 2.50, 1.00, 0.62" in picture.summary
    missed = trial(NOISE)
    missed.found.updates[2] = np.inf
    assert "K = 32 was not there with every seed" in figure.trial_picture(missed).summary


def test_everything_is_labelled_and_differs_not_by_colour_alone(explorer) -> None:
    for picture in (explorer.picture(), figure.trial_picture(trial(NOISE))):
        axes = [v for k, v in picture.layout.items() if k.startswith(("xaxis", "yaxis"))]
        assert all(axis["title"]["text"] for axis in axes)
        for panel in {t["xaxis"] for t in picture.data}:
            lines = [t for t in picture.data if t["xaxis"] == panel and t["name"]]
            styles = {(t["mode"], t["line"]["dash"], t.get("marker", {}).get("symbol")) for t in lines}
            assert len(styles) == len(lines)
        assert len(picture.figure().data) == len(picture.data)
        assert len(png(picture)) > 10_000


def test_the_trial_explorer_computes_every_setting() -> None:
    explorer = trial_explorer(TRIALS)
    explorer.fill()
    assert explorer.errors == []
    assert explorer.complete


def test_a_stopped_trial_says_that_it_goes_on(monkeypatch) -> None:
    one = AdviceTrial({})

    def stopped(tell) -> Trials:
        raise KeyboardInterrupt

    monkeypatch.setattr(one, "run", stopped)
    track = trial_track(one)
    assert track.run() is None
    assert "again to go on" in track.status.value
    with pytest.raises(ValueError, match="run their cell again"):
        questions.four_times_the_steps(None)


def test_the_larger_cards_question_is_answered_by_the_advice(monkeypatch) -> None:
    assert "As you predicted." in asked(questions.larger_card(), 1)
    monkeypatch.setattr(questions, "LARGE_CARD", questions.SMALL_CARD)
    assert "It is: <b>neither" in asked(questions.larger_card(), 1)


def test_the_verdict_on_four_times_the_steps_follows_the_race() -> None:
    def trials(critical: float) -> Trials:
        return Trials((trial(critical),), 1.0)

    assert "As you predicted." in asked(questions.four_times_the_steps(trials(NOISE)), 1)
    assert "It is: <b>hardly fewer" in asked(questions.four_times_the_steps(trials(4.0)), 1)
    assert "As you predicted." in asked(questions.four_times_the_steps(trials(5000.0)), 0)
