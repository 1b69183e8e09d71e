"""Exercises of notebook 04: the floor, the second buffer, the smallest K. Judged by the memory lens."""

from collections.abc import Callable

from accum_lib.lessons.kit.feedback import BLANK, Feedback, is_blank, not_yet, right, runs
from accum_lib.memory.planner import smallest_steps
from accum_lib.memory.prediction import Prediction, predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import mlp_workload
from accum_lib.words import _

MODEL = mlp_workload(hidden=2048, layers=3)
NARROW = mlp_workload(hidden=64)  # its activations are most of what it needs
PARAMETERS = 64 * 2048 + 2048 + 2 * (2048 * 2048 + 2048) + 2048 * 10 + 10
CLOSE = 0.02  # relative: biases are rounded up, a micro-batch is not quite nothing


@runs
def check_floor(floor_bytes: Callable[[int], float]) -> Feedback:
    """Exercise 1: ``floor_bytes(parameters)`` of AdamW in float32, PyTorch's default on a GPU."""
    given = floor_bytes(PARAMETERS)
    if is_blank(given):
        return not_yet(_(BLANK))
    true = _prediction().floor_bytes(2) - _prediction().device.workspace_bytes
    each = given / PARAMETERS
    if abs(given / true - 1) < CLOSE:
        return right(
            _(
                "{each:.0f} bytes for each parameter: weight, gradient, two moments, and one temporary of "
                "the optimizer. The lens says {true:.1f}.",
                each=each,
                true=true / PARAMETERS,
            )
        )
    hints = {
        4: _("that is the weights alone. What else is there for each of them?"),
        8: _("weights and gradients; AdamW keeps two moments besides."),
        12: _("which of the four is missing: weight, gradient, first moment, second moment?"),
        16: _(
            "weight, gradient and two moments are right. But the default AdamW works on all parameters at "
            "once, and needs one more of their size while it does."
        ),
    }
    hint = next(
        (h for n, h in hints.items() if abs(each - n) < 0.5), _("count what there is for one parameter.")
    )
    return not_yet(_("you say {each:.1f} bytes for each parameter: {hint}", each=each, hint=hint))


@runs
def check_second_buffer(extra_bytes: Callable[[int, int], float]) -> Feedback:
    """Exercise 2: ``extra_bytes(parameters, accumulation_steps)``, beyond K = 1, during a backward pass."""
    given = {k: extra_bytes(PARAMETERS, k) for k in (1, 2, 4)}
    if is_blank(given[2]):
        return not_yet(_(BLANK))
    found = predict(MODEL, Settings(optimizer="sgd"), hopper=False)
    first = _backward_peak(found, 1)
    true = {k: _backward_peak(found, k) - first for k in given}
    unit = 4 * PARAMETERS
    if given[1] != 0:
        return not_yet(_("with K = 1 there is nothing extra, so 0; you say {given:,.0f}.", given=given[1]))
    if abs(given[4] - 3 * unit) < 0.1 * unit:
        return not_yet(_("every micro-batch adds to the same gradients; there are never K sets of them."))
    if all(abs(given[k] - true[k]) < 0.1 * unit for k in given):
        return right(_("One set of gradients from the second micro-batch on, and none for any further one."))
    if given[2] == 0:
        return not_yet(_("when the second micro-batch begins, what of the first one is still there?"))
    return not_yet(
        _(
            "for K = 2 you say {given_two:.1f} bytes for each parameter; the lens says {true_two:.1f}. For "
            "K = 4 you say {given_four:.1f}; it says {true_four:.1f}.",
            given_two=given[2] / PARAMETERS,
            true_two=true[2] / PARAMETERS,
            given_four=given[4] / PARAMETERS,
            true_four=true[4] / PARAMETERS,
        )
    )


@runs
def check_steps(steps: Callable[[int, int], int]) -> Feedback:
    """Exercise 3: ``steps(effective_batch, largest_micro_batch)``, the smallest K.

    Compared with the planner, on limits that allow just this largest M.
    """
    if is_blank(steps(8, 4)):
        return not_yet(_(BLANK))
    found = predict(NARROW, Settings(optimizer="sgd"), hopper=False)
    for batch, largest in ((512, 256), (600, 256), (700, 512), (200, 256)):
        planned = smallest_steps(found, found.peak_bytes(largest, 2), batch)
        assert planned is not None
        given = steps(batch, largest)
        if given == planned[1]:
            continue
        if given != int(given):
            return not_yet(
                _(
                    "K = {given:.4g} for B = {batch}, M up to {largest}: there are no parts of a pass.",
                    given=given,
                    batch=batch,
                    largest=largest,
                )
            )
        if given == 0 or given * largest < batch:
            return not_yet(
                _(
                    "for B = {batch} and M up to {largest} you say K = {given}: that reaches {reached} "
                    "examples, which is too few. The last micro-batch may be smaller than M.",
                    batch=batch,
                    largest=largest,
                    given=given,
                    reached=given * largest,
                )
            )
        return not_yet(
            _(
                "for B = {batch} and M up to {largest} you say K = {given}; K = {enough} is enough, and "
                "every further micro-batch takes time.",
                batch=batch,
                largest=largest,
                given=given,
                enough=planned[1],
            )
        )
    return right(_("Round up; and K = 1 if the whole batch fits."))


def _prediction() -> Prediction:
    return predict(MODEL, Settings(), hopper=False)


def _backward_peak(prediction: Prediction, steps: int, micro_batch_size: int = 4096) -> float:
    """The peak where activations are many, so that it is in a backward pass."""
    line = prediction.timeline(micro_batch_size, steps, moments=1)
    assert line.peak_phase != "update"
    inputs = micro_batch_size * (64 * 4 + 8) * (steps - 1)  # further batches of the window are there, too
    return line.peak_bytes - inputs
