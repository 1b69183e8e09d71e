"""MMEngine: with accumulative_counts=2 the last of 3 micro-batches is left to the next epoch."""
import torch
from mmengine.optim import OptimWrapper

def updates(epochs, counts):
    """Which micro-batches were in each optimizer update."""
    model, made, inside = torch.nn.Linear(3, 1, bias=False), [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: (made.append(list(inside)), inside.clear()))
    wrapper = OptimWrapper(optimizer, accumulative_counts=counts)
    wrapper.initialize_count_status(model, 0, epochs * 3)  # as EpochBasedTrainLoop does
    for _ in range(epochs):
        for i, row in enumerate(torch.eye(3)):  # micro-batches 0, 1, 2
            inside.append(i)
            with wrapper.optim_context(model):
                loss = torch.nn.functional.mse_loss(model(row), torch.ones(1))
            wrapper.update_params(loss)
    return made

print("micro-batches in each update of two epochs", updates(2, 2))
print("updates made of those due, two epochs of 3 micro-batches, K = 2:", len(updates(2, 2)) / 4)
