"""Wrong answers to the exercises of notebook 02."""

from accum_lib.check.faults import loops


def does_nothing(model, optimizer, batches, accumulation_steps):
    pass


def fails(model, optimizer, batches, accumulation_steps):
    return 1 / 0


WRONG = {
    "check_loop": [
        (does_nothing, "no update was made"),
        (loops.mean_of_means, "a mean of means"),
        (loops.no_division, "nothing divides by K"),
        (loops.off_by_one, "wrong places"),
        (loops.dropped_tail, "trailing window"),
        (fails, "raised ZeroDivisionError"),
    ],
    "check_mean_of_means_weight": [
        (lambda i, n: ..., "returns nothing yet"),
        (lambda i, n: 1 / len(n), "the share of the update that it gets"),
        (lambda i, n: n[i] / sum(n), "the share that it should get. Compare"),
        (lambda i, n: len(n) * n[i] / sum(n), "Upside down"),
        (lambda i, n: 1.0, "all count the same"),
        (lambda i, n: n[i] / max(n), "Which share of the update"),
        (lambda i, n: n[i] / 0, "raised ZeroDivisionError"),
    ],
    "check_data": [
        (..., "give the counts"),
        (([4, 4, 4, 4], 2), "4 of 5 loops still pass"),
        (([4, 4, 4], 2), "1 of 5 loops still pass for right: A mean of means"),
        (([1, 2, 3, 4, 5], 2), "with 5 micro-batches. It can be done with fewer"),
        (([1, 3, 2], 2), "with 3 micro-batches. It can be done with fewer"),
        (([1, 2], 2), "3 of 5 loops still pass"),
        (([1, 2.5, 1], 2), "whole numbers"),
        (([], 2), "whole numbers"),
        (([1, 2, 1], 0), "K is 1 or more"),
        (7, "raised TypeError"),
    ],
}
