"""What a machine is said to be able to run."""

import os
import pathlib
import subprocess
import sys
from dataclasses import replace

import pytest

from accum_lib import machine
from accum_lib.machine import GIB, Machine, capabilities, report, this_machine
from accum_lib.problems.roberta import make_roberta

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAPTOP = Machine(2, 8 * GIB, 6 * GIB, None, None, "3.11", "2.13")


def answers(each: Machine) -> list[bool]:
    return [can for _, can, _ in capabilities(each)]


def test_what_fits_where() -> None:
    assert answers(LAPTOP) == [True, True, False]
    assert answers(replace(LAPTOP, memory_bytes=2 * GIB, free_bytes=GIB)) == [True, False, False]
    assert answers(replace(LAPTOP, memory_bytes=GIB, free_bytes=GIB)) == [False, False, False]
    assert answers(replace(LAPTOP, gpu="some card", gpu_bytes=16 * GIB)) == [True, True, True]


def test_a_control_groups_limit_counts_and_not_the_hosts_memory(tmp_path, monkeypatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{2 * GIB}\n")
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(limit),))
    assert this_machine().memory_bytes == 2 * GIB
    assert this_machine().free_bytes < 2 * GIB
    limit.write_text("max\n")
    assert this_machine().memory_bytes > 2 * GIB


def test_the_report_names_the_machine_and_answers_yes_or_no() -> None:
    first, *lines = report().splitlines()
    assert "PyTorch" in first
    assert "cores" in first
    assert len(lines) == 3
    assert all(line.startswith(("yes  ", "no   ")) for line in lines)


@pytest.mark.full_size
def test_the_size_of_roberta_base_is_what_it_reckons_with() -> None:
    model = make_roberta("base")
    assert sum(p.numel() for p in model.parameters()) == machine.ROBERTA_BASE_PARAMETERS


def test_a_copied_process_begins_with_what_is_heavy() -> None:
    """Else it would load all of that again, and nobody would notice but by the time it takes.

    Asked by a process of its own: in this one, another test's first copy may have decided what is loaded.
    """
    loaded = "import gc, sys; print('matplotlib' in sys.modules, gc.get_freeze_count() > 100_000)"
    asked = f"from processes import python; print(python('-c', {loaded!r}).stdout)"
    paths = os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.stdout == "True True\n\n"
