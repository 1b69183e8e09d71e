"""One process fails in the middle of a window: all end, soon, and the words say why."""

import time

import distributed_jobs as jobs
import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from accum_lib.distributed import launch

PATIENCE = 60  # seconds, a bound for a busy machine; a hang would last until the group's timeout, 300 s


def run(how: str, folder, timeout: float = 300) -> tuple[str, float]:
    """The launcher's words, and the seconds that it took."""
    started = time.monotonic()
    with pytest.raises(ChildFailedError) as caught:
        launch(jobs.failing, 2, how, timeout, str(folder))
    return str(caught.value), time.monotonic() - started


def test_an_exception_ends_all_and_is_named(tmp_path) -> None:
    words, seconds = run("exception", tmp_path)
    assert "no such column" in words
    assert seconds < PATIENCE
    assert "gradients kept: True" in (tmp_path / "1").read_text()
    other = tmp_path / "0"  # the launcher may end it before it has written anything
    assert not other.exists() or "Another process of the group has failed" in other.read_text()


def test_a_killed_process_ends_the_others(tmp_path) -> None:
    words, seconds = run("killed", tmp_path)
    assert "SIGKILL" in words
    assert "rank      : 1" in words
    assert seconds < PATIENCE
    assert not (tmp_path / "1").exists()


def test_a_nan_is_found_by_all_at_the_same_place(tmp_path) -> None:
    words, seconds = run("nan", tmp_path)
    assert "ValueError" in words or "NonFiniteElsewhereError" in words  # whichever process ended first
    assert seconds < PATIENCE
    mine, other = ((tmp_path / str(rank)).read_text() for rank in (1, 0))
    assert "the loss of micro-batch 1 is nan" in mine
    assert "another process's micro-batch" in other
    assert "gradients kept: True" in mine
    assert "gradients kept: True" in other


def test_a_process_that_hangs_is_given_up_after_the_timeout(tmp_path) -> None:
    """Process 1 sleeps for two minutes; process 0 gives up after 5 s, and the launcher ends process 1."""
    words, seconds = run("hangs", tmp_path, timeout=5)
    assert "rank      : 0" in words
    assert "Another process of the group has failed, or did not answer within the timeout" in words
    assert seconds < PATIENCE
    assert not (tmp_path / "1").exists()
