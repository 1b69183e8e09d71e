"""Lightning Fabric's guide: iteration % K != 0 updates after 1 micro-batch, and nothing divides by K."""
import torch
from lightning.fabric import Fabric

inputs, targets = torch.randn(16, 3), torch.randn(16, 1)
fabric = Fabric(accelerator="cpu", devices=1)
plain = torch.nn.Linear(3, 1)
model, optimizer = fabric.setup(plain, torch.optim.SGD(plain.parameters(), lr=0.0))
passes, used, mse = 0, [], torch.nn.functional.mse_loss
for iteration in range(8):
    rows = slice(2 * iteration, 2 * iteration + 2)
    is_accumulating = iteration % 4 != 0
    with fabric.no_backward_sync(model, enabled=is_accumulating):
        fabric.backward(mse(model(inputs[rows]), targets[rows]))
    passes += 1
    if not is_accumulating:
        used.append((passes, plain.weight.grad.clone()))
        optimizer.step()
        optimizer.zero_grad()
        passes = 0

print("micro-batches in each update:", [n for n, _ in used], "and left over:", passes)
(expected,) = torch.autograd.grad(mse(plain(inputs[2:10]), targets[2:10]), [plain.weight])
print("norm of the second gradient against one batch of the same rows:",
      (used[1][1].norm() / expected.norm()).item())
