"""Notebook 03's explorers, predictions and track without a browser."""

import pytest
from asking import asked
from made_races import races

from accum_lib.lessons.variance import questions
from accum_lib.lessons.variance.explorer import (
    RaceTrack,
    races_explorer,
    variance_explorer,
)
from accum_lib.lessons.variance.measure import VarianceLab


@pytest.fixture(scope="module")
def lab() -> VarianceLab:
    return VarianceLab(draws=60)


def test_no_setting_of_the_lab_fails(lab) -> None:
    explorer = variance_explorer(lab)
    explorer.fill()
    assert explorer.errors == []
    assert all(cell.get("summary") for cell in explorer.cells.values())


def test_no_setting_of_the_races_fails() -> None:
    explorer = races_explorer(races())
    explorer.fill()
    assert explorer.errors == []
    assert all(cell.get("summary") for cell in explorer.cells.values())


def test_the_variance_falls_to_nothing(lab) -> None:
    assert "As you predicted." in asked(questions.variance_against_steps(lab), 3)
    assert "It is: <b>falls as 1/K, then" in asked(questions.variance_against_steps(lab), 2)


def test_the_verdict_on_the_large_batch_follows_the_race() -> None:
    assert "As you predicted." in asked(questions.sixteen_times_the_batch(races()), 2)
    assert "It is: <b>16 times fewer" in asked(questions.sixteen_times_the_batch(races(0.32)), 2)
    assert "As you predicted." in asked(questions.sixteen_times_the_batch(races(0.08)), 1)


def test_the_track_shows_how_far_it_is_and_keeps_what_was_raced() -> None:
    seen = []

    def run(tell):
        for share in (0.5, 1.0):
            tell(share)
            seen.append(track.bar.value)
        return races()

    track = RaceTrack(run)
    assert track.run() is races()
    assert seen == [0.5, 1.0]
    assert "Done in 1 s" in track.status.value


def test_the_track_can_be_stopped_and_run_again() -> None:
    def run(tell):
        if stop:
            tell(0.1)
            raise KeyboardInterrupt
        return races()

    track, stop = RaceTrack(run), True
    assert track.run() is None
    assert "Stopped" in track.status.value
    stop = False
    assert track.run() is races()


def test_an_error_in_a_race_is_not_hidden() -> None:
    def run(tell):
        raise ValueError("a loss is not finite")

    with pytest.raises(ValueError, match="not finite"):
        RaceTrack(run).run()
