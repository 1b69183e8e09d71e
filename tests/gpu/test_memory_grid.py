"""The script that compares a GPU with the prediction: run here on the CPU, as far as that goes."""

import json
import pathlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import memory_grid as grid
import pytest
import torch
from processes import python

from accum_lib.lessons.memory import explorer as memory
from accum_lib.lessons.memory.measure import measure_apart
from accum_lib.memory.cuda import CUDA, sum_buffer_bytes
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace.update import trace_update

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "gpu" / "memory_grid.py"
RESULT = memory.GRID  # of a GPU


def test_the_script_measures_one_cell(tmp_path) -> None:
    first = grid.cells(small=True)[0].words()
    check_what_the_script_finds(tmp_path / "grid.json", "--only", first, cells=1)


@pytest.mark.slow
def test_the_whole_script_on_a_cpu(tmp_path) -> None:
    check_what_the_script_finds(tmp_path / "grid.json", cells=4)


def check_what_the_script_finds(out: pathlib.Path, *more: str, cells: int) -> None:
    done = python(SCRIPT, "--device", "cpu", "--small", "--out", out, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["summary"]["cells"] == len(found["cells"]) == cells
    assert found["summary"]["failures"] == 0
    assert found["summary"]["worst_error"]["requested"] < 0.01
    assert {"device", "python", "torch", "transformers"} <= set(found["machine"])
    for row in found["cells"]:
        error = row["predicted_requested"] / row["measured_requested"] - 1
        assert row["error_requested"] == pytest.approx(error, abs=1e-6)


def test_the_grid_for_a_gpu_is_the_one_that_is_wanted() -> None:
    cells = grid.cells(small=False)
    values = [{getattr(c, name) for c in cells} for name in grid.Cell.__dataclass_fields__]
    assert values[0] == {"roberta-base", "roberta-large"}
    assert values[1:3] == [{"fp32", "bf16"}, {128, 512}]
    assert {min(values[3]), max(values[3])} == {1, 64}
    assert values[4] == {1, 2, 8}


def measured_here(cell, device, snapshots) -> dict[str, int]:
    return {"requested": measure_apart(cell.workload(), 1, 1, cell.settings())}


def test_a_wrong_prediction_is_out_of_tolerance_and_signed(monkeypatch) -> None:
    monkeypatch.setattr(grid, "in_a_process_of_its_own", measured_here)
    cell = grid.cells(small=True)[0]
    prediction = grid.predict(cell.workload(), cell.settings(), grid.CPU())
    predicted = grid.expected(prediction, cell, "cpu")
    assert grid.compared(cell, predicted, "cpu")["within"]
    row = grid.compared(cell, {"requested": int(0.9 * predicted["requested"])}, "cpu")
    assert row["error_requested"] == pytest.approx(-0.1, abs=0.01)
    assert not row["within"]


def test_a_cell_that_fails_is_reported_and_the_others_run(monkeypatch) -> None:
    first, second, *_ = grid.cells(small=True)

    def measured(cell, device, snapshots):
        if cell is first:
            raise MemoryError("CUDA out of memory")
        return {"requested": 10**9}

    monkeypatch.setattr(grid, "in_a_process_of_its_own", measured)
    rows = dict(grid.run([first, second], "cpu", seconds=100))
    assert rows[first]["failure"] == "MemoryError: CUDA out of memory"
    assert "error_requested" in rows[second]
    assert "out of memory" in grid.line(rows[first])
    ((_, late),) = grid.run([first], "cpu", seconds=-1)
    assert late["failure"].startswith("not run")
    assert not late["within"]


def test_no_more_run_at_once_than_fit() -> None:
    """Four that need 3, 3, 4 and 20 of 6: the last is let in alone."""
    room, held, most, lock = grid.Room(6), [], [], threading.Lock()

    def stay(needed: int) -> None:
        with room.for_bytes(needed):
            with lock:
                held.append(min(needed, 6))
                most.append(sum(held))
            time.sleep(0.02)
            with lock:
                held.remove(min(needed, 6))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(stay, [3, 3, 4, 20] * 5))
    assert max(most) == 6
    assert not held


def test_the_updates_that_a_gpu_would_make_run_on_a_cpu() -> None:
    """Two to warm up, then the one that counts; the optimizer's state is made in the first."""
    cell = grid.cells(small=True)[-1]
    assert list(grid.updates(cell, "cpu", grid.WARM_UP)) == [0, 1]


# --- What a GPU measured, and what is predicted of it now


@pytest.fixture(scope="module")
def measured() -> dict:
    return json.loads(RESULT.read_text())


def cell_of(row: dict) -> grid.Cell:
    return grid.Cell(**{field.name: row[field.name] for field in fields(grid.Cell)})


