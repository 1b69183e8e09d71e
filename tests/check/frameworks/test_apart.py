"""Frameworks in environments of their own: the comparison on loops of ours, right and wrong, and theirs."""

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import measured
import numpy as np
import pytest
import torch

from accum_lib.__main__ import main
from accum_lib.check.frameworks.apart import board, environments
from accum_lib.check.frameworks.apart import compare as comparing
from accum_lib.check.frameworks.apart.cases import array_case, array_cases
from accum_lib.check.frameworks.apart.compare import compare
from accum_lib.check.frameworks.apart.environments import FRAMEWORKS, run_adapter

STORED = Path(__file__).resolve().parents[3] / "docs" / "frameworks.csv"
REPRODUCTIONS = STORED.parents[1] / "examples" / "upstream" / "apart"
# By design, or said in the documentation; mended since, or in the examples of the newest version.
NOT_REPORTED = {"fastai", "sentence_transformers", "skorch", "trainer", "trl"}
RAGGED = array_case("ragged, tail", 3, 8, ragged=True)
EVEN = array_case("even, tail", 3, 8, ragged=False)


def trained(case, weigh, carry=False, drop=False):
    """The updates of a loop whose micro-batches count as ``weigh(window)`` says."""
    parameters, updates, total, kept = case.start(), [], len(case.labels), []
    for epoch in range(case.epochs):
        for window in case.windows():
            short = len(window) < case.accumulation_steps
            if short and (drop or carry):
                kept = list(window) if carry else []
                continue
            weights = np.zeros(total)
            weights[list(window)] = weigh(case, window)
            weights[kept] += 1 / case.accumulation_steps
            kept = []
            parameters = parameters - case.rate * weights @ case.means(parameters)
            updates.append((epoch * total + window.stop, parameters.tolist()))
    return {"dtype": "float64", "updates": updates}


def shares(case, window):
    return case.counts[list(window)] / case.counts[list(window)].sum()


WRONG = {
    comparing.MEAN_OF_MEANS: dict(weigh=lambda case, w: 1 / len(w)),
    comparing.SUM_OF_MEANS: dict(weigh=lambda case, w: 1.0),
    comparing.TAIL_BY_K: dict(weigh=lambda case, w: 1 / case.accumulation_steps),
    f"3 {comparing.TIMES}": dict(weigh=lambda case, w: 3 * shares(case, w)),
    comparing.OTHER_WEIGHTS: dict(weigh=lambda case, w: np.arange(1.0, len(w) + 1)),
    comparing.CARRIED: dict(weigh=shares, carry=True),
    comparing.DROPPED: dict(weigh=shares, drop=True),
    comparing.NEVER_STEPS: dict(weigh=shares, drop=True),
}


def test_a_right_loop_is_exact() -> None:
    for case in array_cases():
        verdict = compare(case, trained(case, shares))
        assert verdict.exact
        assert verdict.error < 1e-12


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name) -> None:
    verdict = compare(RAGGED, trained(RAGGED, **WRONG[name]))
    assert name in verdict.wrong
    assert comparing.NO_SUM not in verdict.wrong


def test_a_step_by_something_else_than_gradients_is_no_sum_of_them() -> None:
    found = trained(RAGGED, shares)
    found["updates"][1][1][0] += 0.01
    assert comparing.NO_SUM in compare(RAGGED, found).wrong


def test_a_loop_without_an_update_is_not_exact() -> None:
    assert compare(EVEN, {"dtype": "float64", "updates": []}).wrong == (comparing.NO_UPDATE,)


def joint(case, whole):
    """The updates of a loop whose window is no sum of its micro-batches: each row's gradient counts twice."""
    found = {**trained(case, shares), "counts": case.counts.tolist(), "start": case.start().tolist()}
    before, updates, found["means"], found["big"] = case.start(), [], [], []
    for position, after in found["updates"]:
        step = before - np.array(after)
        found["means"].append(case.means(before).tolist())
        found["big"].append({w.stop: (2 * step / case.rate).tolist() for w in case.windows()})
        updates.append((position, (before - (2 if whole else 1) * step).tolist()))
        before = np.array(updates[-1][1])
    return {**found, "updates": updates}


