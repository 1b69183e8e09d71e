"""Wrong answers to the exercises of notebook 03."""


def scale(m, k, mean_square, whole, noisy=False):
    """The right noise scale; with ``noisy``, |g|² of the window is taken for |G|²."""
    trace = (mean_square - whole) / (1 / m - 1 / (m * k))
    return trace / (whole if noisy else whole - trace / (m * k))


WRONG = {
    "check_variance": [
        (lambda trace, b, n: ..., "returns nothing yet"),
        (lambda trace, b, n: trace / b, "draws with replacement"),
        (lambda trace, b, n: trace / b**0.5, "the whole data set"),
        (lambda trace, b, n: trace * (1 - b / n), "varies less than one"),
        (lambda trace, b, n: trace / b * (n - b) / (n - 1), "this trace is over N - 1"),
        (
            lambda trace, b, n: trace * (1 / b * (1 - b / n)) ** 0.5,
            "the standard deviation",
        ),
        (lambda trace, b, n: (n - 1) / n * trace / b * (1 - b / n), "B = N is right"),
        (lambda trace, b: trace / b, "raised TypeError"),
    ],
    "check_noise_scale": [
        (lambda m, k, s, w: ..., "returns nothing yet"),
        (lambda m, k, s, w: scale(m, k, s, w, noisy=True), "noise of its own"),
        (lambda m, k, s, w: s / w, "ratio of the two norms"),
        (lambda m, k, s, w: scale(m, k, s, w) * m, "factor M"),
        (lambda m, k, s, w: scale(m, k, s, w) / k, "factor K"),
        (lambda m, k, s, w: 1 / scale(m, k, s, w), "upside down"),
        (lambda m, k, s, w: 1.7, "two expectations"),
        (lambda m, k, s, w: 1 / 0, "raised ZeroDivisionError"),
    ],
    "check_fall": [
        (lambda b, large, n: ..., "returns nothing yet"),
        (lambda b, large, n: large / b, "N without end"),
        (lambda b, large, n: (large / b) ** 0.5, "the standard deviation falls"),
        (lambda b, large, n: b / large * (n - large) / (n - b), "Upside down"),
        (
            lambda b, large, n: (large / b * (n - b) / (n - large)) ** 0.5,
            "the standard deviation falls",
        ),
        (lambda b, large, n: (n - b) / (n - large), "now those of 1/B"),
        (lambda b, large, n: large - b, "at the smaller batch by that"),
        (lambda b, large: large / b, "raised TypeError"),
    ],
}
