"""One run at a time in an output folder: two would mix their logs and checkpoints, and both report success.

The OS holds the lock; the file's existence means nothing, so a killed process leaves nothing to clean up.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "run.lock"


class FolderInUseError(ValueError):
    """Another run is writing to the output folder."""


@contextmanager
def only_run_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the folder, which is made if need be, for as long as the block runs.

    Where the disk has no such locks (some network drives), it goes without one.

    Raises:
        FolderInUseError: another process holds it, or this one already does.
        OSError: the folder cannot be made or written to.
    """
    path = Path(folder)
    make_folder(path)
    (path / LOCK).open("ab").close()  # an error here is the folder's, one below is the drive's
    lock = FileLock(path / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FolderInUseError(
            f"another run is writing to {path}: wait until it has ended, or choose another --output folder"
        ) from error
    except (OSError, NotImplementedError):  # a drive without locks
        pass
    try:
        yield
    finally:
        lock.release()


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
