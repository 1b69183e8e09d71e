"""In Chinese no English is left: this finds texts that were never marked, which no catalogue knows."""

import importlib
import pathlib
from functools import cache

import nbformat
import numpy as np
import pytest
import solutions
import speech
from made_races import races
from made_trials import trial

from accum_lib import lessons
from accum_lib import lessons as explorers
from accum_lib.check import check_case, explain
from accum_lib.check.faults import FAULTS
from accum_lib.lessons.beyond_text import measure
from accum_lib.lessons.beyond_text import questions as beyond
from accum_lib.lessons.choose_k import questions
from accum_lib.lessons.choose_k.choose import known_noise
from accum_lib.lessons.choose_k.record import TimeModel, Trials
from accum_lib.lessons.choose_k.subjects import HERE
from accum_lib.lessons.choose_k.trial import verdicts
from accum_lib.lessons.distributed import questions as communication
from accum_lib.lessons.distributed.measure import STEPS, Lab
from accum_lib.lessons.distributed.record import Span, Traffic
from accum_lib.lessons.equivalence import questions as equivalence
from accum_lib.lessons.kit import lesson_map, progress
from accum_lib.lessons.kit.contents import Lesson
from accum_lib.lessons.kit.feedback import not_yet, right
from accum_lib.lessons.kit.progress import Progress
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.memory import questions as memory
from accum_lib.lessons.memory.claims import memory_clauses
from accum_lib.lessons.roberta import questions as roberta
from accum_lib.lessons.roberta.figure import training_picture
from accum_lib.lessons.three_descents import questions as descents
from accum_lib.lessons.three_descents.measure import DescentComparison
from accum_lib.lessons.variance import questions as variance  # fmt: skip
from accum_lib.lessons.variance.measure import VarianceLab
from accum_lib.lessons.when_it_breaks import questions as pitfalls
from accum_lib.lessons.when_it_breaks.observe import OBSERVATIONS, UNITS
from accum_lib.lessons.when_it_breaks.record import Sightings
from accum_lib.machine import report
from accum_lib.memory.planner import plan
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import encoder_workload, mlp_workload
from accum_lib.noise.records import NoiseScale
from accum_lib.problems.regression import Regression
from accum_lib.words import speaking

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKLOAD = mlp_workload()


@pytest.fixture(autouse=True)
def chinese(monkeypatch):
    monkeypatch.setattr(measure, "WINDOWS", 1)
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


EXPLORERS = {
    "moments": explorers.moments_explorer,
    "descents": explorers.descents_explorer,
    "microscope": explorers.microscope_explorer,
    "guess": lambda: explorers.guess_explorer(lab()),
    "variance": lambda: explorers.variance_explorer(lab()),
    "races": lambda: explorers.races_explorer(races()),
    "memory": lambda: explorers.memory_explorer(lambda tokens: encoder_workload(32, 2, 8), (2, 4, 8, 16)),
    "planner": lambda: explorers.planner_explorer(lambda tokens: WORKLOAD),
    "clues": explorers.clues_explorer,
    "sightings": lambda: explorers.sightings_explorer(table),
    "fixed batch": explorers.fixed_batch_explorer,
    "norms": explorers.norm_explorer,
    "weighting": explorers.weighting_explorer,
    "speech": lambda: explorers.speech_explorer(epochs=2),
    "traffic": lambda: explorers.traffic_explorer(traffic()),
    "forecast": explorers.forecast_explorer,
    "choose K": lambda: explorers.choose_k_explorer(times(), noise()),
    "trial": lambda: explorers.trial_explorer(trials()),
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
    "every pass": lambda: communication.bytes_in_every_pass(traffic()),
    "last pass": lambda: communication.bytes_in_the_last_pass(traffic()),
    "fixed batch": lambda: communication.fixed_batch(traffic()),
    "larger card": questions.larger_card,
    "four times K": lambda: questions.four_times_the_steps(trials()),
}  # fmt: skip


