"""Every number that the page is built with, computed by the library when it is built.

Small problems are sent as their data, and the page computes on them under the reader's hand; of larger ones
(the digits, RoBERTa-base) it gets the library's results over a grid of settings. Tests recompute both.
"""

import inspect
import itertools
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import torch

from accum_lib.check.case import COUNTS
from accum_lib.check.faults import loops
from accum_lib.lessons.beyond_text.measure import norm_errors
from accum_lib.lessons.variance.measure import VarianceLab
from accum_lib.machine import one_thread
from accum_lib.memory.planner import plan
from accum_lib.memory.prediction import predict
from accum_lib.memory.records import Peaks, Timeline
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import named
from accum_lib.problems.regression import START, Regression

EPOCHS = 12  # whose order of examples the page knows
TOKENS = 51  # of the two-class problem: the lonely token of 1 in 51
FLOW = (1, 2, 4, 8)  # M, and K
LOOPS = ("right", "no_division", "mean_of_means", "tail_divided_by_k", "dropped_tail", "leaked_tail")
SIZES, STEPS = (1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8)
CARDS = ("RTX 4060", "RTX 3060", "RTX 3090", "A100 40GB", "A100 80GB")
BATCHES = (8, 32, 128, 512, 2048)
FINE = 20_000  # moments of a timeline: more than there are operators, so that none is left out


def everything() -> dict[str, Any]:
    """All of it, as JSON can say it."""
    with one_thread():
        return {
            "regression": regression(44),
            "cloud": regression(200),
            "tokens": tokens(),
            "variance": variance(),
            "flow": flow(),
            "memory": memory(),
            "norms": {norm: norms(norm) for norm in ("batch", "group")},
            "plans": plans(),
            "loops": {name: inspect.getsource(getattr(loops, name)) for name in LOOPS},
        }


def regression(num_samples: int) -> dict[str, Any]:
    """The notebooks' problem with two weights, and the order in which its examples come, epoch by epoch."""
    problem, draw = Regression(num_samples), torch.Generator().manual_seed(0)
    orders = [torch.randperm(num_samples, generator=draw).tolist() for _ in range(EPOCHS)]
    return {
        "x": problem.x.tolist(),
        "y": problem.y.tolist(),
        "start": list(START),
        "orders": orders,
    }


def tokens() -> dict[str, Any]:
    """Two classes of points in the plane, and the ragged counts in which they come as micro-batches.

    The first point is a stray one: it is on the side of the other class, as a short, odd text might.
    """
    draw = torch.Generator().manual_seed(3)
    labels = torch.randint(2, (TOKENS,), generator=draw)
    centres = torch.tensor([[-1.0, -0.4], [1.0, 0.4]], dtype=torch.float64)
    points = centres[labels] + torch.randn(TOKENS, 2, generator=draw, dtype=torch.float64)
    points[0] = torch.tensor([-1.2, 1.6], dtype=torch.float64)
    labels[0] = 1
    return {"x": points.tolist(), "labels": labels.tolist(), "counts": list(COUNTS), "rate": 0.5}


def variance() -> dict[str, Any]:
    """Variance against batch size for the digits' MLP, measured and by the law, and its noise scale."""
    return to_json(asdict(VarianceLab().curve("shuffled")))


def flow() -> dict[str, Any]:
    """For each M and K: RoBERTa-base's memory at the fullest moment of every phase of one update."""
    found = _roberta(Settings())
    return {"phases": {f"{m},{k}": phases(found.timeline(m, k, FINE)) for m in FLOW for k in FLOW}}


def phases(timeline: Timeline) -> list[dict[str, Any]]:
    """Bytes by category at the fullest moment of each forward pass, backward pass and update."""
    starts = [start for _, start in timeline.phases]
    ends = [*starts[1:], int(timeline.operators[-1]) + 1]
    inside = [(timeline.operators >= a) & (timeline.operators < b) for a, b in zip(starts, ends, strict=True)]
    return [{"bytes": _fullest(timeline.bytes_by_category[:, moments])} for moments in inside]


def memory() -> dict[str, Any]:
    """RoBERTa-base's peak over M and K, with its parts, for each way to train."""
    ways = itertools.product(("fp32", "bf16"), (False, True))
    return {
        "sizes": list(SIZES),
        "steps": list(STEPS),
        "ways": {
            f"{precision},{'on' if checkpointing else 'off'}": _peaks(
                Settings(precision=precision, checkpointing=checkpointing)
            )
            for precision, checkpointing in ways
        },
    }


def _peaks(settings: Settings) -> dict[str, Any]:
    found = _roberta(settings)
    peaks: Peaks = found.peaks(SIZES, STEPS)
    parts = [[_fullest(found.timeline(m, k, FINE).bytes_by_category) for m in SIZES] for k in STEPS]
    return {"peak": peaks.peak_bytes.tolist(), "floor": peaks.floor_bytes.tolist(), "parts": parts}


def _fullest(levels: np.ndarray) -> list[float]:
    """Of the moments (columns), the one with the most bytes in all: what each category has there."""
    return levels[:, levels.sum(0).argmax()].tolist()


def norms(norm: str) -> dict[str, Any]:
    """The gradient's error against M under one window of 64 digits."""
    found = norm_errors(norm)
    return {"sizes": found.micro_batch_sizes.tolist(), "errors": found.gradient_errors.tolist()}


def plans() -> dict[str, Any]:
    """What the planner says of RoBERTa-base, T = 512, for each card and effective batch."""
    workload = named("roberta-base", "classification", 512)
    found = {f"{card},{batch}": plan(workload, card, batch) for card in CARDS for batch in BATCHES}
    return {
        "cards": list(CARDS),
        "batches": list(BATCHES),
        "found": {
            key: {"limit": p.limit_bytes, "options": [to_json(asdict(o)) for o in p.options]}
            for key, p in found.items()
        },
    }


@cache
def _roberta(settings: Settings) -> Any:
    return predict(named("roberta-base", "classification", 128), settings, hopper=False)


def to_json(record: dict[str, Any]) -> dict[str, Any]:
    """Arrays as lists."""
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in record.items()}
