"""Wrong answers to the exercise of notebook 11."""

WRONG = {
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
