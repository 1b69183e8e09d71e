"""Ultralytics: its classification trainer, which accumulates until ``nbs`` images are taken."""

import os
import tempfile

os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp()

from types import SimpleNamespace
from typing import Any

import torch
from adapter import Case, serve, windows
from torch_model import Noted, batches
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.loss import v8ClassificationLoss

EVEN = 4  # rows of an even micro-batch: the trainer's batch


class Model(BaseModel):
    """The case's model with Ultralytics' loss; mended, times the micro-batch's share of its window."""

    def __init__(self, linear: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.stride = torch.nn.Sequential(linear), torch.tensor([32.0])

    def predict(self, x: Any, *_: Any, **__: Any) -> Any:
        return self.model(x)

    def loss(self, batch: Any, preds: Any = None) -> Any:
        loss, items = super().loss(batch, preds)
        return loss * batch.get("share", 1.0), items

    def init_criterion(self) -> Any:
        return v8ClassificationLoss()


class Loader(list[Any]):
    """Ready batches, and what the trainer asks of a loader."""

    batch_size, drop_last, num_workers = EVEN, False, 0

    @property
    def dataset(self) -> list[Any]:
        return [row for batch in self for row in batch["cls"]]

    sampler = dataset


def documented(case: Case) -> dict[str, Any]:
    return fit(case, Loader({"img": x, "cls": y} for x, y in batches(case)))


def mended(case: Case) -> dict[str, Any]:
    """A callback sets ``accumulate`` to the length of the window at hand, since nbs knows no epoch."""
    parts = windows(batches(case), case["accumulation_steps"])
    lengths = [len(part) for part in parts for _ in part]
    shares = [len(y) / sum(len(each) for _, each in part) for part in parts for _, y in part]
    data = Loader({"img": x, "cls": y, "share": s} for (x, y), s in zip(batches(case), shares, strict=True))
    taken = 0

    def set_length(trainer: Any) -> None:
        nonlocal taken
        trainer.accumulate = lengths[taken % len(lengths)]
        taken += 1

    return fit(case, data, set_length)


def fit(case: Case, data: Loader, callback: Any = None) -> dict[str, Any]:
    noted = Noted(case)

    class Ours(ClassificationTrainer):
        """Its loop, with ready data, model and optimizer; nothing is validated or saved."""

        def get_dataset(self) -> Any:
            return {"train": "", "val": "", "nc": len(case["bias"]), "names": {}, "channels": 3}

        def setup_model(self) -> None:
            self.model = Model(noted.model)

        def get_dataloader(self, *_: Any, **__: Any) -> Any:
            return data

        def build_optimizer(self, *_: Any, **__: Any) -> Any:
            return noted.optimizer

        def get_validator(self) -> Any:
            return SimpleNamespace(metrics=SimpleNamespace(keys=[]))

        def validate(self) -> Any:
            return {}, 0.0

        def save_model(self) -> bool:
            return False

        def final_eval(self) -> None:
            pass

    with tempfile.TemporaryDirectory() as folder:
        trainer = Ours(overrides=dict(
            model="none.yaml", batch=EVEN, nbs=EVEN * case["accumulation_steps"], epochs=case["epochs"],
            lr0=case["rate"], lrf=1.0, warmup_epochs=0, amp=False, device="cpu", plots=False, project=folder,
            close_mosaic=0,
        ))  # fmt: skip
        if callback:
            trainer.add_callback("on_train_batch_start", callback)
        trainer.train()
    return noted.found


serve(documented, mended)
