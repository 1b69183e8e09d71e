"""SpeechBrain: with grad_accumulation_factor=2 the last of 3 batches trains nothing, in any epoch."""
import sys
import unittest.mock
import torch
from torch.utils.data import DataLoader
sys.modules["torchaudio"] = unittest.mock.MagicMock(__version__="2")  # unused; it does not load without CUDA
from speechbrain.core import Brain  # noqa: E402

made, inside = [], []
class Mine(Brain):
    def compute_forward(self, batch, stage):
        inside.append(int(batch.argmax()))
        return self.modules.model(batch)
    def compute_objectives(self, predictions, batch, stage):
        return (predictions - 1).square().mean()
    def optimizers_step(self):
        super().optimizers_step()
        made.append(inside.copy())
        inside.clear()

brain = Mine({"model": torch.nn.Linear(3, 1)}, lambda parameters: torch.optim.SGD(parameters, lr=0.1),
             run_opts={"device": "cpu", "grad_accumulation_factor": 2})
brain.fit(range(2), DataLoader(torch.eye(3), batch_size=1), progressbar=False)
print("batches since the step before, of each step in two epochs", made)
print("updates made of those due, two epochs of 3 batches, factor 2:", len(made) / 4)
