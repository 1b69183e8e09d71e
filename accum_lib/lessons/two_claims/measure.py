"""The races of notebook 11: two published claims, at the scale of two processor cores.

Goyal et al. (2017), arXiv 1706.02677: a batch k times as large with a rate k times as high, after a warm-up,
trains as well.

Marek et al. (2025), arXiv 2507.07101: small batches train well, down to 1, if the half-life of Adam's second
moment is held in examples (there: tokens) and not in updates; and then even plain SGD does.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from accum_lib.lessons.variance.races import (
    TRAIN,
    Job,
    Recipe,
    Replicas,
    counted,
    race_each,
    total_evaluations,
)
from accum_lib.lessons.variance.record import Race
from accum_lib.machine import one_thread
from accum_lib.words import N_

SCALING, SCALING_SEEDS, SCALING_EPOCHS, WARM_UP_EPOCHS = (16, 64, 256, 704), 6, 8, 2
BASE_BATCH, BASE_RATES = 16, (0.02, 0.05)  # both do well at the base batch, the second only just
SMALL_SEEDS, SMALL_EXAMPLES = 4, 960
ADAM_RATES = {1: (1e-3, 3e-3, 1e-2), 8: (3e-3, 1e-2, 3e-2), 64: (1e-2, 3e-2, 1e-1)}  # batch size: rates
SGD_RATES = {1: (0.02, 0.05, 0.1), 8: (0.1, 0.3, 0.6), 64: (0.5, 1.0, 2.0)}
BETA2, BETA2_BATCH = 0.95, 64  # the half-life is what this gives at that batch


@dataclass(frozen=True)
class ClaimRaces:
    """What notebook 11 races.

    Attributes:
        scaling: the claim of linear scaling: for each recipe, a race for each batch size.
        small: the claim that small batches train well: the same.
        seconds: what it all took.
    """

    scaling: dict[str, tuple[Race, ...]]
    small: dict[str, tuple[Race, ...]]
    seconds: float


def race_claims(tell: Callable[[float], None] | None = None) -> ClaimRaces:
    """Run the races of both claims, on one thread.

    Args:
        tell: called with the share that is done, from 0 to 1; what it raises ends them.
    """
    started, scaling, small = time.perf_counter(), _scaling(), _small()
    with one_thread():
        raced = race_each(scaling | small, counted(tell, total_evaluations(scaling | small)))
    return ClaimRaces(
        {name: raced[name] for name in scaling},
        {name: raced[name] for name in small},
        time.perf_counter() - started,
    )


def _scaling() -> dict[str, list[Job]]:
    """The same number of examples at every batch size; SGD with momentum 0.9, as in the paper."""
    jobs: dict[str, list[Job]] = {
        N_("rate unchanged"): [], N_("rate × B/16"): [], N_("rate × B/16, warm-up"): [],
    }  # fmt: skip
    for b in SCALING:
        epoch = TRAIN // b
        for name, these in jobs.items():
            factor = 1 if name == "rate unchanged" else b / BASE_BATCH
            rates = tuple(rate * factor for rate in BASE_RATES)
            warm_up = WARM_UP_EPOCHS * epoch if "warm-up" in name else 0
            recipe = Recipe(name, momentum=0.9, warm_up=warm_up)
            these.append((Replicas(rates, SCALING_SEEDS), b, recipe, SCALING_EPOCHS * epoch))
    return jobs


def _small() -> dict[str, list[Job]]:
    """The same few examples at every batch size, each seen once."""
    fixed, held, plain = (
        N_("Adam, β₂ = 0.95 at every B"),
        N_("Adam, β₂ held in examples"),
        N_("SGD, no momentum"),
    )
    jobs: dict[str, list[Job]] = {fixed: [], held: [], plain: []}
    for b in ADAM_RATES:
        adam, sgd = (Replicas(rates[b], SMALL_SEEDS) for rates in (ADAM_RATES, SGD_RATES))
        updates = SMALL_EXAMPLES // b
        jobs[fixed].append((adam, b, Recipe(fixed, "Adam", beta2=BETA2), updates))
        jobs[held].append((adam, b, Recipe(held, "Adam", beta2=held_in_examples(b)), updates))
        jobs[plain].append((sgd, b, Recipe(plain), updates))
    return jobs


def held_in_examples(batch_size: int) -> float:
    """Adam's beta2 whose half-life in examples is that of ``BETA2`` at ``BETA2_BATCH`` (Marek et al.)."""
    return float(BETA2 ** (batch_size / BETA2_BATCH))