def test_where_no_sum_is_right_the_big_batch_decides() -> None:
    one_window = array_case("ragged, one window", 4, 4, ragged=True)
    one_window = dataclasses.replace(one_window, epochs=1)
    assert compare(one_window, joint(one_window, whole=True)).exact
    verdict = compare(one_window, joint(one_window, whole=False))
    assert verdict.wrong == (comparing.NO_SUM,)
    assert verdict.factor == pytest.approx(0.5)


def test_a_model_of_an_adapters_own_comes_with_the_gradients_before_each_update(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(environments.ADAPTERS))
    own = importlib.import_module("own_model")
    rows = [[(1.0, 2.0), (3.0, 1.0)], [(-1.0, 4.0)], [(2.0, 2.0)]]

    def mean_loss(model, batch):
        x, y = (torch.tensor([row[i] for row in batch], dtype=torch.float64) for i in (0, 1))
        return ((model.weight[0, 0] * x - y) ** 2).mean()

    model, case = torch.nn.Linear(1, 1, bias=False), {"rate": 0.1, "accumulation_steps": 2}
    watched = own.Watched(case, model, rows, mean_loss, [2, 1, 1], joint=True)
    weight, watched.taken = model.weight.item(), 2
    model.weight.grad = torch.ones_like(model.weight)
    watched.optimizer.step()
    first, *others = ([2 * x * (weight * x - y) for x, y in batch] for batch in rows)
    (means,), (big,) = watched.found["means"], watched.found["big"]
    assert np.ravel(means) == pytest.approx([np.mean(first), *np.ravel(others)])
    assert big == {2: [pytest.approx(np.mean([*first, *others[0]]))], 3: pytest.approx(others[1])}
    assert big[2] != pytest.approx(np.mean(means[:2], axis=0))  # a mean of means is told from it
    assert watched.found["updates"] == [(2, [pytest.approx(weight - 0.1)])]


def test_an_average_of_every_micro_batch_is_told_from_one_of_every_update() -> None:
    found = {**trained(EVEN, shares), "momentum": 0.9}
    for turns, wrong in ((1, ()), (3, (comparing.AVERAGE,))):
        average = np.array(found["updates"][0][1])
        for _, after in found["updates"][1:]:
            for _ in range(turns):
                average = 0.9 * average + 0.1 * np.array(after)
        assert compare(EVEN, {**found, "average": average.tolist()}).wrong == wrong


def test_the_written_out_gradient_is_that_of_the_loss() -> None:
    def loss(parameters) -> float:
        logits = np.array(EVEN.inputs[0]) @ parameters[:60].reshape(15, 4) + parameters[60:]
        return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[range(4), EVEN.labels[0]]))

    start, nudge = EVEN.start(), np.eye(64)[5] * 1e-5
    slope = (loss(start + nudge) - loss(start - nudge)) / 2e-5
    assert abs(slope - EVEN.means(start)[0][5]) < 1e-9


ADAPTER = """
import json
from adapter import serve

def documented(case):
    if case["name"].startswith("even"):
        raise ValueError("no even data")
    return {"updates": json.load(open(__file__ + ".json"))}

serve(documented)
"""


def test_an_adapter_gets_the_case_and_its_answer_is_a_row(tmp_path) -> None:
    source = environments.ADAPTERS / "adapter.py"
    (tmp_path / "adapter.py").write_text(source.read_text())
    script = tmp_path / "with_fake.py"
    script.write_text(ADAPTER)
    Path(f"{script}.json").write_text(
        json.dumps(trained(RAGGED, WRONG[comparing.MEAN_OF_MEANS]["weigh"])["updates"])
    )
    answers = run_adapter(Path(sys.executable), script, [RAGGED, EVEN])
    rows = [board.row_of("fake", "1", c, a) for c, a in zip([RAGGED, EVEN], answers, strict=True)]
    assert comparing.MEAN_OF_MEANS in rows[0].wrong
    assert rows[1].reason == "ValueError: no even data"
    assert "not run: ValueError: no even data" in board.text(rows)
    assert "| fake 1 | 0 of 1 |" in board.summary(rows)
    exact = board.Row("fake", "1", "c", 1.0, 1e-9, "exact")
    for row, good in ((exact, 1), (dataclasses.replace(exact, reason="no remedy"), 0), (rows[0], 0)):
        assert board.summary([row]).endswith(f"| {good} of 1 |")  # what needs no remedy is right with none
    script.write_text("raise SystemExit('broken')")
    with pytest.raises(RuntimeError, match=r"with_fake\.py failed: broken"):
        run_adapter(Path(sys.executable), script, [RAGGED])


