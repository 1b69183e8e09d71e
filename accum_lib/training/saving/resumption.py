"""The state that a run needs to resume: capture and restore."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from accum_lib.training.data.tasks import Task
from accum_lib.training.machinery import Machinery
from accum_lib.training.saving import checkpoints, random_state
from accum_lib.training.settings import TrainingSettings, differences

FOLDER = "checkpoints"


@dataclass
class RunProgress:
    """Where a run is.

    Attributes:
        windows: read so far; they say where in the data it is. Not all were updates if some were left out.
        updates: optimizer updates made.
        skipped, skips_in_a_row: windows that were left out since they were not finite.
        micro_batch_size: M now; smaller than in the settings if memory ran out.
    """

    micro_batch_size: int
    windows: int = 0
    updates: int = 0
    skipped: int = 0
    skips_in_a_row: int = 0


def facts(model: nn.Module, train: Task, held_out: Task, settings: TrainingSettings, more: dict) -> dict:
    """What a run is, as JSON would give it back. A resumed one has to agree, but for ``MAY_DIFFER``."""
    parameters = list(model.parameters())
    known = {
        "task": train.name,
        "data": train.fingerprint(),
        "held_out_data": held_out.fingerprint(),
        "parameters": sum(p.numel() for p in parameters),
        "dtype": str(parameters[0].dtype),
        "device": parameters[0].device.type,
    }
    return json.loads(json.dumps({**asdict(settings), **known, **more}))


def take(machinery: Machinery, progress: RunProgress, facts: dict, measured: Any = None) -> dict[str, Any]:
    """The state of a run, and what it has measured on the way, by the names of a checkpoint's files."""
    scaler = machinery.scaler
    return {
        checkpoints.SETTINGS: facts,
        "model.pt": machinery.model.state_dict(),
        "optimizer.pt": machinery.optimizer.state_dict(),
        "progress.pt": {
            "progress": asdict(progress),
            "scheduler": machinery.scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "random": random_state.capture(),
            "measured": measured,
        },
    }


def put_back(machinery: Machinery, progress: RunProgress, state: dict[str, Any]) -> None:
    """The reverse of ``take``, in place; the random states of this process too."""
    rest = state["progress.pt"]
    machinery.model.load_state_dict(state["model.pt"])
    _fuse_as(machinery.optimizer, state["optimizer.pt"])
    machinery.optimizer.load_state_dict(state["optimizer.pt"])
    machinery.scheduler.load_state_dict(rest["scheduler"])
    if machinery.scaler:
        machinery.scaler.load_state_dict(rest["scaler"])
    random_state.restore(rest["random"])
    for field in fields(progress):
        setattr(progress, field.name, rest["progress"][field.name])


def _fuse_as(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Whether AdamW is one kernel is a matter of this machine and version, not of the run that was saved."""
    for group, now in zip(saved["param_groups"], optimizer.param_groups, strict=True):
        group["fused"] = now["fused"]


def small_part(state: dict[str, Any]) -> dict[str, Any]:
    """A state without its parameters and moments, once they are put back."""
    return {"progress.pt": state["progress.pt"]}


def saved_micro_batch_size(state: dict[str, Any]) -> int:
    """The M that was asked for; the run's own may have become smaller."""
    return state[checkpoints.SETTINGS]["micro_batch_size"]


def measured(state: dict[str, Any]) -> Any:
    """What ``take`` was given as measured; older versions did not save it."""
    return state["progress.pt"].get("measured")


def find(output: Path, facts: dict) -> checkpoints.LoadedCheckpoint:
    """The newest whole checkpoint of a run in this folder; damaged ones after it are removed.

    Raises:
        CheckpointError: there is none, or it was made with other settings.
    """
    root = output / FOLDER
    found = checkpoints.newest(root)
    other = differences(found.state[checkpoints.SETTINGS], facts)
    if other:
        raise checkpoints.CheckpointError(
            f"{found.folder} was made with other settings ({'; '.join(other)}): resume with the same ones, "
            "or start from scratch in another folder"
        )
    checkpoints.discard_newer(root, found.folder)
    return found


def refuse_to_overwrite(output: Path) -> None:
    """Do not start over an existing run by mistake.

    Raises:
        CheckpointError: there are checkpoints.
    """
    if checkpoints.folders(output / FOLDER):
        raise checkpoints.CheckpointError(
            f"{output} holds a run already: go on with it (--resume), or choose another folder"
        )
