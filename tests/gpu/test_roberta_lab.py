"""The script for RoBERTa on a GPU: run on the CPU as far as that goes, and shown to notice what is wrong."""

import json
import subprocess
import sys

import pytest
import roberta_lab as lab
import torch
from processes import python

from accum_lib.lessons.kit.still import png
from accum_lib.lessons.memory import explorer as memory
from accum_lib.lessons.roberta import gpu_results
from accum_lib.lessons.roberta.figure import throughput_picture as picture

SMALL = lab.settings(small=True)[-1]


QUICK = ["equality", "recovery", "noise", "big batch", "speed"]  # beside them are processes and training


def made_by_the_script(out, *more: str) -> dict:
    command = [lab.__file__, "--device", "cpu", "--small", "--out", str(out), *more]
    if more:
        done = python(*command)
    else:  # the whole script starts processes, which must find it as their main module
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 1, "running out of memory needs a GPU, and that is said\n" + done.stderr
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> dict:
    return made_by_the_script(tmp_path_factory.mktemp("lab") / "results.json", "--only", *QUICK)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    return made_by_the_script(tmp_path_factory.mktemp("lab") / "results.json")


@pytest.fixture(params=["quick", pytest.param("whole", marks=pytest.mark.slow)])
def record(request) -> dict:
    return request.getfixturevalue(request.param)


def test_the_quick_parts_of_the_script(quick) -> None:
    assert set(quick["parts"]) == set(QUICK)
    check_quick_parts(quick)


def check_quick_parts(record) -> None:
    parts = record["parts"]
    assert {"device", "torch", "python"} <= set(record["machine"])
    assert parts["equality"][0]["relative_error"] < 1e-5
    assert "takes a GPU" in parts["recovery"][0]["failure"]
    assert [row["loop"] for row in parts["speed"]] == 2 * list(lab.LOOPS)
    assert all(row["samples_per_second"] > 0 for row in parts["speed"])
    assert parts["big batch"][0]["sequences"] == 32
    assert parts["noise"][0]["exact"] > 0
    assert [name for name, rows in parts.items() for r in rows if "failure" in r] == ["recovery"]


@pytest.mark.slow
def test_the_whole_script_on_a_cpu(whole) -> None:
    check_quick_parts(whole)
    parts = whole["parts"]
    assert [(row["kind"], row["every_micro_batch"], row["world_size"]) for row in parts["processes"]] == [
        ("ddp", False, 2), ("ddp", True, 2), ("fsdp2", False, 2), ("fsdp2", True, 2)
    ]  # fmt: skip
    assert all(max(row["relative_error"], row["norm_error"]) < 1e-12 for row in parts["processes"])
    assert [row["command"].split()[-1] for row in parts["training"]] == ["bf16", "fp16"]
    assert parts["training"][0]["resumed_relative_difference"] == 0


def test_a_mean_in_place_of_a_sum_is_noticed(monkeypatch) -> None:
    """The comparison can fail: this makes the accumulated gradient K times too large."""
    assert lab.equality(SMALL, "cpu")["relative_error"] < 1e-5
    monkeypatch.setattr(lab, "classify", lab.own_mean)
    assert lab.equality(SMALL, "cpu")["relative_error"] > 0.5


def test_a_loop_that_leaves_updates_out_is_noticed() -> None:
    def lazy(model, data, setting, device, tick) -> None:
        tick()

    with pytest.raises(RuntimeError, match="1 updates were made where 8 were asked for"):
        lab.turn(lazy, SMALL, "cpu")


def test_a_command_that_takes_too_long_is_ended_and_says_how_far_it_came(tmp_path) -> None:
    (tmp_path / lab.LOG).write_text('{"event": "update", "update": 3}\n')
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(RuntimeError, match=r"not done in 0 s; its log says last: .*'update': 3"):
        lab.completed(sleep, tmp_path, seconds=0.1)
    with pytest.raises(RuntimeError, match="not done in 0 s; its log says last: nothing yet"):
        lab.completed(sleep, tmp_path / "elsewhere", seconds=0.1)


