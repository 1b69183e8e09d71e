"""Ultralytics' classification: with batch=2 and nbs=8 the gradient is 4 times that of batch=8."""
import tempfile
from types import SimpleNamespace
import torch
from ultralytics.models.yolo.classify import ClassificationTrainer
# Equal images, so that batch norms see the same in micro-batches and in one batch.
rows = [{"img": torch.linspace(0, 1, 12288).reshape(3, 64, 64), "cls": torch.tensor(i % 2)} for i in range(8)]
class Noted(ClassificationTrainer):
    def get_dataset(self):
        return {"train": "", "val": "", "nc": 2, "names": {0: "a", 1: "b"}, "channels": 3}
    def get_dataloader(self, *_, **__):
        return torch.utils.data.DataLoader(rows, self.batch_size)
    def get_validator(self):
        return SimpleNamespace(metrics=SimpleNamespace(keys=[]))
    def optimizer_step(self):
        raise StopIteration(torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters()]))

def gradient_norm(batch):
    try:
        Noted(overrides=dict(
            model="yolo11n-cls.yaml", imgsz=64, batch=batch, nbs=8, epochs=1, warmup_epochs=0,
            device="cpu", amp=False, close_mosaic=0, project=tempfile.mkdtemp())).train()
    except StopIteration as first_step:
        return float(first_step.value)
print("norm of the gradient, batch=2 and nbs=8 against batch=8:", gradient_norm(2) / gradient_norm(8))
