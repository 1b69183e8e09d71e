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
    "check_beta2": [
        (lambda beta2, base, batch: ..., "returns nothing yet"),
        (lambda beta2, base, batch: beta2, "as many updates as before"),
        (
            lambda beta2, base, batch: beta2 ** (base / batch),
            "fewer updates to forget, not more",
        ),
        (lambda beta2, base, batch: 1 - (1 - beta2) * batch / base, "but only close"),
        (
            lambda beta2, base, batch: 1 - (1 - beta2) * (batch / base) ** 0.5,
            "forgets half within",
        ),
        (lambda beta2, base, batch: beta2 * batch, "not between 0 and 1"),
        (lambda beta2: beta2, "raised TypeError"),
    ],
}
