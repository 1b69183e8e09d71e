"""The state that a run needs to resume: capture and restore."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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


def check(machinery: Machinery, planned: int, facts: dict, folder: Path, state: dict[str, Any]) -> None:
    """Refuse contents that no run can have saved: checksums protect from the disk, not from people.

    Args:
        machinery: what the state is to be put into; it stays as it is.
        planned: windows of the run.
        facts: of this run. One with others is refused for that, with another message.

    Raises:
        CheckpointError: names the file.
    """
    settings = state[checkpoints.SETTINGS]
    if isinstance(settings, dict) and differences(settings, facts):
        return
    parts = {
        checkpoints.SETTINGS: lambda: isinstance(settings, dict),
        "model.pt": lambda: _same_tensors(state["model.pt"], machinery.model.state_dict()),
        "optimizer.pt": lambda: _fits_optimizer(machinery.optimizer, state["optimizer.pt"]),
        "progress.pt": lambda: (
            _possible(machinery, planned, settings, folder, state["progress.pt"])
            and bool(state["optimizer.pt"]["state"]) == (state["progress.pt"]["progress"]["updates"] > 0)
        ),
    }
    for name, fits in parts.items():
        try:
            right = fits()
        except Exception:  # of many kinds: something is not there, or is of another type
            right = False
        if not right:
            raise checkpoints.CheckpointError(
                f"{folder / name} holds what this run cannot have saved: numbers out of range or not finite, "
                "or parts that are missing"
            )


def _same_tensors(found: dict[str, Tensor], now: dict[str, Tensor]) -> bool:
    """Names, shapes and types are those of the model, and all numbers are finite."""
    return found.keys() == now.keys() and all(
        found[name].shape == value.shape and found[name].dtype == value.dtype and _finite(found[name])
        for name, value in now.items()
    )


def _finite(value: Any) -> bool:
    return bool(torch.as_tensor(value).isfinite().all())


def _fits_optimizer(optimizer: torch.optim.Optimizer, found: dict[str, Any]) -> bool:
    """Groups as they are now, at a rate of the schedule; moments in the shapes of their parameters."""
    now = optimizer.state_dict()["param_groups"]
    changing = ("params", "lr", "fused", "foreach")
    groups = len(now) == len(found["param_groups"]) and all(
        before["params"] == after["params"]
        and all(after.get(key, value) == value for key, value in before.items() if key not in changing)
        and 0 <= after["lr"] <= after["initial_lr"]
        for before, after in zip(now, found["param_groups"], strict=True)
    )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return groups and all(
        0 <= number < len(parameters) and _fits_parameter(parameters[number], moments)
        for number, moments in found["state"].items()
    )


def _fits_parameter(p: Tensor, moments: dict[str, Tensor]) -> bool:
    return (
        all(_finite(value) and value.shape in (p.shape, ()) for value in moments.values())
        and moments["exp_avg"].shape == moments["exp_avg_sq"].shape == p.shape
        and bool((moments["exp_avg_sq"] >= 0).all())
        and float(moments["step"]) >= 0
    )


def _possible(machinery: Machinery, planned: int, settings: dict, folder: Path, rest: dict[str, Any]) -> bool:
    """Whether a run with these settings can have come there, and its generators can be put back."""
    now = RunProgress(**rest["progress"])
    numbers = [getattr(now, field.name) for field in fields(now)]
    schedule, scaler = rest["scheduler"], rest["scaler"]
    with random_state.preserved():
        random_state.restore(rest["random"])
    return (
        len(rest["progress"]) == len(numbers)
        and all(type(number) is int and number >= 0 for number in numbers)
        and folder.name == checkpoints.name_of(now.windows)
        and 1 <= now.windows <= planned
        and now.updates + now.skipped <= now.windows
        and now.skips_in_a_row <= now.skipped
        and 1 <= now.micro_batch_size <= settings["micro_batch_size"]
        and schedule.keys() <= machinery.scheduler.state_dict().keys()
        and 0 <= schedule["last_epoch"] <= now.windows
        and schedule["base_lrs"] == machinery.scheduler.base_lrs
        and (scaler is None) == (machinery.scaler is None)
        and (scaler is None or (scaler["scale"] > 0 and all(map(_finite, scaler.values()))))
    )


def find(
    output: Path, facts: dict, check: Callable[[Path, dict[str, Any]], None] | None = None
) -> checkpoints.LoadedCheckpoint:
    """The newest whole checkpoint of a run in this folder; damaged ones after it are removed.

    Args:
        output: the run's folder.
        facts: what the run is.
        check: as ``checkpoints.newest`` takes it.

    Raises:
        CheckpointError: there is none, or it was made with other settings.
    """
    root = output / FOLDER
    found = checkpoints.newest(root, check)
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
