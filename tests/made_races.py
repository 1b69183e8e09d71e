"""Races that were never run: made up for tests of figures and explorers, with an answer known beforehand."""

from functools import cache

import numpy as np

from accum_lib.lessons.two_claims.measure import ClaimRaces
from accum_lib.lessons.variance.record import NoiseOverTraining, Race, Races


def race_of(size: int, speed: float, name: str = "SGD") -> Race:
    """Two seeds and the rates of the notebook; a loss that falls exponentially."""
    updates = np.arange(0, 2000, 5)
    rates = np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
    losses = 0.3 + 2 * np.exp(-speed * rates[None, :, None] * updates[:, None, None] * np.array([1, 1.1]))
    return Race(name, size, rates, updates, losses, losses)


@cache
def races(speed_of_large: float = 0.03) -> Races:
    speeds = {4: 0.002, 16: 0.005, 64: 0.02, 256: 0.025, 1024: speed_of_large}
    plain = tuple(race_of(*each) for each in speeds.items())
    noise = NoiseOverTraining(
        np.array([1, 2]), np.array([2.0, 0.4]), np.array([50, 300]), np.array([60, 200]), np.array([40, 150]),
        np.array([90, np.inf]), 0.9,
    )  # fmt: skip
    return Races(plain, noise, 1.0)


@cache
def claim_races() -> ClaimRaces:
    recipes = {name: races().plain[:3] for name in ("one", "two", "three")}
    return ClaimRaces(recipes, recipes, 1.0)
