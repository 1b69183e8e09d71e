"""Kill a training run at random moments, resume it each time, and compare bits. Prints what happened as JSON.

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


def main(kills: int, forgetful: bool) -> None:
    torch.set_num_threads(1)
    made().run()  # whatever is imported on the way is there before the first fork
    dice, report = random.Random(0), {"killed": 0, "from": [], "amid_a_save": 0, "same": 0, "failed": 0}
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        undisturbed(whole)
        expected = final(whole)
        for i in range(kills):
            folder = Path(place) / str(i)
            in_time, windows, amid = killed(folder, dice.randrange(11), dice.uniform(0, 0.08))
            child = FORK.Process(target=train, args=(folder, windows > 0, forgetful))
            child.start()
            child.join()
            report["killed"] += in_time
            report["from"].append(windows)
            report["amid_a_save"] += amid
            report["failed"] += child.exitcode != 0
            report["same"] += child.exitcode == 0 and same_bits(final(folder), expected)
    print(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]), "--forgetful" in sys.argv)
