"""Solutions to the exercises of notebook 01."""

import math


def updates_per_epoch(num_samples, micro_batch_size, accumulation_steps):
    micro_batches = math.ceil(num_samples / micro_batch_size)
    return math.ceil(micro_batches / accumulation_steps)


def weight(index, counts):
    return counts[index] / sum(counts)


def learning_rate(mean_rate, accumulation_steps):
    return mean_rate / accumulation_steps
