"""Notebook 03: what B does to the noise of a gradient, and what it buys."""

from accum_lib.lessons.variance import questions
from accum_lib.lessons.variance.exercises import check_fall, check_noise_scale, check_variance
from accum_lib.lessons.variance.explorer import (
    RaceTrack,
    guess_explorer,
    races_explorer,
    variance_explorer,
)
from accum_lib.lessons.variance.measure import VarianceLab, accumulated_means, draw

__all__ = [
    "RaceTrack",
    "VarianceLab",
    "accumulated_means",
    "check_fall",
    "check_noise_scale",
    "check_variance",
    "draw",
    "guess_explorer",
    "questions",
    "races_explorer",
    "variance_explorer",
]
