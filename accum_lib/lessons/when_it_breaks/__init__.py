"""Notebook 05: faults of real loops, what shows them, and how they are repaired."""

from accum_lib.lessons.when_it_breaks import questions
from accum_lib.lessons.when_it_breaks.accuracy import accuracy_trials
from accum_lib.lessons.when_it_breaks.exercises import (
    check_clipped_repair,
    check_logged_repair,
    check_plain_repair,
)
from accum_lib.lessons.when_it_breaks.explorer import BugHunt, line_up_explorer, sightings_explorer

__all__ = [
    "BugHunt",
    "accuracy_trials",
    "check_clipped_repair",
    "check_logged_repair",
    "check_plain_repair",
    "line_up_explorer",
    "questions",
    "sightings_explorer",
]
