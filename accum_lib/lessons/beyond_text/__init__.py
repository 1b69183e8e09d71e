"""Notebook 07: batch normalisation and speech, where the mean over a window needs more care."""

from accum_lib.lessons.beyond_text import questions
from accum_lib.lessons.beyond_text.exercises import check_alignable, check_momentum, check_torch_mean
from accum_lib.lessons.beyond_text.explorer import norm_explorer, speech_explorer, weighting_explorer
from accum_lib.lessons.beyond_text.measure import words

__all__ = [
    "check_alignable",
    "check_momentum",
    "check_torch_mean",
    "norm_explorer",
    "questions",
    "speech_explorer",
    "weighting_explorer",
    "words",
]