def test_what_can_not_be_installed_is_a_row_with_the_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(environments.FOLDER, str(tmp_path))
    monkeypatch.setattr(environments.shutil, "which", lambda *_, **__: None)
    (row,) = board.rows(FRAMEWORKS[0])
    assert row.reason == "environments of frameworks are made with uv: pip install uv"
    assert "not run" in board.text([row])


def test_all_environments_are_removed_and_nothing_else(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv(environments.FOLDER, str(tmp_path))
    for name in (*(each.folder.name for each in FRAMEWORKS), "optax-0.1", "mine-1"):
        (tmp_path / name).mkdir(exist_ok=True)
    assert main(["scoreboard", "--remove-environments"]) == 0
    assert " optax-0.1, optax-0.2.8, " in capsys.readouterr().out
    assert [each.name for each in tmp_path.iterdir()] == ["mine-1"]
    assert main(["scoreboard", "--remove-environments"]) == 0


def test_a_framework_that_is_not_in_the_table_is_named(capsys) -> None:
    with pytest.raises(ValueError, match="'nope' names none of optax, "):
        board.chosen("nope")
    assert [each.name for each in board.chosen("KERAS")] == ["Keras on torch"]
    assert {each.version for each in board.chosen("transformers")} == {"4.46.3", "4.57.6", "5.0.0"}


def test_every_reproduction_belongs_to_a_framework_and_has_a_text() -> None:
    names = {each.adapter[5:-3] for each in FRAMEWORKS}
    scripts, text = list(REPRODUCTIONS.glob("*.py")), (REPRODUCTIONS.parent / "README.md").read_text()
    assert {script.stem.split("_")[0] for script in scripts} == names - NOT_REPORTED
    assert all(f"`apart/{script.name}`" in text for script in scripts)


def stored(each=None) -> list[board.Row]:
    """The committed table, or what it says of one framework's version."""
    rows = board.read_csv(STORED)
    return [r for r in rows if each is None or (r.framework, r.version) == (each.name, each.version)]


def test_the_stored_table_has_every_framework_and_every_case() -> None:
    for each in FRAMEWORKS:
        assert len(stored(each)) >= 20 or stored(each)[0].reason
    assert all(
        a.requirements == b.requirements for a in FRAMEWORKS for b in FRAMEWORKS if a.folder == b.folder
    )
    assert len(stored()) == sum(len(stored(each)) for each in FRAMEWORKS)  # of no other version


def test_the_pages_are_what_their_tables_say(tmp_path) -> None:
    assert {page: page.read_text() for page in measured.pages()} == measured.pages()
    for name in ("frameworks.md", "frameworks.csv", "heads.md", "heads.csv"):
        (tmp_path / name).write_text((STORED.parent / name).read_text())
    table = tmp_path / "frameworks.csv"
    table.write_text(table.read_text().replace("PyTorch Ignite", "Another"))
    assert "Another" in measured.pages(tmp_path)[tmp_path / "frameworks.md"]
    (tmp_path / "heads.md").write_text("nothing")
    with pytest.raises(ValueError, match="the page has 0 places like"):
        measured.pages(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("each", FRAMEWORKS, ids=lambda each: f"{each.requirements[0]} {each.option}")
def test_in_its_environment_a_framework_does_what_the_stored_table_says(each, tmp_path) -> None:
    rows = list(board.rows(each))
    if rows[0].reason and "can't be installed" in rows[0].reason:
        pytest.skip(rows[0].reason)
    for script in REPRODUCTIONS.glob(f"{each.adapter[5:-3]}_*.py"):
        offline = {**os.environ, "YOLO_OFFLINE": "true"}
        done = subprocess.run(
            [each.python, script], capture_output=True, text=True, check=True, cwd=tmp_path, env=offline
        )
        ratios = [float(x) for x in re.findall(r": (-?[\d.]+)$", done.stdout, flags=re.MULTILINE)]
        assert max(abs(ratio - 1) for ratio in ratios) > 1e-3, done.stdout
    assert [(r.case, r.wrong, r.still_wrong) for r in rows] == [
        (r.case, r.wrong, r.still_wrong) for r in stored(each)
    ]
