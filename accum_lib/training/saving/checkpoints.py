"""Atomic checkpoints: write to a temporary folder, fsync, rename.

A folder ``checkpoints/window-00000012`` holds the state in a few files and ``SHA256SUMS``, their checksums as
``sha256sum -c`` reads them. The checksums are of what was meant to be written, taken on the way to the disk.
A run that is killed while it saves leaves a folder with another name, which is never read.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from accum_lib.words import _

MANIFEST, ASIDE, PREFIX = "SHA256SUMS", "unfinished-", "window-"
SETTINGS = "settings.json"  # the one file that a person may want to read
TENSORS = ("model.pt", "optimizer.pt", "progress.pt")
FILES = (SETTINGS, *TENSORS)
KEEP = 2  # so that there is one left if the newest turns out to be damaged


class CheckpointError(ValueError):
    """A checkpoint is damaged, is not there, or was made with other settings."""


class NotSavedError(OSError):
    """A checkpoint could not be written. Those before it are untouched."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """The newest whole checkpoint: its folder, its contents by file name, and what was wrong with newer."""

    folder: Path
    state: dict[str, Any]
    rejected: tuple[str, ...]


def save(root: Path, windows: int, state: dict[str, Any], keep: int = KEEP) -> Path:
    """Write a checkpoint, then remove all but the newest ``keep``.

    Args:
        root: the folder of all checkpoints.
        windows: read so far; they name the checkpoint.
        state: for each of ``FILES`` what to write: JSON, or what ``torch.load(weights_only=True)`` reads.
        keep: how many to keep.

    Raises:
        NotSavedError: the disk is full, or cannot be written to. Nothing half-written is left.
    """
    aside, final = root / f"{ASIDE}{windows:08}", root / name_of(windows)
    try:
        _remove(aside)
        aside.mkdir(parents=True)
        sums = {name: _write(aside / name, state[name]) for name in FILES}
        _write_bytes(aside / MANIFEST, _manifest(sums).encode())
        _flush(aside)
        _remove(final)
        os.rename(aside, final)
        _flush(root)
    except OSError as error:
        _remove(aside)
        older = folders(root)
        left = f"The newest one is still {older[0]}" if older else "There is none from before"
        raise NotSavedError(f"checkpoint {final} could not be saved ({error}). {left}") from error
    for old in [*folders(root)[keep:], *root.glob(f"{ASIDE}*")]:
        _remove(old)
    return final


def newest(root: Path, check: Callable[[Path, dict[str, Any]], None] | None = None) -> LoadedCheckpoint:
    """The newest checkpoint that is whole; damaged ones are passed over, and named.

    Args:
        root: the folder of all checkpoints.
        check: raises a CheckpointError for contents that no run can have saved, whatever their checksums.

    Raises:
        CheckpointError: there is none.
    """
    rejected: list[str] = []
    for folder in folders(root):
        try:
            state = load(folder)
            if check:
                check(folder, state)
            return LoadedCheckpoint(folder, state, tuple(rejected))
        except CheckpointError as error:
            rejected.append(str(error))
    why = "; ".join(rejected) or _("there is no checkpoint")
    raise CheckpointError(
        _(
            "nothing to resume from in {root}: {why}. Start from scratch without --resume",
            root=root, why=why,
        )
    )  # fmt: skip


def discard_newer(root: Path, folder: Path) -> None:
    """Remove checkpoints after ``folder``: the damaged ones that were passed over to get there."""
    for newer in folders(root)[: folders(root).index(folder)]:
        _remove(newer)


def load(folder: Path) -> dict[str, Any]:
    """A checkpoint's contents by file name, on the CPU.

    Raises:
        CheckpointError: a file is missing, has other contents than were written, or cannot be read.
    """
    verify(folder)
    return {name: _read(folder / name) for name in FILES}


def _read(path: Path) -> Any:
    """A file with the right checksum may still be none of ours; and what it then raises is of many kinds."""
    try:
        if path.name in TENSORS:
            return torch.load(path, map_location="cpu", weights_only=True)  # without running code
        return json.loads(path.read_text())
    except MemoryError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is no file of a checkpoint ({type(error).__name__})") from error


def verify(folder: Path) -> None:
    """Compare every file with its checksum.

    Raises:
        CheckpointError: names the first file that is missing or damaged.
    """
    missing = [name for name in (MANIFEST, *FILES) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} is damaged: {missing[0]} is missing")
    written = (folder / MANIFEST).read_bytes()
    found = {name: _checksum(folder / name) for name in FILES}
    if written == _manifest(found).encode():
        return
    changed = [name for name in FILES if f"{found[name]}  {name}\n".encode() not in written]
    what = f"{changed[0]} does not match its checksum in {MANIFEST}" if changed else f"{MANIFEST} has changed"
    raise CheckpointError(f"{folder} is damaged: {what}")


def name_of(windows: int) -> str:
    """The folder of a checkpoint after so many windows."""
    return f"{PREFIX}{windows:08}"


def folders(root: Path) -> list[Path]:
    """All checkpoints that were finished, newest first."""
    return sorted((f for f in root.glob(f"{PREFIX}*") if not f.is_symlink()), reverse=True)


def _manifest(sums: dict[str, str]) -> str:
    return "".join(f"{value}  {name}\n" for name, value in sums.items())


def _write(path: Path, content: Any) -> str:
    """Write one file through to the disk; the checksum of what was meant."""
    if path.name in TENSORS:
        return _through(path, lambda file: torch.save(content, file))
    return _write_bytes(path, json.dumps(content, indent=1).encode())


def _write_bytes(path: Path, content: bytes) -> str:
    return _through(path, lambda file: file.write(content))


def _through(path: Path, write: Callable[[Any], Any]) -> str:
    with path.open("wb") as file:
        hashing = _Hashing(file)
        try:
            write(hashing)
        except RuntimeError as error:  # how PyTorch's writer says that the file refused
            raise hashing.error or error from None
        file.flush()
        os.fsync(file.fileno())
    return hashing.sum.hexdigest()


class _Hashing:
    """A file that takes the checksum of what passes through, and remembers the disk's own error."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sum = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        self.sum.update(content)
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    """A new or renamed file is on the disk once its folder is."""
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
