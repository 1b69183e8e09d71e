"""Ignite: with gradient_accumulation_steps=2 the last of 3 micro-batches is left to the next epoch."""
import torch
from ignite.engine import create_supervised_trainer

def updates(epochs):
    """How many optimizer updates there are, and which micro-batches were in each."""
    model, made, inside = torch.nn.Linear(3, 1, bias=False), [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: (made.append(list(inside)), inside.clear()))
    model.register_forward_pre_hook(lambda _, inputs: inside.append(int(inputs[0].argmax())))
    data = [(torch.eye(3)[i : i + 1], torch.ones(1, 1)) for i in range(3)]  # micro-batches 0, 1, 2
    trainer = create_supervised_trainer(
        model, optimizer, torch.nn.functional.mse_loss, gradient_accumulation_steps=2)
    trainer.run(data, max_epochs=epochs)
    return made

print("micro-batches in each update of two epochs", updates(2))
print("updates made of those due, two epochs of 3 micro-batches, K = 2:", len(updates(2)) / 4)
print("updates made of those due, one epoch:", len(updates(1)) / 2)
