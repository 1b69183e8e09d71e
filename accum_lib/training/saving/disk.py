"""What a run writes to the disk, and whether there is room for it: better known before than after a night."""

import shutil
from pathlib import Path

from torch import nn

from accum_lib.machine import GIB
from accum_lib.training.machinery import planned_windows, windows_per_epoch
from accum_lib.training.saving.checkpoints import KEEP
from accum_lib.training.settings import TrainingSettings


def run_bytes(model: nn.Module, settings: TrainingSettings, num_samples: int) -> int:
    """The most that checkpoints and the trained model take at once, but for what is small in them.

    A checkpoint holds the weights and AdamW's two moments of what is trained. One more than are kept is there
    while it is written, and an old one goes only afterwards.
    """
    windows = planned_windows(settings, num_samples)
    every = settings.save_every or windows_per_epoch(settings, num_samples)
    saved = -(-windows // every)
    weights = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    checkpoint = weights + 2 * sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return max(min(saved, KEEP + 1) * checkpoint, min(saved, KEEP) * checkpoint + weights)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of the folder, which need not exist yet."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def too_little(needed: int, folder: Path) -> str | None:
    """A sentence that says so, or None if there is enough."""
    free = free_bytes(folder)
    if needed <= free:
        return None
    return (
        f"checkpoints and the trained model take up to {needed / GIB:.2f} GiB, and on the disk of {folder} "
        f"{free / GIB:.2f} GiB are free: make room, or choose another --output. What has no room is not saved"
    )
