"""Fifty kills at random moments: each run is resumed and ends with the same bits as one left in peace."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).with_name("kill_runs.py")
ROOT = PROGRAM.parents[2]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork are POSIX")


def kills(number: int, *flags: str) -> dict:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(number), *flags],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_fifty_kills_leave_no_trace() -> None:
    report = kills(50)
    assert report["failed"] == 0
    assert report["same"] == 50
    # The kills did hit: nearly all came in time, at many places, and some in the middle of a save.
    assert report["killed"] >= 40
    assert len(set(report["from"])) >= 6
    assert report["amid_a_save"] >= 1


def test_a_resumption_that_forgets_the_random_state_is_seen() -> None:
    report = kills(6, "--forgetful")
    assert report["failed"] == 0
    assert report["same"] < 3
