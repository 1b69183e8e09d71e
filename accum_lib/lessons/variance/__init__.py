"""Does less variance mean better? Races between batch sizes on the digits, many seeds and rates at once.

``replicas``   many copies of one model, each with its own weights, its own examples and its own learning rate
``run``        one batch size and one recipe, raced by all of them through ``accumulate``
``claims``     the races of notebook 03: what was published, at the scale of this machine
"""

from accum_lib.lenses.races.claims import (
    BASE_RATES,
    critical_batch,
    noise_over_training,
    race_all,
    to_target,
)
from accum_lib.lenses.races.replicas import Replicas
from accum_lib.lenses.races.run import Recipe, race

__all__ = [
    "BASE_RATES",
    "Recipe",
    "Replicas",
    "critical_batch",
    "noise_over_training",
    "race",
    "race_all",
    "to_target",
]
