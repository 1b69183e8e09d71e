"""Kill a run at chosen places or random moments, resume it, compare bits. Prints what happened as JSON.

A program of its own: PyTorch is imported once, and each run is a fork of this process.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from small_training import make_trainer, same_bits, small_model

from accum_lib.training.saving import checkpoints, random_state, resumption
from accum_lib.training.trainer import Trainer

SETTINGS = dict(save_every=1, epochs=1, micro_batch_size=4, accumulation_steps=2)  # twelve windows
FORK = multiprocessing.get_context("fork")


def made(folder: Path | None = None) -> Trainer:
    """One layer, so that a run takes a third of a second; with dropout, so that random states matter."""
    return make_trainer(folder, model=small_model(dtype=torch.float32, layers=1), **SETTINGS)


def train(folder: Path, resume: bool, forgetful: bool = False) -> None:
    """What a child does. ``forgetful`` is the deliberately wrong one: it starts from a fresh random state."""
    torch.set_num_threads(1)
    if forgetful:
        random_state.restore = lambda state: None
    try:
        made(folder).run(resume=resume)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def undisturbed(folder: Path) -> None:
    child = FORK.Process(target=train, args=(folder, False))
    child.start()
    child.join()
    assert child.exitcode == 0


# Where a run is killed that is not killed at random: as a checkpoint's file is half written, when all are
# written and none is renamed, between the rename and the removal of the oldest, and amid a window.
PLACES = (*(f"write {name}" for name in checkpoints.FILES), "rename", "prune", "window")
AT = 4  # windows; from the third save on there is an old one to remove


def killed_at(folder: Path, place: str) -> tuple[bool, int, bool]:
    """As ``killed``, at a place of the program in the fourth window or its save."""
    child = FORK.Process(target=train_to, args=(folder, place))
    child.start()
    child.join()
    root = folder / resumption.FOLDER
    return child.exitcode == -signal.SIGKILL, saved(root), any(root.glob(f"{checkpoints.ASIDE}*"))


def train_to(folder: Path, place: str) -> None:
    """What a child does that kills itself when it gets to the place."""
    what, _, name = place.partition(" ")
    save, write, rename, remove, move = (
        checkpoints.save, checkpoints._write, os.rename, checkpoints._remove, Trainer._move
    )  # fmt: skip
    now = {"windows": 0}

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def saving(root: Path, windows: int, *more: object, **how: object) -> Path:
        now["windows"] = windows
        return save(root, windows, *more, **how)

    def writing(path: Path, content: object) -> str:
        if what == "write" and (now["windows"], path.name) == (AT, name):
            path.write_bytes(b"half")
            die()
        return write(path, content)

    def renaming(*paths: Path) -> None:
        if what == "rename" and now["windows"] == AT:
            die()
        rename(*paths)

    def removing(path: Path) -> None:
        old = f"{checkpoints.PREFIX}{AT - checkpoints.KEEP:08}"
        if what == "prune" and (now["windows"], path.name) == (AT, old):
            die()
        remove(path)

    def moving(trainer: Trainer) -> object:
        if what == "window" and trainer.progress.windows == AT:
            die()
        return move(trainer)

    checkpoints.save, checkpoints._write, checkpoints._remove = saving, writing, removing
    os.rename, Trainer._move = renaming, moving
    train(folder, False)


def killed(folder: Path, windows: int, seconds: float) -> tuple[bool, int, bool]:
    """Kill so many seconds after so many windows were saved (time alone would depend on the machine's load).

    Returns:
        Whether the kill came in time, the windows that were saved by then, and whether it hit a save.
    """
    root = folder / resumption.FOLDER
    child = FORK.Process(target=train, args=(folder, False))
    child.start()
    while saved(root) < windows and child.exitcode is None:
        time.sleep(0.001)
    time.sleep(seconds)
    child.kill()  # SIGKILL
    child.join()
    amid = any(root.glob(f"{checkpoints.ASIDE}*"))
    return child.exitcode == -signal.SIGKILL, saved(root), amid


def saved(root: Path) -> int:
    """The windows that the newest checkpoint has behind it; 0 if there is none."""
    return max((int(folder.name[-8:]) for folder in checkpoints.folders(root)), default=0)


def final(folder: Path) -> list[torch.Tensor]:
    """The parameters of the last checkpoint, which must be whole."""
    found = checkpoints.newest(folder / resumption.FOLDER)
    assert not found.rejected
    return list(found.state["model.pt"].values())


def main(places: list[str | None], forgetful: bool) -> None:
    """Kill at each of these places; at None, at random."""
    torch.set_num_threads(1)
    made().run()  # whatever is imported on the way is there before the first fork
    dice, report = (
        random.Random(0),
        {"killed": 0, "from": [], "at": [], "amid_a_save": 0, "same": 0, "failed": 0},
    )
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        undisturbed(whole)
        expected = final(whole)
        for i, at in enumerate(places):
            folder = Path(place) / str(i)
            in_time, windows, amid = (
                killed_at(folder, at) if at else killed(folder, dice.randrange(11), dice.uniform(0, 0.08))
            )
            child = FORK.Process(target=train, args=(folder, windows > 0, forgetful))
            child.start()
            child.join()
            report["killed"] += in_time
            report["from"].append(windows)
            report["amid_a_save"] += amid
            report["at"].append(at)
            report["failed"] += child.exitcode != 0
            report["same"] += child.exitcode == 0 and same_bits(final(folder), expected)
    print(json.dumps(report))


if __name__ == "__main__":
    at = list(PLACES) if sys.argv[1] == "places" else [None] * int(sys.argv[1])
    main(at, "--forgetful" in sys.argv)
