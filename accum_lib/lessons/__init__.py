"""What the reader touches: widgets around figures. The only place that knows a screen is interactive."""

from accum_lib.explorers.advice import choose_k_explorer, trial_explorer, trial_track
from accum_lib.explorers.beyond import norm_explorer, speech_explorer, weighting_explorer
from accum_lib.explorers.bug_hunt import BugHunt, clues_explorer, sightings_explorer
from accum_lib.explorers.communication import forecast_explorer, traffic_explorer
from accum_lib.explorers.descents import descents_explorer
from accum_lib.explorers.fixed_batch import fixed_batch_explorer
from accum_lib.explorers.lesson_map import progress_map
from accum_lib.explorers.memory import memory_explorer, planner_explorer
from accum_lib.explorers.microscope import microscope_explorer
from accum_lib.explorers.moments import moments_explorer
from accum_lib.explorers.prediction import Prediction
from accum_lib.explorers.races import RaceTrack, claims_explorer, races_explorer
from accum_lib.explorers.variance import guess_explorer, variance_explorer

__all__ = [
    "BugHunt",
    "Prediction",
    "RaceTrack",
    "choose_k_explorer",
    "claims_explorer",
    "clues_explorer",
    "descents_explorer",
    "fixed_batch_explorer",
    "forecast_explorer",
    "guess_explorer",
    "memory_explorer",
    "microscope_explorer",
    "moments_explorer",
    "norm_explorer",
    "planner_explorer",
    "progress_map",
    "races_explorer",
    "sightings_explorer",
    "speech_explorer",
    "traffic_explorer",
    "trial_explorer",
    "trial_track",
    "variance_explorer",
    "weighting_explorer",
]
