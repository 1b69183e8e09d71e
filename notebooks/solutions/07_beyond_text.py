"""Solutions to the exercises of notebook 07."""

from itertools import pairwise


def momentum(big, steps):
    return 1 - (1 - big) ** (1 / steps)


def weights(lengths):
    return [1 / length / len(lengths) for length in lengths]


def alignable(frames, target):
    repeats = sum(a == b for a, b in pairwise(target))
    return frames >= len(target) + repeats
