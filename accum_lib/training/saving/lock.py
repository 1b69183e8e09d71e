"""One run at a time in an output folder: two would mix their logs and checkpoints, and both report success.

The OS holds the lock; the file's existence means nothing, so a killed process leaves nothing to clean up.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "run.lock"
WRITTEN = (LOCK, "log.jsonl", "tensorboard", "model", "model-unfinished", "model-before", "checkpoints")


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
    refuse_links(path)
    open(
        path / LOCK, "ab", opener=without_following
    ).close()  # its errors are the folder's, later ones the drive's
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


def refuse_links(folder: Path) -> None:
    """What a run would write to must be its own: a link leads elsewhere, and a pipe or a device to nobody.

    Raises:
        ValueError: names the first that is neither a plain file, of this name alone, nor a folder.
    """
    root = folder / "checkpoints"
    inside = sorted(root.iterdir()) if root.is_dir() and not root.is_symlink() else []
    for path in filter(os.path.lexists, [*(folder / name for name in WRITTEN), *inside]):
        found = path.lstat()
        mine = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
        if not mine:
            raise ValueError(
                f"{path} is a link, a pipe or a device, and the run would write there: remove it, or choose "
                "another --output folder"
            )


def without_following(path: str, flags: int) -> int:
    """An opener that does not follow a link, which may have been put there since ``refuse_links``."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def make_folder(path: Path) -> None:
    """The output folder, with those above it, if it is not there. It is its owner's alone: the tokenizer's
    vocabulary, the log and the labels tell of the texts, which may be private.

    Raises:
        OSError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the output folder {path} cannot be made ({error.strerror}): choose another one"
        ) from error
