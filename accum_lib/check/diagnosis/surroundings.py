"""What is not the gradient's weighing: the model, the scheduler, averages of the weights, logged losses."""

from itertools import pairwise

import numpy as np

from accum_lib.check.diagnosis.clipping import ALIKE
from accum_lib.check.diagnosis.evidence import Evidence, counted, counts_of, support
from accum_lib.check.report import Diagnosis, Report, UpdateCheck
from accum_lib.words import _, listed


def surroundings(report: Report, evidence: Evidence) -> list[Diagnosis]:
    """Faults beside the gradient itself: they are looked for in equal loops, too."""
    rules = (_scheduler, _averages, _logged, _missing, _modes_changed)
    return [d for rule in rules if (d := rule(report, evidence))]


def model_limits(report: Report, evidence: Evidence) -> list[Diagnosis]:
    """What no loop can mend: masks that are drawn, and models that see the whole batch."""
    facts = report.model
    if facts.moving:
        return [Diagnosis("moving_state", _moving(facts.moving))]
    if facts.random_error > 0:
        words = _(
            "the model draws random masks (dropout), so two gradients of the same micro-batch differ by "
            "{random_error:.0%}: equality can't be seen. Check with dropout off",
            random_error=facts.random_error,
        )
        return [Diagnosis("random_masks", words)]
    if not _sees_the_batch(report):
        return []
    off = _(
        "micro-batches, rightly added up, are {batch_error:.1%} off from one big batch",
        batch_error=facts.batch_error,
    )
    if facts.without_batch_norm <= 10 * report.tolerance:
        words = _(
            "BatchNorm's statistics see M examples and not B: {off}; with its statistics held fixed they "
            "are equal ({without_batch_norm:.0e})",
            off=off,
            without_batch_norm=facts.without_batch_norm,
        )
        return [Diagnosis("batch_norm", words)]
    name = _count_that_fits(evidence)
    if name is not None:
        words = _(
            "the case's count is not what its loss is a sum of: {off}, and its mean is one over {name}. See "
            "accum_lib.losses.check_count",
            off=off,
            name=name,
        )
        return [Diagnosis("wrong_count", words)]
    words = _(
        "the loss or the model compares examples of a batch with each other (in-batch negatives?), or its "
        "mean was not divided by the case's count: {off}",
        off=off,
    )
    return [Diagnosis("batch_dependent", words)]


def _count_that_fits(evidence: Evidence) -> str | None:
    """What the loss is a mean over instead of the case's count: it makes the micro-batches' means add up."""
    case, reference = evidence.case, evidence.reference
    window = [i for i in max(case.windows(), key=len) if reference.counts[i] > 0]
    batches = [*(case.batches[i] for i in window), case.big_batch(window)]
    own = [float(case.count(batch)) for batch in batches]
    means = [value / number for value, number in zip(reference.loss_sums_of(batches), own, strict=True)]
    for name in counts_of(batches[-1]):
        other = [counts_of(batch).get(name, 0.0) for batch in batches]
        *parts, whole = [mean * number for mean, number in zip(means, other, strict=True)]
        if not np.allclose(other, own) and abs(sum(parts) - whole) <= 1e-5 * abs(whole):
            return name
    return None


def _moving(moving: dict[str, float]) -> str:
    return _(
        "each forward pass changes the model itself ({names}), so that the next gradient of the same "
        "micro-batch is {error:.1g} off: K passes are not one, whatever the loop does. Hold it still (in "
        "evaluation mode, if it heeds that) to be equal",
        names=listed([name or _("the model") for name in sorted(moving, key=lambda n: -moving[n])][:3]),
        error=max(moving.values()),
    )


def only_the_model(report: Report) -> bool:
    """Whether the loop weighs every micro-batch rightly, so that whatever differs is the model's doing."""
    if report.model.random_error > 0 or report.model.moving:
        return True
    complete = len(report.updates) == report.expected_updates
    return _sees_the_batch(report) and complete and all(_weighs_rightly(u) for u in report.updates)


def _sees_the_batch(report: Report) -> bool:
    return report.model.batch_error > 10 * report.tolerance


def _weighs_rightly(update: UpdateCheck) -> bool:
    inside = counted(update)
    right = all(abs(update.weights[i] - 1) < ALIKE for i in inside)
    return right and set(support(update)) == set(inside)


