"""Solutions to the exercises of notebook 08."""

import math


def share(world_size, total):
    return world_size / total


def bytes_per_example(gradient_bytes, micro_batch_size, steps, every_micro_batch):
    averagings = steps if every_micro_batch else 1
    return gradient_bytes * averagings / (micro_batch_size * steps)


def smallest_steps(pass_seconds, averaging_seconds, tolerance):
    quotient = averaging_seconds / (pass_seconds * tolerance)
    return math.ceil(round(quotient, 9))  # 4.000000000000001 is 4
