"""Solutions to the exercises of notebook 04."""

import math


def floor_bytes(parameters):
    weight, gradient, first_moment, second_moment, temporary = 4, 4, 4, 4, 4
    return parameters * (weight + gradient + first_moment + second_moment + temporary)


def extra_bytes(parameters, accumulation_steps):
    return 4 * parameters if accumulation_steps > 1 else 0


def steps(effective_batch, largest_micro_batch):
    return math.ceil(effective_batch / largest_micro_batch)
