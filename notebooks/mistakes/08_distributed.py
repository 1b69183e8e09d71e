"""Wrong answers to the exercises of notebook 08."""

WRONG = {
    "check_share": [
        (lambda w, total: ..., "returns nothing yet"),
        (lambda w, total: 1 / total, "world_size times too small"),
        (lambda w, total: 1 / w, "what is a loss *sum* divided"),
        (lambda w, total: 1, "to become a mean"),
        (lambda w, total: total / w, "Upside down"),
        (lambda w, total: w * w / total, "What does DDP divide by"),
        (lambda w, total: 1 / 0, "raised ZeroDivisionError"),
    ],
    "check_bytes": [
        (lambda g, m, k, every: ..., "returns nothing yet"),
        (lambda g, m, k, every: g / (m * k), "in every pass"),
        (lambda g, m, k, every: g / m, "M·K examples, not M"),
        (
            lambda g, m, k, every: g * (k if every else 1),
            "how many examples does it have",
        ),
        (lambda g, m, k, every: g, "how many examples does it have"),
        (lambda g, m, k, every: g / k / 2, "How often are all gradients sent"),
        (lambda g, m, k, every: 1 / 0, "raised ZeroDivisionError"),
    ],
    "check_enough": [
        (lambda c, a, tolerance: ..., "returns nothing yet"),
        (
            lambda c, a, tolerance: int(a / (c * tolerance)) + 1,
            "within the tolerance already",
        ),
        (lambda c, a, tolerance: 1, "what part of"),
        (
            lambda c, a, tolerance: round(a / (c * tolerance) - 0.01),
            "one micro-batch at least",
        ),
        (
            lambda c, a, tolerance: max(1, a / (c * tolerance)) + 0.5,
            "no parts of a micro-batch",
        ),
        (lambda c, a, tolerance: 1 / 0, "raised ZeroDivisionError"),
    ],
}
