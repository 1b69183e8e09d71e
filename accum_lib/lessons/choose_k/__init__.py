"""Notebook 09: choosing M and K from memory, noise and time."""

from accum_lib.lessons.choose_k import questions
from accum_lib.lessons.choose_k.choose import advise, known_noise
from accum_lib.lessons.choose_k.exercises import check_choice, check_fastest_steps, check_work
from accum_lib.lessons.choose_k.explorer import (
    choose_k_explorer,
    measured_times,
    pilots,
    trial_explorer,
    trial_track,
)
from accum_lib.lessons.choose_k.subjects import subject
from accum_lib.lessons.choose_k.trial import AdviceTrial, verdicts

__all__ = [
    "AdviceTrial",
    "advise",
    "check_choice",
    "check_fastest_steps",
    "check_work",
    "choose_k_explorer",
    "known_noise",
    "measured_times",
    "pilots",
    "questions",
    "subject",
    "trial_explorer",
    "trial_track",
    "verdicts",
]
