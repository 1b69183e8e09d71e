"""What advice can be asked about: three models that run here, and two that are only predicted."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import torch

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.lessons.variance.races import TRAIN
from accum_lib.machine import one_thread
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload, named
from accum_lib.noise import NoiseScaleMonitor
from accum_lib.noise.records import NoiseScale
from accum_lib.problems.base import Problem, micro_batches
from accum_lib.problems.digits import Digits
from accum_lib.problems.roberta import Roberta
from accum_lib.words import N_

TOKENS, TEXTS, HELD_OUT = 32, 512, 128  # of the docstrings that tiny RoBERTa reads
PILOT_M = PILOT_K = 4
PILOT_UPDATES, CONFIDENCE = 90, 0.9


@dataclass(frozen=True)
class Subject:
    """A model, how it is trained, and, if it runs here, its problem.

    Attributes:
        name: in English words, to be translated where they are shown.
        workload: for the memory lens and for timing.
        settings: optimizer and precision.
        rate: the learning rate of the pilot run.
        problem: None if the model is only predicted.
    """

    name: str
    workload: Workload
    settings: Settings
    rate: float = 0.0
    problem: Problem | None = None


NAMES = ("digits-mlp", "digits-cnn", "tiny-roberta", "roberta-base", "roberta-large")
WORDS = (N_("digits, MLP"), N_("digits, CNN"), N_("tiny RoBERTa"), "RoBERTa-base", "RoBERTa-large")
HERE = NAMES[:3]


@cache
def subject(name: str) -> Subject:
    """One of ``NAMES``; made once, since predictions are remembered by it.

    Raises:
        ValueError: there is no such subject.
    """
    if name not in NAMES:
        raise ValueError(f"there is no {name!r} to advise on; there are {', '.join(NAMES)}")
    words = WORDS[NAMES.index(name)]
    if name not in HERE:
        return Subject(words, named(name, "classification", 128), Settings())
    if name == "tiny-roberta":
        problem: Problem = Roberta("tiny", TEXTS, TOKENS)
        return Subject(words, _workload(words, problem), Settings("adamw", "for-loop"), 1e-3, problem)
    model = name.removeprefix("digits-")
    problem = Digits(model, num_samples=TRAIN, norm="group")  # BatchNorm would see M and not B
    rate = 0.2 if model == "mlp" else 0.05
    return Subject(words, _workload(words, problem), Settings("sgd", "for-loop"), rate, problem)


def pilot(of: Subject, updates: int = PILOT_UPDATES, seed: int = 0) -> NoiseScale:
    """The noise scale of a short training run from its start, measured for free while it accumulates.

    The weights move during the run, and the interval takes them for fixed: it is that of the run's average.

    Raises:
        ValueError: the subject does not run here.
    """
    if of.problem is None:
        raise ValueError(f"{of.name} does not run here: measure its noise scale where it trains, and give it")
    problem, model = of.problem, of.problem.make_model(seed)
    made = torch.optim.SGD if of.settings.optimizer == "sgd" else torch.optim.AdamW
    optimizer = made(model.parameters(), lr=of.rate)
    monitor = NoiseScaleMonitor(
        model, problem.loss_sum, problem.count, population=problem.num_samples, every=1
    )
    with one_thread(), monitor:
        for window in islice(_epochs(problem, seed), updates):
            accumulate(model, window, monitor.loss_sum, monitor.count)
            apply_update(model, optimizer)
    return monitor.estimate(confidence=CONFIDENCE)


def _epochs(problem: Problem, seed: int) -> Iterator[list[Any]]:
    order = torch.Generator().manual_seed(seed)
    while True:
        yield from windows(micro_batches(problem, PILOT_M, order), PILOT_K)


def _workload(words: str, problem: Problem) -> Workload:
    """Batches as wide as they come: the longest text, and one short one so that a mask is there."""
    rows = torch.arange(problem.num_samples)
    if isinstance(problem, Roberta):
        rows = torch.tensor(sorted(rows.tolist(), key=lambda i: -len(problem.tokens[i])))

    def make_batch(micro_batch_size: int) -> Any:
        picked = rows[torch.arange(micro_batch_size) % (len(rows) - 1)]
        if micro_batch_size > 1:
            picked[-1] = rows[-1]
        return problem.batch(picked)

    return Workload(words, problem.make_model, make_batch, problem.loss_sum)