def hopper(cell: grid.Cell) -> CUDA:
    return CUDA(cell.attention)


MADE: dict[tuple, grid.Prediction] = {}  # by the rules as they are, for all tests


def predicted_anew(rows: list[dict], device_of=None) -> Iterator[tuple]:
    """Each row with its cell and a prediction for a Hopper card; cells of one trace share it.

    For a device that is named everything is traced anew.
    """
    made = MADE if device_of is None else {}
    for row in rows:
        cell = cell_of(row)
        how = cell.model, cell.precision, cell.tokens
        if how not in made:
            made[how] = grid.predict(cell.workload(), cell.settings(), (device_of or hopper)(cell))
        yield row, cell, made[how]


def off(rows: list[dict], **more) -> list[float]:
    """The relative error of each row's requested bytes."""
    return [
        now.requested_bytes(cell.micro_batch_size, cell.accumulation_steps) / row["measured_requested"] - 1
        for row, cell, now in predicted_anew(rows, **more)
    ]


def test_the_whole_grid_has_been_measured(measured) -> None:
    assert {"device", "driver", "torch"} <= set(measured["machine"])
    assert [cell_of(row) for row in measured["cells"]] == grid.cells(small=False)
    for row in measured["cells"]:
        for name, tolerance in grid.TOLERANCES.items():
            assert abs(row[f"error_{name}"]) <= tolerance, row


@pytest.mark.parametrize("model", ["roberta-base", pytest.param("roberta-large", marks=pytest.mark.slow)])
def test_what_a_gpu_measured_is_predicted_to_the_byte(measured, model) -> None:
    assert off([row for row in measured["cells"] if row["model"] == model]) == [0] * 48


@pytest.mark.parametrize("model", ["roberta-base", pytest.param("roberta-large", marks=pytest.mark.slow)])
def test_what_is_allocated_and_reserved_is_predicted_as_it_was(measured, model) -> None:
    """A replay takes a while, so one cell in five."""
    for row, cell, made in predicted_anew([r for r in measured["cells"][::5] if r["model"] == model]):
        now = grid.expected(made, cell, "cuda")
        assert now == {name: row[f"predicted_{name}"] for name in now}
        assert now["reserved"] == pytest.approx(row["measured_reserved"], rel=0.05)


def one_workspace(cell: grid.Cell) -> CUDA:
    device = CUDA(cell.attention)
    device.workspaces = device.workspaces[:1]
    return device


def test_a_prediction_without_one_of_the_rules_is_noticed(measured, monkeypatch) -> None:
    base = [r for r in measured["cells"] if (r["model"], r["precision"]) == ("roberta-base", "fp32")]
    assert min(off(base, device_of=one_workspace)) < -0.01, "the backward pass has a workspace of its own"
    monkeypatch.delitem(CUDA.hidden, torch.ops.aten.sum.dim_IntList)
    assert -0.01 < min(off(base, device_of=hopper)) < -0.005, "the gradient of a bias takes a buffer"


def test_the_buffer_of_a_sum_over_rows_by_hand() -> None:
    """RoBERTa-base, 2,048 tokens: 32 blocks, each with 128 columns' sums of 128 threads."""
    assert sum_buffer_bytes(768, 4, 2048) == 12_582_912 + 24
    assert sum_buffer_bytes(3072, 4, 2048) == 50_331_648 + 96
    assert sum_buffer_bytes(768, 4, 8192) == 50_331_648 + 24
    assert sum_buffer_bytes(3072, 4, 32_768) == 138_412_032 + 96, "as many blocks as the card can hold"
    assert sum_buffer_bytes(768, 4, 512) == 0, "too few rows to share"
    assert sum_buffer_bytes(10, 4, 8192) == 0, "few columns: one block has time for all rows"


@pytest.mark.parametrize("m", [3, 8, 40, 200])
def test_scratch_that_is_no_straight_line_is_predicted_for_every_m(m) -> None:
    """Against a trace of this very M."""
    for how in (Settings(), Settings(precision="bf16")):
        workload = grid.named("roberta-base", "classification", 64, **grid.SMALL)
        found = grid.predict(workload, how, CUDA())
        tape = trace_update(workload, m, 2, how, CUDA())
        for storage, scratch in tape.scratch:
            assert found.lines.nbytes(m)[storage] == scratch.nbytes(scratch.number)
        assert any(scratch.nbytes(scratch.number) for _, scratch in tape.scratch) == (m >= 40)
        assert found.lines.nbytes(m) == pytest.approx(tape.nbytes)


def test_the_notebook_shows_the_grid(capsys) -> None:
    memory.show_memory_grid()
    shown = capsys.readouterr().out
    assert "NVIDIA H200" in shown
    assert "Requested bytes: 96 predicted to the byte" in shown
