"""Every explorer and every question on small inputs, for tests of their words and of their look in a page."""

import pathlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from made_races import claim_races, race_of, races
from made_trials import trial

from accum_lib.check.faults import FAULTS
from accum_lib.lessons.beyond_text import measure
from accum_lib.lessons.beyond_text import questions as beyond
from accum_lib.lessons.beyond_text.explorer import norm_explorer, speech_explorer, weighting_explorer
from accum_lib.lessons.capstone import questions as capstone
from accum_lib.lessons.capstone.explorer import run_explorer
from accum_lib.lessons.capstone.measure import found_script
from accum_lib.lessons.choose_k import questions
from accum_lib.lessons.choose_k.choose import known_noise
from accum_lib.lessons.choose_k.explorer import choose_k_explorer, trial_explorer
from accum_lib.lessons.choose_k.record import TimeModel, Trials
from accum_lib.lessons.choose_k.subjects import HERE
from accum_lib.lessons.distributed import questions as communication
from accum_lib.lessons.distributed.explorer import forecast_explorer, traffic_explorer
from accum_lib.lessons.distributed.measure import STEPS, Lab
from accum_lib.lessons.distributed.record import Span, Traffic
from accum_lib.lessons.equivalence import questions as equivalence
from accum_lib.lessons.equivalence.explorer import microscope_explorer
from accum_lib.lessons.kit.grid import GridExplorer
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.memory import questions as memory
from accum_lib.lessons.memory.explorer import memory_explorer, planner_explorer
from accum_lib.lessons.roberta import explorer as fixed_batch
from accum_lib.lessons.roberta import questions as roberta
from accum_lib.lessons.roberta.explorer import fixed_batch_explorer
from accum_lib.lessons.three_descents import questions as descents
from accum_lib.lessons.three_descents.explorer import (
    cuts_explorer,
    descents_explorer,
    moments_explorer,
    starts_explorer,
)
from accum_lib.lessons.three_descents.measure import DescentComparison
from accum_lib.lessons.two_claims import questions as two_claims
from accum_lib.lessons.two_claims.explorer import claims_explorer
from accum_lib.lessons.two_claims.measure import ClaimRaces
from accum_lib.lessons.variance import questions as variance  # fmt: skip
from accum_lib.lessons.variance.explorer import (
    guess_explorer,
    races_explorer,
    variance_explorer,
)
from accum_lib.lessons.variance.measure import VarianceLab
from accum_lib.lessons.variance.record import Race
from accum_lib.lessons.when_it_breaks import questions as pitfalls
from accum_lib.lessons.when_it_breaks.explorer import clues_explorer, line_up_explorer, sightings_explorer
from accum_lib.lessons.when_it_breaks.observe import OBSERVATIONS, UNITS
from accum_lib.lessons.when_it_breaks.record import LineUp, Sightings
from accum_lib.memory.workloads import Workload, encoder_workload, mlp_workload
from accum_lib.noise.records import NoiseScale
from accum_lib.problems.regression import Regression

WORKLOAD = mlp_workload()
# Constants of the library that cannot be passed, and what they are to be: setattr(*each).
SMALL = ((measure, "WINDOWS", 1), (fixed_batch, "UPDATES", 3))


@cache
def lab() -> VarianceLab:
    return VarianceLab(draws=40)


@cache
def small_encoder(tokens: int) -> Workload:
    return encoder_workload(32, 2, 8)


@cache
def comparison() -> DescentComparison:
    return DescentComparison(Regression(1000))


def traffic() -> Lab:
    spans = (Span("forward", 0.0, 0.01), Span("backward", 0.01, 0.03), Span("all-reduce", 0.02, 0.04, 1000))
    every = [Traffic(2, 4, k, e, k if e else 1, 1000 * (k if e else 1), 0.04 * k, 0.02, 0.01, spans)
             for k in STEPS for e in (False, True)]  # fmt: skip
    return Lab(2, tuple(every), np.ones(1), np.ones(1), (), 0.0)


def claimed() -> ClaimRaces:
    """Three recipes each, whose names are the same in every language."""
    named = dict(zip("αβγ", claim_races().scaling.values(), strict=True))
    return replace(claim_races(), scaling=named, small=named)


def tiny() -> dict[str, tuple[Race, ...]]:
    return {"SGD, no momentum": (race_of(1, 0.01), race_of(64, 0.0005))}


class MadeRun:
    """Falls less by a given part, and ends as far off."""

    def __init__(self, off: float) -> None:
        self.losses = 8 - (1 - off) * np.arange(4.0)
        self.start, self.weights = torch.zeros(3), torch.ones(3) * (1 + off)


def made_line_up() -> LineUp:
    """Four runs, of which the second and the last are broken."""
    losses = 2.3 - np.linspace(0, 1, 24) * np.array([[1.0], [0.9], [1.1], [0.0]])
    return LineUp(("", "Divided by K twice", "", "i % K == 0"), losses, 4)


