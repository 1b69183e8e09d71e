"""A trial whose races follow the noise scale's formula exactly, or another's; made up in no time."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from accum_lib.lessons.choose_k.record import TimeModel, Trial
from accum_lib.lessons.choose_k.trial import _trial
from accum_lib.lessons.variance.record import Race
from accum_lib.noise.records import NoiseScale

NOISE, SEEDS, TARGET = 64.0, 4, 0.5
STEPS, M = (2, 8, 32), 8


def trial(critical: float) -> Trial:
    """Three races that reach the target after ``20 (1 + critical / B)`` updates, a little more or less."""
    noise = NoiseScale(NOISE, NOISE / 1.3, NOISE * 1.3, 0.9, 1.0, 1.0, 90)
    races = [_race(k * M, 20 * (1 + critical / (k * M))) for k in STEPS]
    return _trial("made up", noise, M, STEPS, races, TARGET)


def _race(batch_size: int, needed: float) -> Race:
    updates = np.arange(0, int(4 * needed) + 2)
    pace = needed * np.linspace(0.98, 1.02, SEEDS)
    losses = 2.0 * (TARGET / 2.0) ** (updates[:, None, None] / pace)  # the target is met at ``pace``
    return Race("made up", batch_size, np.array([0.1]), updates, losses, np.zeros_like(losses))


def times_from(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, TimeModel]:
    """The times of a picture, from its ``layout.meta``."""

    def revived(each: Mapping[str, Any]) -> dict[str, Any]:
        return {key: np.array(v) if isinstance(v, list) else v for key, v in each.items()}

    return {name: TimeModel(**revived(each)) for name, each in facts.items()}
