"""In Chinese no English is left: this finds texts that were never marked, which no catalogue knows."""

from functools import cache
from math import ceil

import numpy as np
import pytest
import speech
from made_races import races

from accum_lib import exercises, explorers
from accum_lib.exercises.feedback import not_yet, right
from accum_lib.explorers.questions import (
    beyond,
    communication,
    descents,
    equivalence,
    memory,
    pitfalls,
    roberta,
    variance,
)  # fmt: skip
from accum_lib.figures.picture import Picture
from accum_lib.figures.training import picture as training_picture
from accum_lib.lenses import batch_norm
from accum_lib.lenses.communication import Lab
from accum_lib.lenses.communication.measure import STEPS
from accum_lib.lenses.equivalence import check_case, explain
from accum_lib.lenses.memory.claim import memory_clauses
from accum_lib.lenses.memory.planner import plan, predicted
from accum_lib.lenses.memory.settings import Settings
from accum_lib.lenses.memory.workloads import encoder, mlp
from accum_lib.lenses.paths import DescentComparison
from accum_lib.lenses.variance import VarianceLab
from accum_lib.machine import report
from accum_lib.pitfalls import FAULTS
from accum_lib.pitfalls.observe import OBSERVATIONS, UNITS
from accum_lib.problems import Regression
from accum_lib.records.communication import Span, Traffic
from accum_lib.records.pitfalls import Sightings
from accum_lib.words import speaking

WORKLOAD = mlp()


@pytest.fixture(autouse=True)
def chinese(monkeypatch):
    monkeypatch.setattr(batch_norm, "WINDOWS", 1)
    with speaking("zh"):
        yield


@cache
def lab() -> VarianceLab:
    return VarianceLab(draws=40)


@cache
def comparison() -> DescentComparison:
    return DescentComparison(Regression(1000))


def traffic() -> Lab:
    spans = (Span("forward", 0.0, 0.01), Span("backward", 0.01, 0.03), Span("all-reduce", 0.02, 0.04, 1000))
    every = [Traffic(2, 4, k, e, k if e else 1, 1000 * (k if e else 1), 0.04 * k, 0.02, 0.01, spans)
             for k in STEPS for e in (False, True)]  # fmt: skip
    return Lab(2, tuple(every), np.ones(1), np.ones(1), (), 0.0)


def table() -> Sightings:
    shape = len(FAULTS), len(OBSERVATIONS)
    seen = np.arange(shape[0] * shape[1]).reshape(shape) % 3 == 0
    return Sightings(
        tuple(f.code for f in FAULTS), OBSERVATIONS, np.ones(shape), seen, UNITS, np.ones(shape[1])
    )


EXPLORERS = {
    "moments": explorers.moments_explorer,
    "descents": explorers.descents_explorer,
    "microscope": explorers.microscope_explorer,
    "guess": lambda: explorers.guess_explorer(lab()),
    "variance": lambda: explorers.variance_explorer(lab()),
    "races": lambda: explorers.races_explorer(races()),
    "memory": lambda: explorers.memory_explorer(lambda tokens: encoder(32, 2, 8), (2, 4, 8, 16)),
    "planner": lambda: explorers.planner_explorer(lambda tokens: WORKLOAD),
    "clues": explorers.clues_explorer,
    "sightings": lambda: explorers.sightings_explorer(table),
    "fixed batch": explorers.fixed_batch_explorer,
    "norms": explorers.norm_explorer,
    "weighting": explorers.weighting_explorer,
    "speech": lambda: explorers.speech_explorer(epochs=2),
    "traffic": lambda: explorers.traffic_explorer(traffic()),
    "forecast": explorers.forecast_explorer,
}
PREDICTIONS = {
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
    "every pass": lambda: communication.bytes_per_example(traffic(), True),
    "last pass": lambda: communication.bytes_per_example(traffic(), False),
    "fixed batch": lambda: communication.fixed_batch(traffic()),
}  # fmt: skip


LOOPS = {fault.code: (fault.wrong, fault.right) for fault in FAULTS}


def left(texts) -> dict[str, set[str]]:
    """The texts in which English is left, with its words."""
    return {text: words for text in texts if (words := speech.english(text))}


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_says_nothing_in_english(name) -> None:
    assert left(speech.of_explorer(EXPLORERS[name]())) == {}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_prediction_says_nothing_in_english(name) -> None:
    prediction = PREDICTIONS[name]()
    assert left(speech.of_prediction(prediction)) == {}
    assert prediction.errors == []


