"""Notebook 02: when accumulation equals one big batch, and by how much rounding differs."""

from accum_lib.lessons.equivalence import questions
from accum_lib.lessons.equivalence.exercises import check_data, check_loop, check_mean_of_means_weight
from accum_lib.lessons.equivalence.explorer import microscope_explorer

__all__ = ["check_data", "check_loop", "check_mean_of_means_weight", "microscope_explorer", "questions"]
