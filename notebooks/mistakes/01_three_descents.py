"""Wrong answers to the exercises of notebook 01."""

import math

WRONG = {
    "check_updates_per_epoch": [
        (lambda n, m, k: ..., "returns nothing yet"),
        (lambda n, m, k: None, "returns nothing yet"),
        (lambda n, m, k: n // m, "each update uses 2"),
        (lambda n, m, k: n // (m * k), "trailing window"),
        (lambda n, m, k: math.ceil(n // m / k), "last and smaller one included"),
        (lambda n, m, k: max(1, 5 if k == 2 else 4), "by hand"),
        (lambda n, m: n, "raised TypeError"),
    ],
    "check_weight": [
        (lambda i, counts: ..., "returns nothing yet"),
        (lambda i, counts: 1, "three times too large"),
        (lambda i, counts: 1 / len(counts), "mean of means"),
        (lambda i, counts: counts[i], "add up to 9"),
        (lambda i, counts: counts[i] / max(counts), "add up to 1.8"),
        (lambda i, counts: counts[-1 - i] / sum(counts), "relative error"),
        (lambda i, counts: counts[i] / 0, "raised ZeroDivisionError"),
    ],
    "check_same_step": [
        (lambda rate, k: ..., "returns nothing yet"),
        (lambda rate, k: rate, "2 times as long"),
        (lambda rate, k: rate * k, "longer still"),
        (lambda rate, k: rate / k**0.5, "the noise of a step"),
        (lambda rate, k: rate / 2, "2.5 times as long"),
        (lambda rate: rate, "raised TypeError"),
    ],
}
