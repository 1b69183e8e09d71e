"""A run that is killed, wherever it is, is resumed and ends with the same bits as one left in peace."""

import json
import os
import pathlib

import pytest
from processes import python

PROGRAM = pathlib.Path(__file__).with_name("kill_runs.py")
ROOT = PROGRAM.parents[2]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork are POSIX")


def kills(number: int | str, *flags: str) -> dict:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = python(PROGRAM, str(number), *flags, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def at_places() -> dict:
    return kills("places")


def test_kills_at_places_leave_no_trace(at_places) -> None:
    assert at_places["failed"] == 0
    assert at_places["same"] == at_places["killed"] == len(at_places["at"]) == 7


def test_these_places_are_before_during_and_after_a_save(at_places) -> None:
    found = dict(zip(at_places["at"], at_places["from"], strict=True))
    assert found.pop("prune") == 4, "renamed already"
    assert found.pop("window") == 3, "in the fourth window, with its gradient computed"
    assert set(found.values()) == {3}
    assert len(found) == at_places["amid_a_save"] == 5


@pytest.mark.slow
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
