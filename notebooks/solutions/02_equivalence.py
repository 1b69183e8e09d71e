"""Solutions to the exercises of notebook 02."""

from accum_lib.accumulate import windows
from torch.nn.functional import cross_entropy


def my_train(model, optimizer, batches, accumulation_steps):
    for window in windows(batches, accumulation_steps):
        total = sum((labels != -100).sum() for _, labels in window)
        for inputs, labels in window:
            loss = cross_entropy(model(inputs), labels, reduction="sum") / total
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def weight(index, counts):
    # It gets 1/K of the update, and should get its share of all that count.
    return (1 / len(counts)) / (counts[index] / sum(counts))


data = ([1, 2], 3)
