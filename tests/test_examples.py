"""Each reproduction is short, uses the framework alone, and shows what the scoreboard sees."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from accum_lib.check.frameworks.scoreboard import scoreboard

EXAMPLES = sorted((pathlib.Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
by_name = pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)


def numbers(path: pathlib.Path) -> list[float]:
    """The numbers that the script prints at the ends of its lines."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, env=environment, check=True)
    return [float(x) for x in re.findall(r": (-?[\d.]+(?:e-?\d+)?)$", done.stdout, flags=re.MULTILINE)]


@by_name
def test_it_is_short_and_needs_nothing_of_this_project(path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 25
    assert "accum_lib" not in text


@by_name
def test_it_shows_a_departure_from_one_big_batch_while_the_scoreboard_does(path) -> None:
    """Both look at the same installed version: if the framework is mended one day, both say so."""
    framework = {"trainer": "Transformers Trainer", "accelerate": "Accelerate", "mean": "Accelerate",
                 "lightning": "Lightning", "fabric": "Lightning Fabric"}[path.stem.split("_")[0]]  # fmt: skip
    head = {"trainer_roberta_k_times": "RobertaForSequenceClassification",
            "trainer_gpt2_denominator": "GPT2LMHeadModel"}.get(path.stem)  # fmt: skip
    found = numbers(path)
    assert found
    is_error = path.stem == "mean_of_means"  # it prints a relative error, the others ratios of norms
    departs = max(abs(x - (0 if is_error else 1)) for x in found) > 1e-3
    seen = [r for r in board() if r.framework == framework and head in (None, r.head)]
    assert departs == any(not r.report.ok for r in seen)


BOARD: list = []


def board() -> list:
    if not BOARD:
        BOARD.extend(scoreboard())
    return BOARD
