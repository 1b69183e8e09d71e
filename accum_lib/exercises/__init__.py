"""Automatic checks for the notebooks' exercises."""

from accum_lib.exercises.memory import check_floor, check_second_buffer, check_steps
from accum_lib.exercises.three_descents import check_same_step, check_updates_per_epoch, check_weight

__all__ = [
    "check_floor",
    "check_same_step",
    "check_second_buffer",
    "check_steps",
    "check_updates_per_epoch",
    "check_weight",
]
