"""Predict the memory of an update without making it: traces, every M and K, a planner, a guard.

Start with ``predict``, ``plan`` and ``guard``; ``trace/storages.py`` is the heart of it.
"""

from accum_lib.extras import need
from accum_lib.private import MEMORY, need_inside_torch

need(__name__, "memory")
need_inside_torch(__name__, MEMORY)

from accum_lib.memory.guard import WouldNotFitError, guard
from accum_lib.memory.planner import plan
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload, encoder_workload, mlp_workload, named, of_model

__all__ = [
    "Settings",
    "Workload",
    "WouldNotFitError",
    "encoder_workload",
    "guard",
    "mlp_workload",
    "named",
    "of_model",
    "plan",
    "predict",
]
