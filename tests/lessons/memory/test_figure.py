"""The pictures of memory: they draw the records, label everything, and say the same in words."""

from itertools import pairwise

import numpy as np
import pytest
from memory_cases import workload

from accum_lib.lessons.kit.still import png
from accum_lib.lessons.memory import explorer as explorers
from accum_lib.lessons.memory import figure, questions
from accum_lib.machine import GIB
from accum_lib.memory.planner import plan
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import mlp_workload

SMALL = workload("RoBERTa")


@pytest.fixture(scope="module")
def prediction():
    return predict(SMALL, Settings(), hopper=False)


def picture(prediction, m: int = 64, k: int = 2):
    return figure.picture(prediction.timeline(m, k), prediction.peaks((2, 8, 64), (1, 2)))


def test_the_areas_add_up_to_what_is_in_use(prediction) -> None:
    line, drawn = prediction.timeline(64, 2), picture(prediction)
    areas = [t for t in drawn.data if "fill" in t]
    assert areas[-1]["y"] == pytest.approx(line.bytes_by_category.sum(axis=0) / GIB)
    assert areas[-1]["y"].max() == pytest.approx(prediction.peak_bytes(64, 2) / GIB)
    for lower, upper in pairwise(areas):
        assert (upper["y"] >= lower["y"] - 1e-12).all()


def test_the_curves_are_the_peaks_and_the_star_is_the_choice(prediction) -> None:
    drawn = {t["name"]: t for t in picture(prediction).data}
    for name, k in (("K = 1", 1), ("K ≥ 2", 2)):
        expected = [prediction.peak_bytes(m, k) / GIB for m in (2, 8, 64)]
        assert drawn[name]["y"] == pytest.approx(expected)
    assert drawn["chosen"]["y"] == pytest.approx([prediction.peak_bytes(64, 2) / GIB])
    assert drawn["floor"]["y"] == pytest.approx([prediction.floor_bytes(2) / GIB] * 3)


def test_the_words_have_the_numbers(prediction) -> None:
    words = picture(prediction).summary
    assert f"the peak is {prediction.peak_bytes(64, 2) / GIB:.2f} GiB, in a backward pass" in words
    assert "in the optimizer" in picture(predict(mlp_workload(), Settings(), hopper=False), 2).summary


@pytest.mark.parametrize("card", ["T4", "1.2GiB"])
def test_the_plans_marks_are_its_options(card) -> None:
    found = plan(SMALL, card, 512)
    drawn = figure.plan_picture(found)
    fits, not_fits, limit, seconds = drawn.data
    for drawn_peaks, fit in ((fits, True), (not_fits, False)):
        peaks = [o.peak_bytes / GIB for o in found.options if o.fits is fit]
        assert sorted(drawn_peaks["y"][~np.isnan(drawn_peaks["y"])]) == pytest.approx(sorted(peaks))
    assert limit["y"] == pytest.approx([found.limit_bytes / GIB] * 2)
    assert sorted(seconds["y"]) == pytest.approx(sorted(o.seconds or 0 for o in found.options))
    assert found.verdict in drawn.summary


@pytest.mark.parametrize("card", explorers.CARDS)
def test_a_cards_line_is_dragged_where_it_is_drawn(card) -> None:
    control = explorers.PLAN_CONTROLS[0]
    _, height = control.places[control.values.index(card)]
    assert height == pytest.approx(plan(SMALL, card, 8).limit_bytes / GIB)
    low, high = figure.plan_picture(plan(SMALL, card, 8)).layout[control.axis]["range"]
    assert low < np.log10(height) < high


def test_everything_is_labelled_accepted_and_drawn_still(prediction) -> None:
    for each in (picture(prediction), figure.plan_picture(plan(SMALL, "T4", 512))):
        assert each.figure().layout.meta["summary"] == each.summary
        axes = [v for k, v in each.layout.items() if k.startswith(("xaxis", "yaxis"))]
        assert len(axes) == 4
        assert all(axis["title"]["text"] for axis in axes)
        assert png(each).startswith(b"\x89PNG")
    styles = [(t["mode"], t["marker"]["symbol"]) for t in picture(prediction).data if "fill" in t]
    assert len(set(styles)) == len(styles), "no two areas differ by colour alone"


def test_no_setting_of_the_explorers_fails(some_settings) -> None:
    for make in (explorers.memory_explorer, explorers.planner_explorer):
        explorer = make(lambda tokens: SMALL)
        explorer.fill()
        assert explorer.errors == []
        assert explorer.complete


@pytest.mark.parametrize(("make", "right"), [(questions.doubled_steps, 2), (questions.halved_micro_batch, 1)])
def test_the_questions_are_answered_by_the_lens(make, right) -> None:
    asked = make()
    asked.choice.value = right
    asked.button.click()
    assert asked.errors == []
    assert "As you predicted." in asked.reply.value


def test_the_verdict_follows_the_lens_and_not_the_script(monkeypatch) -> None:
    class Growing:
        def peak_bytes(self, m: int, k: int) -> int:
            return m * k * GIB

    monkeypatch.setattr(questions, "predict", lambda *_, **__: Growing())
    asked = questions.doubled_steps()
    asked.choice.value = 2
    asked.button.click()
    assert "It is: <b>doubles</b>" in asked.reply.value