def _scheduler(report: Report, evidence: Evidence) -> Diagnosis | None:
    """A scheduler changes the learning rate within a window, or ticks several times for an update.

    A rate that the loop itself sets in each pass, as a function of progress, is right: the last one counts.
    """
    updates, passes = evidence.recorder.updates, evidence.recorder.passes
    pairs = [(passes[a], passes[b]) for _window, js in evidence.inner_passes() for a, b in pairwise(js)]
    changed = [
        (a.learning_rate, b.learning_rate) for a, b in pairs if _differ(a.learning_rate, b.learning_rate)
    ]
    most = int(np.diff([u.ticks for u in updates]).max(initial=0))
    ticking = report.ticks is not None or evidence.recorder.calls.of("tick")
    if most < 2 and not (changed and ticking):
        return None
    ticks = (
        _("up to {most} ticks for one update", most=most)
        if report.ticks is not None
        else _("the learning rate changes")
    )
    if changed:
        ticks += _(
            "; within one window the rate goes from {before:.4g} to {after:.4g}",
            before=changed[0][0],
            after=changed[0][1],
        )
    return Diagnosis(
        "scheduler_per_micro_batch",
        _("the scheduler ticks per micro-batch, not per update: {ticks}", ticks=ticks),
    )


def _differ(one: float | None, other: float | None) -> bool:
    """Whether two learning rates are known and not the same."""
    return one is not None and other is not None and abs(one - other) > 0  # False where one is NaN


def _averages(report: Report, evidence: Evidence) -> Diagnosis | None:
    most = int(np.diff([u.averages for u in evidence.recorder.updates]).max(initial=0))
    if most < 2:
        return None
    return Diagnosis(
        "ema_per_micro_batch",
        _(
            "the average of the weights is updated up to {most} times for each optimizer update, mostly "
            "with weights that have not moved: it forgets that much faster",
            most=most,
        ),
    )


def _logged(report: Report, evidence: Evidence) -> Diagnosis | None:
    """The losses that the loop returned, one for each update, beside the windows' true means."""
    if len(evidence.losses) != len(report.updates) or not all(u.expected for u in report.updates):
        return None
    if report.model.random_error > 0 or report.model.moving or not report.updates:
        return None
    true, last, means = (np.array(column) for column in zip(*_window_losses(report, evidence), strict=True))
    logged, k = np.array(evidence.losses), report.accumulation_steps
    if _same(logged, true):
        return None
    numbers = _(
        "(update 0: {logged:.4f} where the window's mean is {true:.4f})", logged=logged[0], true=true[0]
    )
    ends = np.array([report.counts[u.expected[-1]] > 0 for u in report.updates])  # an empty one has no mean
    if _same(logged[ends], last[ends]) or _same(logged[ends] * k, last[ends]):
        return Diagnosis(
            "last_loss_logged",
            _("the logged loss is the last micro-batch's alone {numbers}", numbers=numbers),
        )
    if _same(logged, means):
        return Diagnosis(
            "mean_of_means_logged", _("the logged loss is a mean of means {numbers}", numbers=numbers)
        )
    return Diagnosis(
        "wrong_loss_logged", _("the logged loss is not the window's mean {numbers}", numbers=numbers)
    )


def _window_losses(report: Report, evidence: Evidence) -> list[tuple[float, float, float]]:
    """For each update: its window's mean loss, its last micro-batch's, and the mean of the means."""
    rows = []
    for check, update in zip(report.updates, evidence.recorder.updates, strict=True):
        evidence.reference.load(update)
        inside = counted(check) or [i for i in check.expected if report.counts[i] > 0]
        sums = evidence.reference.loss_sums(inside)
        means = [s / report.counts[i] for s, i in zip(sums, inside, strict=True)]
        rows.append((sum(sums) / report.counts[inside].sum(), means[-1], sum(means) / len(means)))
    return rows


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one, other, rtol=ALIKE, atol=0))


def _modes_changed(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Within a window modules go from training to evaluation mode or back, and that shows."""
    passes = evidence.recorder.passes
    pairs = [pair for _window, js in evidence.inner_passes() for pair in pairwise(js)]
    changed = [(a, b) for a, b in pairs if passes[a].how.still() != passes[b].how.still()]
    if report.equal or not changed:
        return None
    words = _(
        "within a window the model goes from one mode to another (training, evaluation), at first after "
        "backward pass {number}: is model.train() missing after an evaluation?",
        number=changed[0][0],
    )
    return Diagnosis("mode_changed", words)


def _missing(report: Report, evidence: Evidence) -> Diagnosis | None:
    missing = sorted({name for u in report.updates for name in u.missing})
    if not missing or not evidence.recorder.moved():  # where nothing has moved, that is the fault
        return None
    words = _(
        "{missing} parameters get no gradient although they should, such as {first}",
        missing=len(missing),
        first=missing[0],
    )
    return Diagnosis("missing_gradient", words)
