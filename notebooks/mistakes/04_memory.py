"""Wrong answers to the exercises of notebook 04."""

WRONG = {
    "check_floor": [
        (lambda p: ..., "returns nothing yet"),
        (lambda p: 4 * p, "the weights alone"),
        (lambda p: 8 * p, "AdamW keeps two moments"),
        (lambda p: 12 * p, "which of the four is missing"),
        (lambda p: 16 * p, "one more of their size"),
        (lambda p: 99 * p, "count what there is for one parameter"),
        (lambda p: p / 0, "raised ZeroDivisionError"),
    ],
    "check_second_buffer": [
        (lambda p, k: ..., "returns nothing yet"),
        (lambda p, k: 4 * p * (k - 1), "never K sets"),
        (lambda p, k: 0, "what of the first one is still there"),
        (lambda p, k: 4 * p, "with K = 1 there is nothing extra, so 0"),
        (lambda p, k: 2 * p * (k > 1), "the lens says 4.0"),
        (lambda p, k: p / 0, "raised ZeroDivisionError"),
    ],
    "check_steps": [
        (lambda b, m: ..., "returns nothing yet"),
        (lambda b, m: b // m, "too few"),
        (lambda b, m: b // m + 1, "K = 2 is enough"),
        (lambda b, m: b / m, "no parts of a pass"),
        (lambda b, m: b / 0, "raised ZeroDivisionError"),
    ],
}
