"""The explorers of notebook 09: a model, a card and data in, M and K out; and how the advice did in races."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np

from accum_lib.lessons.choose_k import figure
from accum_lib.lessons.choose_k.choose import Chooser, advise, known_noise, landscape
from accum_lib.lessons.choose_k.costs import measure_times
from accum_lib.lessons.choose_k.reasons import headline
from accum_lib.lessons.choose_k.record import TimeModel, Trials
from accum_lib.lessons.choose_k.subjects import HERE, NAMES, WORDS, pilot, subject
from accum_lib.lessons.choose_k.trial import AdviceTrial
from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.variance.explorer import GO_ON, RaceTrack
from accum_lib.machine import GIB
from accum_lib.memory.cards import Card, find_card, processor
from accum_lib.memory.prediction import predict
from accum_lib.noise.records import NoiseScale
from accum_lib.words import N_

SIZES = tuple(np.unique(np.geomspace(1, 1024, 40).round().astype(int)).tolist())
BATCHES = tuple(np.unique(np.geomspace(1, 16384, 48).round().astype(int)).tolist())
CARDS: dict[str, Card] = {
    N_("toy card, 0.5 MiB"): processor("a toy card of 0.5 MiB", 2**19),
    N_("toy card, 3 MiB"): processor("a toy card of 3 MiB", 3 * 2**20),
    N_("this processor, 512 MiB"): processor("this machine's processor with 512 MiB", GIB // 2),
    "RTX 4060, 8 GB": find_card("RTX 4060"),
    "A100, 40 GB": find_card("A100 40GB"),
    "A100, 80 GB": find_card("A100 80GB"),
}
SCALES = (None, 32.0, 256.0, 2048.0)
SCALE_WORDS = (N_("measured"), N_("about 32"), N_("about 256"), N_("about 2,048"))
GOAL_WORDS = (N_("updates and examples alike"), N_("time, where it was measured"))
CONTROLS = [
    Control("model", N_("Model:"), NAMES, "tiny-roberta", WORDS, "choice"),
    Control("card", N_("Card"), tuple(CARDS), "toy card, 3 MiB"),
    Control("scale", N_("Noise scale"), SCALES, None, SCALE_WORDS),
    Control("num_samples", N_("Examples N"), (200, 2000, 20000), 2000, ("200", "2,000", "20,000")),
    Control("goal", N_("Optimize for:"), ("balance", "time"), "balance", GOAL_WORDS, "choice"),
]
Times = Mapping[str, TimeModel]
Noise = Mapping[str, NoiseScale]


def measured_times() -> dict[str, TimeModel]:
    """Updates of every model that runs here, timed now on one thread."""
    return {name: measure_times(subject(name).workload, subject(name).settings) for name in HERE}


@cache
def pilots() -> dict[str, NoiseScale]:
    """The noise scale of every model that runs here, from a pilot run each."""
    return {name: pilot(subject(name)) for name in HERE}


def choose_k_explorer(times: Times | None = None, noise: Noise | None = None) -> GridExplorer:
    """Model, card and data in; M and K out, with reasons.

    Args:
        times: as from ``measured_times``, which is called if there are none.
        noise: as from ``pilots``.
    """
    timed, scales = times or measured_times(), noise or pilots()
    facts = {name: _facts(each) for name, each in timed.items()}

    def picture_of(model: str, card: str, scale: float | None, num_samples: int, goal: str) -> Picture:
        of, on = subject(model), CARDS[card]
        known = known_noise(scale) if scale else scales.get(model)
        its = timed.get(model) if on.device == "cpu" else None
        found = advise(of.workload, on, num_samples, known, its, goal, of.settings)
        prediction = predict(of.workload, of.settings, on.device, on.hopper)
        chooser = Chooser.on(on, prediction, num_samples, its)
        land = landscape(chooser, known.noise_scale if known else None, SIZES, BATCHES)
        return figure.picture(found, land, headline(found), facts)

    return GridExplorer(CONTROLS, picture_of)


def _facts(times: TimeModel) -> dict[str, Any]:
    """As JSON has it, so that the picture can be rebuilt from what it shows."""
    return {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in asdict(times).items()}


def trial_track(trial: AdviceTrial) -> RaceTrack[Trials]:
    """The trial under a progress bar; after a stop it goes on where it was."""
    return RaceTrack(trial.run, GO_ON)


def trial_explorer(trials: Trials | None = None) -> GridExplorer:
    """How the advised K did against a quarter of it and four times it."""
    found = (trials or AdviceTrial(pilots()).run()).trials
    names = tuple(trial.name for trial in found)
    control = Control("number", N_("Raced:"), tuple(range(len(found))), 0, names, "choice")
    return GridExplorer([control], lambda number: figure.trial_picture(found[number]))
