"""What the reader touches: widgets around figures. The only place that knows a screen is interactive."""

from accum_lib.explorers.descents import descents_explorer
from accum_lib.explorers.memory import memory_explorer, planner_explorer
from accum_lib.explorers.microscope import microscope_explorer
from accum_lib.explorers.moments import moments_explorer
from accum_lib.explorers.prediction import Prediction

__all__ = [
    "Prediction",
    "descents_explorer",
    "memory_explorer",
    "microscope_explorer",
    "moments_explorer",
    "planner_explorer",
]