def test_a_plan_that_does_not_fit_after_all_is_halved_and_that_is_shown(monkeypatch, capsys) -> None:
    """The same tokens, each counted once; the loss is near, since dropout draws otherwise for another M."""
    first, guess = lab.big_batch("cpu", True), lab.guess

    def too_small_a_card(model, batch):
        if len(batch["labels"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return guess(model, batch)

    monkeypatch.setattr(lab, "guess", too_small_a_card)
    halved = lab.big_batch("cpu", True)
    assert (first["planned_micro_batch_size"], first["micro_batch_size"], first["halved_to"]) == (4, 4, [])
    assert (halved["micro_batch_size"], halved["accumulation_steps"], halved["halved_to"]) == (2, 16, [2])
    assert halved["hidden_tokens"] == first["hidden_tokens"]
    assert halved["loss"] == pytest.approx(first["loss"], rel=5e-3)
    machine = {"device": "a small card", "torch": "2"}
    for row in (first, halved):
        gpu_results.show({"date": "today", "machine": machine, "parts": {"big batch": [row]}})
    assert capsys.readouterr().out.count("M = 4 ran out of memory, and was halved to 2.") == 1


def test_ratios_are_taken_within_each_round() -> None:
    """A machine that is three times as slow in one round says nothing about the loops."""
    ours = [{"seconds": s, "peak_bytes": 0} for s in (1.0, 3.0, 1.0)]
    theirs = [{"seconds": 2 * each["seconds"], "peak_bytes": 0} for each in ours]
    found = lab.row(SMALL, "Accelerate", theirs, ours)
    assert (found["speed_against_ours"], found["quartiles"], found["rounds"]) == (0.5, [0.5, 0.5], 3)


def test_a_failure_is_a_row_and_does_not_end_the_rest(monkeypatch) -> None:
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(lab, "equality", fail)
    monkeypatch.setattr(lab, "speed", fail)
    rows = list(lab.run("cpu", True, 100, ["equality", "recovery", "big batch", "speed"]))
    assert [name for name, _ in rows] == ["equality", "recovery", "big batch", "speed", "speed"]
    assert rows[0][1]["failure"] == "OutOfMemoryError: CUDA out of memory"
    assert "failure" not in rows[2][1]


def test_parts_that_are_run_anew_replace_their_own_and_no_others(record) -> None:
    kept = lab.kept({"machine": record["machine"]}, record, ["speed", "noise"])
    assert set(kept) == set(record["parts"]) - {"speed", "noise"}
    with pytest.raises(ValueError, match="name another --out"):
        lab.kept({"machine": {**record["machine"], "torch": "1.0"}}, record, ["speed"])


def spread(values) -> tuple[float, float, int]:
    found = list(values)
    return round(min(found), 2), round(max(found), 2), len(found)


def test_what_was_measured_on_a_gpu_is_shown_with_what_failed(capsys) -> None:
    """What the text of notebook 06 and the README says of it."""
    found = json.loads(gpu_results.COMMITTED.read_text())
    parts = found["parts"]
    assert max(row["relative_error"] for row in parts["equality"]) < 2e-6
    assert parts["recovery"][0]["halved_to"] == [32, 16]
    assert parts["recovery"][0]["relative_error"] < 1e-6
    assert max(row["relative_error"] for row in parts["processes"]) < 1e-12
    assert parts["noise"][0]["low"] < parts["noise"][0]["exact"]
    big = parts["big batch"][0]
    assert (big["micro_batch_size"], big["accumulation_steps"], big["halved_to"]) == (200, 41, [])
    assert big["peak_bytes"] / big["predicted_peak_bytes"] == pytest.approx(0.990, abs=5e-4)
    assert (round(big["seconds"], 1), round(big["predicted_seconds"], 1)) == (18.9, 8.6)
    trained = parts["training"][0]
    assert trained["resumed_relative_difference"] == 0
    assert trained["peak_gib"] / trained["predicted_gib"] == pytest.approx(1.024, abs=5e-4)
    assert parts["noise"][0]["seconds_over_plain"] == {"every_1": 1.2032, "every_4": 1.0301}
    speeds: dict[tuple, dict[str, dict]] = {}
    for row in parts["speed"]:
        setting = tuple(row[name] for name in ("model", "precision", "micro_batch_size"))
        speeds.setdefault(setting, {})[row["loop"]] = row
    loops = [tuple(each[name] for name in lab.LOOPS) for each in speeds.values()]
    assert spread(1 / hf["speed_against_ours"] for _, _, hf, _ in loops) == (1.04, 1.22, 9)
    assert spread(1 / other["speed_against_ours"] for *_, other in loops) == (0.99, 1.21, 9)
    name = "samples_per_second"
    assert spread(train[name] / hf[name] for _, train, hf, _ in loops) == (1.03, 1.23, 9)
    large, small = (speeds["roberta-base", "bf16", m] for m in (64, 4))
    assert spread(large[loop][name] / small[loop][name] for loop in lab.LOOPS) == (10.86, 12.42, 4)
    gpu_results.show(found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Measured on 2026-11-26: NVIDIA H200" in shown
    assert "18.9 s (by the data sheet 8.6 s), a peak of 87.40 GiB, predicted were 88.27." in shown
    assert "resumed, it ends with parameters that differ by 0.0e+00." in shown


def test_what_the_time_did_not_suffice_for_is_said() -> None:
    assert {row["failure"] for _, row in lab.run("cpu", True, -1)} == {"not run: the time was up"}


def test_the_notebook_shows_results_with_their_machine_and_date(
    record, monkeypatch, tmp_path, capsys
) -> None:
    monkeypatch.setattr(gpu_results, "COMMITTED", tmp_path / "results.json")
    monkeypatch.setattr(memory, "OWN", tmp_path / "own")
    gpu_results.show_gpu_results()
    assert "this has not run on a GPU yet" in capsys.readouterr().out
    (tmp_path / "results.json").write_text(json.dumps(record))
    gpu_results.show_gpu_results()
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Measured on {record['date']}: {record['machine']['device']}" in shown
    assert "the gradient of 4 micro-batches differs from that of one big batch by" in shown
    assert "big batch: 32 sequences of 16 tokens, fp32, M = 4, K = 8:" in shown
    if "processes" in record["parts"]:
        assert "processes: ddp over gloo, world_size = 2, averaging in the last pass" in shown
        assert "the loss went from" in shown
    assert "most samples per second: " in shown
    drawn = picture(record["parts"]["speed"])
    assert set(lab.LOOPS) <= {line.get("name") for line in drawn.data}
    assert png(drawn).startswith(b"\x89PNG")
    fifth = {**record["parts"]["speed"][0], "loop": "one more"}
    with pytest.raises(ValueError, match="5 loops are too many for one picture, which has 4 looks"):
        picture([*record["parts"]["speed"], fifth])


def test_the_readers_own_results_go_before_the_committed_ones(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(memory, "OWN", tmp_path)
    for committed, show in (
        (gpu_results.COMMITTED, gpu_results.show_gpu_results),
        (memory.GRID, memory.show_memory_grid),
    ):
        own = json.loads(committed.read_text())
        own["machine"]["device"] = "a card of the reader's"
        (tmp_path / committed.name).write_text(json.dumps(own))
        show()
        assert "a card of the reader's" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", '{"date": "", "machine": 3, "cells": 5, "parts": 7}'])
def test_results_of_another_shape_end_in_a_sentence(text, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(memory, "OWN", tmp_path)
    for committed, show in (
        (gpu_results.COMMITTED, gpu_results.show_gpu_results),
        (memory.GRID, memory.show_memory_grid),
    ):
        (tmp_path / committed.name).write_text(text)
        show()
        said = " ".join(capsys.readouterr().out.split())
        assert said.startswith(f"{committed.name} does not have the shape of a GPU's results (")
