"""Notebook 08: several processes, and what they send each other per update."""

from accum_lib.lessons.distributed import questions
from accum_lib.lessons.distributed.exercises import check_bytes, check_enough, check_share
from accum_lib.lessons.distributed.explorer import forecast_explorer, traffic_explorer
from accum_lib.lessons.distributed.measure import measure_here
from accum_lib.lessons.distributed.networks import NotPermittedError, fit, measure_slowed, network_from
from accum_lib.lessons.distributed.record import Network

__all__ = [
    "Network",
    "NotPermittedError",
    "check_bytes",
    "check_enough",
    "check_share",
    "fit",
    "forecast_explorer",
    "measure_here",
    "measure_slowed",
    "network_from",
    "questions",
    "traffic_explorer",
]
