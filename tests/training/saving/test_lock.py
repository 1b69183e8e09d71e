"""An output folder belongs to one run at a time, and to none once its process is gone."""

import os
import re
import subprocess
import sys

import pytest
from filelock import FileLock

from accum_lib.training.saving.lock import FolderInUseError, only_run_in

HOLD = """
import sys
from accum_lib.training.saving.lock import only_run_in
with only_run_in(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder until its input ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "a")], stdin=pipe, stdout=pipe) as made:
        assert made.stdout.readline() == b"held\n"
        yield made
        made.kill()


def test_a_second_run_is_refused_and_told_what_to_do(holder, tmp_path) -> None:
    message = f"writing to {re.escape(str(tmp_path / 'a'))}: wait until it has ended, or choose another"
    with pytest.raises(FolderInUseError, match=message), only_run_in(tmp_path / "a"):
        pass
    with only_run_in(tmp_path / "b"):
        pass


def test_a_killed_run_leaves_the_folder_free(holder, tmp_path) -> None:
    holder.kill()
    holder.wait()
    with only_run_in(tmp_path / "a"):
        pass


def test_a_run_that_ends_or_fails_gives_the_folder_back(tmp_path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), only_run_in(tmp_path / "new" / "folder"):
            raise ZeroDivisionError


def test_a_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/run cannot be made"), only_run_in(tmp_path / "file" / "run"):
        pass


@pytest.mark.parametrize("error", [OSError("no locks available"), NotImplementedError])
def test_on_a_drive_without_locks_it_goes_without(tmp_path, monkeypatch, error) -> None:
    def refuse(*_) -> None:
        raise error

    monkeypatch.setattr(FileLock, "_acquire", refuse)
    with only_run_in(tmp_path), only_run_in(tmp_path):
        pass


@pytest.mark.parametrize("name", ["log.jsonl", "run.lock", "model", "checkpoints", "model-unfinished"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "second name"])
def test_what_leads_elsewhere_is_refused_before_anything_is_written(tmp_path, name, kind) -> None:
    """A log that is a link would be appended to its target, and a pipe would wait for ever."""
    run, mine = tmp_path / "run", tmp_path / "mine.txt"
    run.mkdir()
    mine.write_text("mine")
    make = {
        "link": lambda: (run / name).symlink_to(mine),
        "dangling link": lambda: (run / name).symlink_to(tmp_path / "new.txt"),
        "pipe": lambda: os.mkfifo(run / name),
        "second name": lambda: os.link(mine, run / name),
    }
    make[kind]()
    with pytest.raises(ValueError, match=f"{name} is a link, a pipe or a device"), only_run_in(run):
        pass
    assert mine.read_text() == "mine"
    assert [path.name for path in run.iterdir()] == [name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "run"]


def test_a_link_to_the_output_folder_itself_is_the_readers_own_choice(tmp_path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with only_run_in(tmp_path / "run"):
        assert (tmp_path / "disk" / "run.lock").exists()


def test_a_folder_that_is_made_is_its_owners_alone(tmp_path) -> None:
    with only_run_in(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run").stat().st_mode & 0o777 == 0o700


def test_a_link_that_is_put_there_later_is_not_followed(tmp_path) -> None:
    from accum_lib.training.logs import Reporter

    (tmp_path / "mine.txt").write_text("mine\nhalf a line")
    (tmp_path / "log.jsonl").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(OSError, match="cannot be written"):
        Reporter(tmp_path, 1)
    assert (tmp_path / "mine.txt").read_text() == "mine\nhalf a line"
