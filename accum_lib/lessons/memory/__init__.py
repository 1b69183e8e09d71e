"""Notebook 04: which bytes an update needs, and which of them accumulation saves."""

from accum_lib.lessons.memory import questions
from accum_lib.lessons.memory.claims import alternatives, memory_clauses, time_clauses
from accum_lib.lessons.memory.exercises import check_floor, check_second_buffer, check_steps
from accum_lib.lessons.memory.explorer import (
    memory_explorer,
    planner_explorer,
    roberta_base,
    show_memory_grid,
)
from accum_lib.lessons.memory.measure import measure_apart, pace

__all__ = [
    "alternatives",
    "check_floor",
    "check_second_buffer",
    "check_steps",
    "measure_apart",
    "memory_clauses",
    "memory_explorer",
    "pace",
    "planner_explorer",
    "questions",
    "roberta_base",
    "show_memory_grid",
    "time_clauses",
]
