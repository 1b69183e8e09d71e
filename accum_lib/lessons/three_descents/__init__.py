"""Notebooks 00 and 01: full-batch, mini-batch and accumulated descent are one loop."""

from accum_lib.lessons.three_descents import questions
from accum_lib.lessons.three_descents.exercises import check_same_step, check_updates_per_epoch, check_weight
from accum_lib.lessons.three_descents.explorer import (
    cuts_explorer,
    descents_explorer,
    moments_explorer,
    starts_explorer,
)
from accum_lib.lessons.three_descents.measure import DescentComparison

__all__ = [
    "DescentComparison",
    "check_same_step",
    "check_updates_per_epoch",
    "check_weight",
    "cuts_explorer",
    "descents_explorer",
    "moments_explorer",
    "questions",
    "starts_explorer",
]