ANSWERS = {
    "check_updates_per_epoch": [
        lambda n, m, k: ...,
        lambda n, m, k: 3,
        lambda n, m, k: -(-n // m // k),
        lambda n, m, k: ceil(ceil(n / m) / k),
    ],
    "check_weight": [
        lambda i, c: ...,
        lambda i, c: 1,
        lambda i, c: 1 / 3,
        lambda i, c: 0.5,
        lambda i, c: c[i] / sum(c),
    ],
    "check_same_step": [
        lambda r, k: ...,
        lambda r, k: r,
        lambda r, k: r * k,
        lambda r, k: 7,
        lambda r, k: r / k,
    ],
    "check_mean_of_means_weight": [lambda i, c: ..., lambda i, c: 1, lambda i, c: sum(c) / c[i] / len(c)],
    "check_data": [..., ([4, 4, 4, 4], 2), ([0.5], 2), ([1, 3, 2], 2), ([1, 3, 2, 5, 4], 2)],
    "check_loop": [
        lambda model, optimizer, batches, accumulation_steps: None,
        *(f.wrong for f in FAULTS[:8]),
        FAULTS[0].right,
    ],
    "check_clipped_repair": [FAULTS[0].wrong, *LOOPS["clipped_per_micro_batch"]],
    "check_logged_repair": [FAULTS[0].wrong, *LOOPS["scheduler_per_micro_batch"]],
    "check_variance": [
        lambda t, b, n: ...,
        lambda t, b, n: t / b,
        lambda t, b, n: t * (1 - b / n),
        lambda t, b, n: t / b * (1 - b / n),
    ],
    "check_noise_scale": [lambda m, k, s, w: ..., lambda m, k, s, w: s / w, lambda m, k, s, w: 7.0],
    "check_beta2": [lambda r, o, b: ..., lambda r, o, b: 2, lambda r, o, b: r, lambda r, o, b: r ** (b / o)],
    "check_floor": [lambda n: ..., *(lambda n, each=each: each * n for each in (4, 8, 12, 16, 20, 30))],
    "check_second_buffer": [
        lambda n, k: ...,
        lambda n, k: 4 * n,
        lambda n, k: 4 * n * (k - 1),
        lambda n, k: 0,
        lambda n, k: 4 * n * (k > 1),
        lambda n, k: 8 * n * (k > 1),
    ],
    "check_steps": [lambda b, m: ..., lambda b, m: b // m, lambda b, m: b, lambda b, m: -(-b // m)],
    "check_momentum": [
        lambda b, k: ...,
        lambda b, k: b,
        lambda b, k: b / k,
        lambda b, k: 1 - (1 - b) ** (1 / k),
    ],
    "check_torch_mean": [
        lambda n: ...,
        lambda n: [1],
        lambda n: [0.1] * 4,
        lambda n: [0.25] * 4,
        lambda n: [1 / x for x in n],
        lambda n: [9.0] * 4,
        lambda n: [1 / x / len(n) for x in n],
    ],
    "check_alignable": [lambda f, t: ..., lambda f, t: True, lambda f, t: f >= len(t)],
    "check_share": [lambda w, n: ..., lambda w, n: 1 / n, lambda w, n: 7, lambda w, n: w / n],
    "check_bytes": [
        lambda g, m, k, e: ...,
        lambda g, m, k, e: g,
        lambda g, m, k, e: g * (k if e else 1) / m / k,
    ],
    "check_enough": [lambda c, a, t: ..., lambda c, a, t: 1],
    "check_warmup_updates": [lambda *a: ..., lambda *a: 1, lambda n, m, k, e, p: int(p * e * -(-n // m))],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_exercise_answers_nothing_in_english(name) -> None:
    check = getattr(exercises, name)
    assert left(repr(check(answer)) for answer in ANSWERS[name]) == {}


def test_an_exception_of_the_readers_is_named_in_chinese() -> None:
    said = repr(exercises.check_weight(lambda index, counts: 1 / 0))
    assert said == "还不对：你的函数引发了 ZeroDivisionError：division by zero"
    assert repr(right("对。")) == "正确。对。"
    assert repr(not_yet("再想想。")) == "还不对：再想想。"


def test_the_bug_hunt_tells_its_stories_in_chinese() -> None:
    hunt = explorers.BugHunt()
    texts = [hunt.button.description, hunt.guess.description, *(label for label, _ in hunt.guess.options)]
    for number in range(1, len(hunt.suspects) + 1):
        hunt.explorer.choose(number=number)
        hunt.guess.value = "right"
        hunt.button.click()
        story, _, _ = hunt.reply.value.partition("出处：")  # the names of projects follow
        texts.append(story)
    assert hunt.errors == []
    assert {text: words - {"Adam"} for text, words in left(texts).items() if text != "i % K == 0"} == {}


def test_reports_are_chinese() -> None:
    fault = FAULTS[1]
    said = explain(check_case(fault.wrong, fault.case()))
    said = (
        said.replace("mean_of_means", "").replace("weight", "").replace("bias", "").replace("scheduler", "")
    )
    assert speech.english(said) <= {"ema", "tail_divided_by_k"}
    assert speech.english(report()) <= {"Python", "PyTorch", "cpu"}
    for clause in memory_clauses(predicted(WORKLOAD, Settings()), 16, 32):
        assert speech.english(clause.claim + clause.evidence) == set()
    assert speech.english(plan(WORKLOAD, "3GB", 32).verdict) == set()


def test_a_training_run_is_drawn_in_chinese() -> None:
    from accum_lib.records.training import Evaluation, Update

    fields = {"loss": 1.0, "accuracy": 0.5, "count": 10, "update": 1}
    update = type("U", (), {**fields, "micro_batch_size": 4, "accumulation_steps": 2})
    assert Update is not None
    assert Evaluation is not None
    assert left(speech.of_picture(training_picture([update], [type("E", (), fields)], 0.5))) == {}


def test_what_was_never_marked_is_found() -> None:
    axis = {"title": {"text": "轮次"}}
    picture = Picture([{"name": "损失 of the window"}], {"xaxis": axis}, "第 1 次更新。")
    assert left(speech.of_picture(picture)) == {"损失 of the window": {"of", "the", "window"}}
