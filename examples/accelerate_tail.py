"""Accelerate's accumulate(): a last window of 1 micro-batch is divided by K = 4 all the same."""
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

inputs, targets = torch.randn(10, 3), torch.randn(10, 1)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
used = []
optimizer.register_step_pre_hook(lambda *_: used.append(model.weight.grad.clone()))

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
loader = DataLoader(TensorDataset(inputs, targets), batch_size=2)  # 5 micro-batches: windows of 4 and of 1
prepared, prepared_optimizer, loader = accelerator.prepare(model, optimizer, loader)
for x, y in loader:
    with accelerator.accumulate(prepared):
        accelerator.backward(torch.nn.functional.mse_loss(prepared(x), y))
        prepared_optimizer.step()
        prepared_optimizer.zero_grad()

for gradient, rows in zip(used, (slice(0, 8), slice(8, 10)), strict=True):
    loss = torch.nn.functional.mse_loss(model(inputs[rows]), targets[rows])
    (expected,) = torch.autograd.grad(loss, [model.weight])
    print("norm of the gradient against one big batch:", (gradient.norm() / expected.norm()).item())
