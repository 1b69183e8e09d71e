"""One run at a time in an output folder: two would mix their logs and checkpoints, and both report success.

The system holds the lock, not the file's being there: a process that is killed leaves nothing to clean up.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"


class FolderInUseError(ValueError):
    """Another run is writing to the output folder."""


@contextmanager
def only_run_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the folder, which is made if need be, for as long as the block runs.

    Where the system or the disk has no such locks (Windows, some network drives), it goes without one.

    Raises:
        FolderInUseError: another process holds it, or this one already does.
        OSError: the folder cannot be made or written to.
    """
    path = Path(folder)
    make_folder(path)
    with (path / LOCK).open("ab") as file:  # closing it gives the lock back; the file stays
        _lock(file.fileno(), path)
        yield


def make_folder(path: Path) -> None:
    """The output folder, with those above it, if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the output folder {path} cannot be made ({error.strerror}): choose another one"
        ) from error


def _lock(descriptor: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderInUseError(
            f"another run is writing to {folder}: wait until it has ended, or choose another --output folder"
        ) from error
    except OSError:  # a drive without locks
        return
