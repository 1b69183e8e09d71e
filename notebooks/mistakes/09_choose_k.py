"""Wrong answers to the exercises of notebook 09."""

import math


def choice(noise, n, largest):
    batch = min(round(noise), n)
    k = math.ceil(batch / largest)
    return math.ceil(batch / k), k


WRONG = {
    "check_work": [
        (lambda noise, b: ..., "returns nothing yet"),
        (lambda noise, b: 1 + noise / b, "two numbers are asked for"),
        (lambda noise, b: (1 + b / noise, 1 + noise / b), "upside down"),
        (lambda noise, b: (noise / b, b / noise), "the least itself is missing"),
        (lambda noise, b: (1 + noise / b, b + noise), "over *their* least"),
        (
            lambda noise, b: ((1 + noise / b) ** 0.5, (1 + b / noise) ** 0.5),
            "no square root",
        ),
        (lambda noise, b: (2, 2), "At B = the noise scale both are 2"),
        (lambda noise: 1, "raised TypeError"),
    ],
    "check_choice": [
        (lambda noise, n, largest: ..., "returns nothing yet"),
        (
            lambda noise, n, largest: tuple(reversed(choice(noise, n, largest))),
            "M comes first",
        ),
        (lambda noise, n, largest: (min(round(noise), n), 1), "does not fit"),
        (
            lambda noise, n, largest: (largest, max(1, int(noise // largest))),
            "The last micro-batch may be",
        ),
        (
            lambda noise, n, largest: (largest, math.ceil(noise / largest)),
            "With that K a smaller M",
        ),
        (
            lambda noise, n, largest: choice(noise, 10**9, largest),
            "there are only 600 examples",
        ),
        (
            lambda noise, n, largest: (1, min(round(noise), n)),
            "every further pass takes time",
        ),
        (lambda noise, n, largest: 1 / 0, "raised ZeroDivisionError"),
    ],
    "check_fastest_steps": [
        (lambda noise, m, one, update: ..., "returns nothing yet"),
        (lambda noise, m, one, update: round(noise / m), "B at the noise scale"),
        (
            lambda noise, m, one, update: round(noise * update / (m * one)) + 1,
            "it is K² that you have",
        ),
        (
            lambda noise, m, one, update: max(1, round(update / one)),
            "The noise is left out",
        ),
        (
            lambda noise, m, one, update: int(math.sqrt(noise * update / (m * one))),
            "at least one",
        ),
        (lambda noise, m, one, update: 100, "minimise it over K"),
        (lambda noise, m: 1, "raised TypeError"),
    ],
}
