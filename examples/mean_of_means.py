"""Lightning, and Accelerate in the same way: micro-batches weigh alike, with 2 rows or with 20."""
import torch
from accelerate import Accelerator

inputs, targets = torch.randn(22, 3), torch.randn(22, 1)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
used = []
optimizer.register_step_pre_hook(lambda *_: used.append(model.weight.grad.clone()))
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
prepared, prepared_optimizer = accelerator.prepare(model, optimizer)
for rows in (slice(0, 2), slice(2, 22)):
    with accelerator.accumulate(prepared):
        accelerator.backward(torch.nn.functional.mse_loss(prepared(inputs[rows]), targets[rows]))
        prepared_optimizer.step()
        prepared_optimizer.zero_grad()

loss = torch.nn.functional.mse_loss(model(inputs), targets)
(expected,) = torch.autograd.grad(loss, [model.weight])
print("relative error against one big batch:", ((used[0] - expected).norm() / expected.norm()).item())
