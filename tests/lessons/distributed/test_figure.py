"""The pictures of communication: they draw the records, label everything, and say the same in words."""

import numpy as np
import pytest

from accum_lib.lessons.distributed import figure, questions
from accum_lib.lessons.distributed.explorer import forecast_explorer, traffic_explorer
from accum_lib.lessons.distributed.measure import STEPS, Lab
from accum_lib.lessons.distributed.networks import predict_times
from accum_lib.lessons.distributed.record import Network, ProcessWork, Span, Traffic
from accum_lib.lessons.kit.still import png

SPANS = (
    Span("forward", 0.0, 0.01),
    Span("backward", 0.01, 0.03),
    Span("all-reduce", 0.02, 0.04, 1000),
    Span("forward", 0.05, 0.06),
)


def traffic(steps: int, every: bool) -> Traffic:
    sent = 1000 * (steps if every else 1)
    return Traffic(2, 4, steps, every, steps if every else 1, sent, 0.04 * steps, 0.02, 0.01, SPANS)


EVERYTHING = tuple(traffic(k, every) for k in STEPS for every in (False, True))
LAB = Lab(2, EVERYTHING, np.ones(1), np.ones(1), (), 0.0)
TRAFFIC = figure.traffic_picture(EVERYTHING[0], EVERYTHING)
FORECAST = predict_times(ProcessWork(1e6, 4, 0.01, 0.0), Network(1e-4, 1e8), 8, (1, 4, 64))
PICTURES = [TRAFFIC, figure.forecast_picture(FORECAST, "Made up.")]


def test_the_strokes_are_the_spans() -> None:
    reduce, backward, forward = TRAFFIC.data[:3]
    assert reduce["x"][:2] == pytest.approx([20, 40])
    assert backward["x"][:2] == pytest.approx([10, 30])
    assert forward["x"][[0, 1, 3, 4]] == pytest.approx([0, 10, 50, 60])
    assert np.isnan(forward["x"][2]), "the pen is lifted in between"
    rows = [round(float(each["y"][0])) for each in (reduce, backward, forward)]
    assert rows == [0, 1, 2], "rows, not colours, tell"


def test_the_curves_are_bytes_and_times_per_example() -> None:
    deferred, deferred_ms, every, _ = TRAFFIC.data[3:]
    assert deferred["y"] == pytest.approx([1.0 / 4 / k for k in STEPS])
    assert every["y"] == pytest.approx([1.0 / 4] * len(STEPS))
    assert deferred_ms["y"] == pytest.approx([40 / 8] * len(STEPS))


def test_the_forecast_is_drawn_and_called_a_prediction() -> None:
    picture = PICTURES[1]
    drawn = {t["name"]: t for t in picture.data if t.get("showlegend")}
    assert drawn["in the last pass"]["y"] == pytest.approx(FORECAST.deferred * 1e3)
    assert drawn["in every pass"]["y"] == pytest.approx(FORECAST.every * 1e3)
    assert drawn["no communication"]["y"] == pytest.approx(FORECAST.alone * 1e3)
    assert list(drawn["enough"]["x"]) == [FORECAST.enough]
    assert picture.summary.startswith("A prediction, not a measurement.")
    assert "PREDICTION" in picture.layout["annotations"][0]["text"]


@pytest.mark.parametrize("picture", PICTURES)
def test_everything_is_labelled_and_differs_not_by_colour_alone(picture) -> None:
    axes = [v for k, v in picture.layout.items() if k.startswith(("xaxis", "yaxis"))]
    assert all(axis["title"]["text"] for axis in axes)
    for panel in {t["xaxis"] for t in picture.data}:
        lines = [t for t in picture.data if t["xaxis"] == panel and t["name"]]
        styles = {(t["mode"], t["line"]["dash"], t.get("marker", {}).get("symbol")) for t in lines}
        assert len(styles) == len(lines)
    assert len(picture.figure().data) == len(picture.data)
    assert len(png(picture)) > 10_000


def test_explorers_compute_every_setting() -> None:
    for explorer in (traffic_explorer(LAB), forecast_explorer()):
        explorer.fill()
        assert explorer.errors == []
        assert explorer.complete


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        (questions.bytes_in_the_last_pass(LAB), 0),
        (questions.bytes_in_every_pass(LAB), 2),
        (questions.fixed_batch(LAB), 1),
    ],
)
def test_questions_are_answered_from_the_measurement(prediction, right) -> None:
    prediction.choice.value = right
    prediction.button.click()
    assert prediction.errors == []
    assert "As you predicted." in prediction.reply.value