def left(texts) -> dict[str, set[str]]:
    """The texts in which English is left, with its words."""
    return {text: words for text in texts if (words := speech.english(text))}


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_says_nothing_in_english(name) -> None:
    """Not even if it was shown in English before: nothing that is kept remembers the words."""
    with speaking("en"):
        EXPLORERS[name]().picture()
    assert left(speech.of_explorer(EXPLORERS[name]())) == {}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_prediction_says_nothing_in_english(name) -> None:
    prediction = PREDICTIONS[name]()
    assert left(speech.of_prediction(prediction)) == {}
    assert prediction.errors == []


TABLES = [p.stem for p in sorted((ROOT / "tests" / "wrong_answers").glob("[!_]*.py"))]
WRONG = {k: v for t in TABLES for k, v in importlib.import_module(f"wrong_answers.{t}").WRONG.items()}


@pytest.mark.parametrize("name", WRONG)
def test_an_exercise_hints_nothing_in_english(name) -> None:
    check, said = getattr(lessons, name), []
    for answer, hint in WRONG[name]:
        if "raised" not in hint:  # Python's own words follow
            both = isinstance(answer, tuple) and callable(answer[0])
            said.append(repr(check(*answer) if both else check(answer)))
    assert left(said) == {}


@pytest.mark.parametrize("name", sorted(p.stem for p in solutions.ANSWERS.glob("*.py")))
def test_a_solution_is_praised_in_chinese(name) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    names, said = {}, []
    for source in solutions.exercises(solutions.fill(notebook, solutions.ANSWERS / f"{name}.py")):
        body, _, call = source.rstrip().rpartition("\n")
        exec(body, names)
        said.append(repr(eval(call, names)))
    assert said
    assert [text for text in said if not text.startswith("正确。")] == []
    assert left(said) == {}


def test_an_exception_of_the_readers_is_named_in_chinese() -> None:
    said = repr(lessons.check_weight(lambda index, counts: 1 / 0))
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
    for clause in memory_clauses(predict(WORKLOAD, Settings(), hopper=False), 16, 32):
        assert speech.english(clause.claim + clause.evidence) == set()
    assert speech.english(plan(WORKLOAD, "3GB", 32).verdict) == set()
    for clause in (clause for each in trials().trials for clause in verdicts(each)):
        assert speech.english(clause.claim + clause.evidence) == set()


def test_the_map_is_chinese(tmp_path, monkeypatch) -> None:
    lesson = Lesson("00_one.ipynb", "起点", "是什么？", 10, ("t.p",), ("check_a",))
    monkeypatch.setenv("ACCUM_PROGRESS_FILE", str(tmp_path))  # a folder: nothing can be read or written
    note = progress.record_exercise("check_a")
    notes = note.replace(str(tmp_path), "").replace("IsADirectoryError", "")
    assert left([notes]) == {notes: {"from", "import", "progress", "reset", "accum_lib"}}
    for done in (Progress(), Progress({"t.p": True}, ("check_a",))):
        assert left([lesson_map.as_html([lesson], done), lesson_map.as_text([lesson], done)]) == {}


def test_a_training_run_is_drawn_in_chinese() -> None:
    from accum_lib.training.records import Evaluation, UpdateRecord

    fields = {"loss": 1.0, "accuracy": 0.5, "count": 10, "update": 1}
    update = type("U", (), {**fields, "micro_batch_size": 4, "accumulation_steps": 2})
    assert UpdateRecord is not None
    assert Evaluation is not None
    assert left(speech.of_picture(training_picture([update], [type("E", (), fields)], 0.5))) == {}


def test_what_was_never_marked_is_found() -> None:
    axis = {"title": {"text": "轮次"}}
    picture = Picture([{"name": "损失 of the window"}], {"xaxis": axis}, "第 1 次更新。")
    assert left(speech.of_picture(picture)) == {"损失 of the window": {"of", "the", "window"}}
