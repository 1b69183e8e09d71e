"""Solutions to the exercises of notebook 09."""

import math


def work(noise_scale, batch_size):
    return 1 + noise_scale / batch_size, 1 + batch_size / noise_scale


def choose(noise_scale, num_samples, largest_micro_batch):
    batch = min(round(noise_scale), num_samples)
    steps = math.ceil(batch / largest_micro_batch)
    return math.ceil(batch / steps), steps


def steps(noise_scale, micro_batch_size, pass_seconds, update_seconds):
    best = math.sqrt(noise_scale * update_seconds / (micro_batch_size * pass_seconds))
    return max(1, round(best))
