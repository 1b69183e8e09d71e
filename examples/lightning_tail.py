"""Lightning's accumulate_grad_batches: a last window of 1 micro-batch is divided by K = 4."""
import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

inputs, targets, used = torch.randn(10, 3), torch.randn(10, 1), []

class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(3, 1)
    def training_step(self, batch, _):
        return torch.nn.functional.mse_loss(self.model(batch[0]), batch[1])
    def on_before_optimizer_step(self, _):
        used.append(self.model.weight.grad.clone())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

module = Module()
trainer = lightning.Trainer(accumulate_grad_batches=4, max_epochs=1, accelerator="cpu", barebones=True)
trainer.fit(module, DataLoader(TensorDataset(inputs, targets), batch_size=2))
for gradient, rows in zip(used, (slice(0, 8), slice(8, 10)), strict=True):
    loss = torch.nn.functional.mse_loss(module.model(inputs[rows]), targets[rows])
    (expected,) = torch.autograd.grad(loss, [module.model.weight])
    print("norm of the gradient against one big batch:", (gradient.norm() / expected.norm()).item())