def trials() -> Trials:
    return Trials((trial(64.0), trial(10.0)), 1.0)


def times() -> dict[str, TimeModel]:
    one = np.ones(2)
    return {name: TimeModel("cpu", 2e-3, 3e-4, 2e-3, one, one, one) for name in HERE}


def noise() -> dict[str, NoiseScale]:
    return {name: known_noise(64) for name in HERE}


def table() -> Sightings:
    shape = len(FAULTS), len(OBSERVATIONS)
    seen = np.arange(shape[0] * shape[1]).reshape(shape) % 3 == 0
    return Sightings(
        tuple(f.code for f in FAULTS), OBSERVATIONS, np.ones(shape), seen, UNITS, np.ones(shape[1])
    )


EXPLORERS: dict[str, Callable[[], GridExplorer]] = {
    "moments": moments_explorer,
    "cuts": cuts_explorer,
    "descents": descents_explorer,
    "starts": starts_explorer,
    "microscope": microscope_explorer,
    "guess": lambda: guess_explorer(lab()),
    "variance": lambda: variance_explorer(lab()),
    "races": lambda: races_explorer(races()),
    "claims": lambda: claims_explorer(claimed()),
    "memory": lambda: memory_explorer(small_encoder, (2, 4, 8, 16)),
    "planner": lambda: planner_explorer(lambda tokens: WORKLOAD),
    "clues": clues_explorer,
    "sightings": lambda: sightings_explorer(table),
    "line-up": lambda: line_up_explorer(made_line_up),
    "fixed batch": fixed_batch_explorer,
    "norms": norm_explorer,
    "weighting": weighting_explorer,
    "speech": lambda: speech_explorer(epochs=2),
    "traffic": lambda: traffic_explorer(traffic()),
    "forecast": forecast_explorer,
    "choose K": lambda: choose_k_explorer(times(), noise()),
    "trial": lambda: trial_explorer(trials()),
    "run": lambda: run_explorer(found_script, lambda _: MadeRun(0.5), lambda: MadeRun(0.0)),
}
PREDICTIONS: dict[str, Callable[[], Quiz]] = {
    "full buffer": descents.full_buffer,
    "summed step": lambda: descents.summed_step(comparison()),
    "same path": lambda: descents.same_path(comparison()),
    "lonely token": equivalence.lonely_token,
    "coarse buffer": lambda: equivalence.coarse_buffer(8),
    "variance": lambda: variance.variance_against_steps(lab()),
    "races": lambda: variance.sixteen_times_the_batch(races()),
    "doubled steps": lambda: memory.doubled_steps(WORKLOAD),
    "halved micro-batch": lambda: memory.halved_micro_batch(WORKLOAD),
    "loss curve": lambda: pitfalls.seen_in_the_loss(table),
    "Adam": lambda: pitfalls.hidden_by_adam(table),
    "usual snippet": roberta.usual_snippet,
    "dropout": roberta.dropout,
    "halved batch": beyond.halved_batch,
    "lone syllable": beyond.lone_syllable,
    "padding": beyond.unmasked_padding,
    "every pass": lambda: communication.bytes_in_every_pass(traffic()),
    "last pass": lambda: communication.bytes_in_the_last_pass(traffic()),
    "fixed batch": lambda: communication.fixed_batch(traffic()),
    "larger card": questions.larger_card,
    "four times K": lambda: questions.four_times_the_steps(trials()),
    "how far": lambda: capstone.how_far(lambda: MadeRun(0.5), lambda: MadeRun(0.0)),
    "one at a time": lambda: two_claims.one_at_a_time(ClaimRaces({}, tiny(), 1.0)),
}  # fmt: skip


def recorded(explorer: GridExplorer) -> dict[tuple[int, ...], Picture]:
    """Every picture that the library will compute for it, by the positions of its controls."""
    pictures: dict[tuple[int, ...], Picture] = {}
    compute = explorer._picture_of

    def picture_of(**settings: Any) -> Picture:
        key = tuple(list(c.values).index(settings[c.name]) for c in explorer._controls)
        pictures[key] = compute(**settings)
        return pictures[key]

    explorer._picture_of = picture_of
    return pictures


def show(name: str, folder: str | None = None) -> None:
    """For a notebook: display the explorer of that name.

    Args:
        name: of one of ``EXPLORERS``.
        folder: where to leave what its pictures were computed to be, for a test to compare with.
    """
    explorer = EXPLORERS[name]()
    pictures = recorded(explorer)
    explorer.show()
    if folder:
        (pathlib.Path(folder) / f"{name}.pickle").write_bytes(pickle.dumps(pictures))


def ask(name: str) -> None:
    """For a notebook: display the question of that name, of ``PREDICTIONS``."""
    PREDICTIONS[name]().show()
