"""Notebook 03: what B does to the noise of a gradient, and two published claims, tested."""

from accum_lib.lessons.variance import questions
from accum_lib.lessons.variance.exercises import check_beta2, check_noise_scale, check_variance
from accum_lib.lessons.variance.explorer import (
    RaceTrack,
    claims_explorer,
    races_explorer,
    variance_explorer,
)
from accum_lib.lessons.variance.measure import VarianceLab, accumulated_means, draw

__all__ = [
    "RaceTrack",
    "VarianceLab",
    "accumulated_means",
    "check_beta2",
    "check_noise_scale",
    "check_variance",
    "claims_explorer",
    "draw",
    "questions",
    "races_explorer",
    "variance_explorer",
]
