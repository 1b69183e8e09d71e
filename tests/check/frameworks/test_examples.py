"""Each reproduction is short, uses the framework alone, and shows what the scoreboard sees."""

import csv
import json
import os
import pathlib
import re
from importlib.metadata import version

import pytest
from processes import python

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "examples"
SEEN, UPSTREAM = sorted(FOLDER.glob("*.py")), sorted((FOLDER / "upstream").glob("*.py"))
EXAMPLES = [*SEEN, *UPSTREAM]
APART = sorted((FOLDER / "upstream" / "apart").glob("*.py"))  # run by test_apart.py
by_name = pytest.mark.parametrize("path", [*EXAMPLES, *APART], ids=lambda p: p.stem)


def numbers(text: str) -> list[float]:
    """The numbers at the ends of its lines."""
    return [float(x) for x in re.findall(r": (-?[\d.]+(?:e-?\d+)?)$", text, flags=re.MULTILINE)]


def departs(path: pathlib.Path, text: str) -> bool:
    """Whether the script that printed this has shown something else than one big batch does."""
    found = numbers(text)
    assert found
    is_error = path.stem.endswith("mean_of_means")  # they print a relative error, the others ratios of norms
    return max(abs(x - (0 if is_error else 1)) for x in found) > 1e-3


def run(*command: str | pathlib.Path) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = python(*command, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """What each script prints."""
    program = pathlib.Path(__file__).with_name("run_examples.py")
    return json.loads(run(program, *EXAMPLES).splitlines()[-1])


@pytest.mark.parametrize(
    "path", [p if p.stem == "mean_of_means" else pytest.param(p, marks=pytest.mark.slow) for p in EXAMPLES]
)
def test_run_by_itself_it_shows_the_same(path, printed) -> None:
    alone = run(path)
    assert len(numbers(alone)) == len(numbers(printed[str(path)]))
    assert departs(path, alone) == departs(path, printed[str(path)])


@by_name
def test_it_is_short_and_needs_nothing_of_this_project(path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 25
    assert "accum_lib" not in text


@pytest.mark.parametrize("path", UPSTREAM, ids=lambda p: p.stem)
def test_what_is_reported_departs_while_the_stored_table_says_so(path, printed) -> None:
    head = {"trainer_t5_k_times": "T5ForConditionalGeneration",
            "trainer_qwen_vl_mean_of_means": "Qwen2_5_VLForConditionalGeneration"}[path.stem]  # fmt: skip
    table = (FOLDER.parent / "docs" / "heads.csv").read_text().splitlines()
    if f"transformers {version('transformers')}," not in table[0]:
        pytest.skip(f"the stored table is of {table[0]}")
    row = next(row for row in csv.DictReader(table[1:]) if row["head"] == head)
    assert departs(path, printed[str(path)]) == (row["diagnosis"] != "exact")


@pytest.mark.parametrize("path", SEEN, ids=lambda p: p.stem)
def test_it_shows_a_departure_from_one_big_batch_while_the_scoreboard_does(path, printed, rows) -> None:
    """Both look at the same installed version: if the framework is mended one day, both say so."""
    framework = {"trainer": "Transformers Trainer", "accelerate": "Accelerate", "mean": "Accelerate",
                 "lightning": "Lightning", "fabric": "Lightning Fabric"}[path.stem.split("_")[0]]  # fmt: skip
    head = {"trainer_roberta_k_times": "RobertaForSequenceClassification",
            "trainer_gpt2_denominator": "GPT2LMHeadModel"}.get(path.stem)  # fmt: skip
    seen = [r for r in rows if r.framework == framework and head in (None, r.head)]
    if not seen:
        pytest.skip(f"the scoreboard has no {head} with this Transformers")
    assert departs(path, printed[str(path)]) == any(not r.report.ok for r in seen)
