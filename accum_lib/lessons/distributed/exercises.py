"""Exercises of notebook 08: the share under DDP, bytes per example, the K from which waiting is cheap."""

import math
from collections.abc import Callable

from accum_lib.lessons.distributed.networks import predict_times
from accum_lib.lessons.distributed.record import Network, ProcessWork
from accum_lib.lessons.kit.feedback import BLANK, Feedback, is_blank, not_yet, right, runs
from accum_lib.words import _

SHARDS = ([3.0, 5.0], [4.0])  # gradients of loss sums, of two processes
COUNTS = (10, 2)  # tokens that they count


@runs
def check_share(share: Callable[[int, float], float]) -> Feedback:
    """Exercise 1: ``share(world_size, total)``, what each loss sum is multiplied by before its backward pass.

    Tried on two processes of 10 and 2 tokens, averaged as DDP does.
    """
    world_size, total = len(SHARDS), sum(COUNTS)
    given = share(world_size, total)
    if is_blank(given):
        return not_yet(_(BLANK))
    averaged = sum(given * sum(shard) for shard in SHARDS) / world_size
    true = sum(map(sum, SHARDS)) / total
    if math.isclose(averaged, true, rel_tol=1e-9):
        return right(_("DDP divides the sum over processes by their number, and the share undoes that."))
    near = [
        (1 / total, _("It comes out world_size times too small: DDP averages, it does not add up.")),
        (
            1 / world_size,
            _("DDP divides by world_size of its own accord; and by what is a loss *sum* divided?"),
        ),
        (1, _("A sum over all tokens is to become a mean over them.")),
        (total / world_size, _("Upside down: the more tokens there are, the less each of them counts.")),
    ]
    hint = next((words for value, words in near if math.isclose(given, value)), _("What does DDP divide by?"))
    return not_yet(
        _(
            "on 2 processes that count 10 and 2, the gradient is {averaged:.3g}, not {true:.3g}. {hint}",
            averaged=averaged,
            true=true,
            hint=hint,
        )
    )


@runs
def check_bytes(bytes_per_example: Callable[[float, int, int, bool], float]) -> Feedback:
    """Exercise 2: ``bytes_per_example(gradient_bytes, M, K, every_micro_batch)`` of one process."""
    if is_blank(bytes_per_example(1000.0, 4, 1, False)):
        return not_yet(_(BLANK))
    for m, k in ((4, 1), (4, 5), (8, 2)):
        found = predict_times(ProcessWork(1000.0, m, 1.0, 0.0), Network(0.0, 1.0), 2, (k,))
        for every, true in ((False, found.bytes_deferred[0]), (True, found.bytes_every[0])):
            given = bytes_per_example(1000.0, m, k, every)
            if not math.isclose(given, true, rel_tol=1e-9):
                when = _("in every pass") if every else _("in the last pass only")
                return not_yet(
                    _(
                        "1000 bytes, M = {m}, K = {k}, averaging {when}: you say {given:g} bytes. {hint}",
                        m=m,
                        k=k,
                        when=when,
                        given=given,
                        hint=_bytes_hint(given, true, m, k, every),
                    )
                )
    return right(_("Once per update or K times, over M·K examples."))


def _bytes_hint(given: float, true: float, m: int, k: int, every: bool) -> str:
    if math.isclose(given, true * m * k):
        return _("That is what an update sends; how many examples does it have?")
    if math.isclose(given, true * k):
        return _("An update has M·K examples, not M.")
    if every and math.isclose(given, true / k):
        return _("That is right if gradients are sent once in an update; here it is once in every pass.")
    return _("How often are all gradients sent in an update, and how many examples does it have?")


@runs
def check_enough(smallest_steps: Callable[[float, float, float], int]) -> Feedback:
    """Exercise 3: ``smallest_steps(pass_seconds, averaging_seconds, tolerance)``, as the forecast has it."""
    if is_blank(smallest_steps(0.1, 0.4, 0.1)):
        return not_yet(_(BLANK))
    for c, a, tolerance in ((0.1, 0.4, 0.25), (0.1, 0.33, 0.1), (1.0, 0.05, 0.1)):
        network = Network(0.0, 1.0 / a)  # two processes: an all-reduce of one byte takes a seconds
        true = predict_times(ProcessWork(1.0, 1, c, 0.0), network, 2, range(1, 100), tolerance).enough
        given = smallest_steps(c, a, tolerance)
        if given != true:
            assert true is not None
            return not_yet(
                _(
                    "a pass of {c:g} s, an averaging of {a:g} s, tolerance {tolerance:.0%}: you say "
                    "{given:.4g}, the forecast K = {true}. {hint}",
                    c=c,
                    a=a,
                    tolerance=tolerance,
                    given=given,
                    true=true,
                    hint=_enough_hint(given, true, c, a),
                )
            )
    return right(_("K need only be large enough that one averaging is little beside K passes."))


def _enough_hint(given: float, true: int, c: float, a: float) -> str:
    if given != int(given):
        return _("There are no parts of a micro-batch: round up to a whole number.")
    if given > true:
        return _("A smaller K is within the tolerance already: round up only what is not whole.")
    if given < 1:
        return _("An update has one micro-batch at least.")
    added = a / (given * c)
    return _(
        "With your K the averaging adds {added:.0%} to the passes: what part of K·{c:g} s may it be?",
        added=added,
        c=c,
    )
