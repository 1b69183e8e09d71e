"""Solutions to the exercises of notebook 09."""

import math


def work(noise_scale, batch_size):
    return 1 + noise_scale / batch_size, 1 + batch_size / noise_scale


def choose(noise_scale, num_samples, largest_micro_batch):
    batch = min(round(noise_scale), num_samples)
    steps = math.ceil(batch / largest_micro_batch)
    return math.ceil(batch / steps), steps


def steps(noise_scale, micro_batch_size, pass_seconds, update_seconds):
    squared = (
        noise_scale * update_seconds / (micro_batch_size * pass_seconds)
    )  # K², if K need not be whole
    below = max(1, math.floor(math.sqrt(squared)))
    return (
        below if squared <= below * (below + 1) else below + 1
    )  # there both take equally long
