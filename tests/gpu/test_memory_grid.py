"""The script that compares a GPU with the prediction: run here on the CPU, as far as that goes."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from accum_lib.lenses.memory.measure import measure_apart

SCRIPT = pathlib.Path(__file__).with_name("memory_grid.py")
RESULT = SCRIPT.with_suffix(".json")  # committed once it has run on a GPU

spec = importlib.util.spec_from_file_location("memory_grid", SCRIPT)
grid = importlib.util.module_from_spec(spec)
sys.modules["memory_grid"] = grid
spec.loader.exec_module(grid)


def test_the_whole_script_on_a_cpu(tmp_path) -> None:
    out = tmp_path / "grid.json"
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["summary"]["cells"] == 4
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


def measured_here(cell, device) -> dict[str, int]:
    return {"requested": measure_apart(cell.workload(), 1, 1, cell.settings())}


class TooLow:
    """Of a prediction: a tenth too low."""

    def __init__(self, prediction) -> None:
        self.prediction = prediction

    def requested_bytes(self, m: int, k: int) -> int:
        return int(0.9 * self.prediction.requested_bytes(m, k))


def test_a_wrong_prediction_is_out_of_tolerance_and_signed(monkeypatch) -> None:
    monkeypatch.setattr(grid, "in_a_process_of_its_own", measured_here)
    cell = grid.cells(small=True)[0]
    prediction = grid.predict(cell.workload(), cell.settings(), grid.CPU())
    row = grid.compared(cell, TooLow(prediction), "cpu")
    assert row["error_requested"] == pytest.approx(-0.1, abs=0.01)
    assert not row["within"]


def test_a_cell_that_fails_is_reported_and_the_others_run(monkeypatch) -> None:
    first, second, *_ = grid.cells(small=True)

    def measured(cell, device):
        if cell is first:
            raise MemoryError("CUDA out of memory")
        return {"requested": 10**9}

    monkeypatch.setattr(grid, "in_a_process_of_its_own", measured)
    rows = list(grid.run([first, second], "cpu", seconds=100))
    assert rows[0]["failure"] == "MemoryError: CUDA out of memory"
    assert "error_requested" in rows[1]
    assert "out of memory" in grid.line(rows[0])
    (late,) = grid.run([first], "cpu", seconds=-1)
    assert late["failure"].startswith("not run")
    assert not late["within"]


def test_the_updates_that_a_gpu_would_make_run_on_a_cpu() -> None:
    """Two to warm up, then the one that counts; the optimizer's state is made in the first."""
    cell = grid.cells(small=True)[-1]
    assert list(grid.updates(cell, "cpu", grid.WARM_UP)) == [0, 1]


@pytest.mark.skipif(
    not RESULT.exists(), reason="HAS NOT RUN ON A GPU: no one has confirmed the prediction there"
)
def test_what_was_measured_on_a_gpu_is_what_is_predicted() -> None:
    found = json.loads(RESULT.read_text())
    assert {"device", "driver", "torch"} <= set(found["machine"])
    for row in found["cells"]:
        assert abs(row["error_requested"]) <= grid.REQUESTED_TOLERANCE, row
        assert abs(row["error_allocated"]) <= grid.ALLOCATED_TOLERANCE, row
