"""Faults in the division: the weights that were found, beside those that known mistakes give.

A loop that divides wrongly gives each micro-batch's loss **sum** another coefficient than one over its
window's count. Each known mistake has a formula for that coefficient; the first one that fits all the
coefficients which were found is named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from accum_lib.check.case import Case, rows_of
from accum_lib.check.compare import micro_batch_weights
from accum_lib.check.diagnosis.clipping import ALIKE, shortening
from accum_lib.check.diagnosis.evidence import COARSE, Evidence, Window, counted, counts_of, support
from accum_lib.check.diagnosis.parts import coarse_sum
from accum_lib.check.reference import norm
from accum_lib.check.report import Diagnosis, Report, UpdateCheck
from accum_lib.words import _, listed, sentences


@dataclass(frozen=True)
class Weighing:
    """A way to weigh micro-batches: names of faults, their words, the coefficient of each loss sum."""

    codes: tuple[str, ...]
    words: str
    coefficient: Callable[[Window, int], float]


@dataclass(frozen=True)
class WeighedPass:
    """One micro-batch in one update: the window it was in, its number, the coefficient of its loss sum.

    ``clipped`` is the update's number if it was multiplied by a factor that is not known, up to ``most``.
    """

    window: Window
    number: int
    coefficient: float
    clipped: int | None = None
    most: float = 1.0


@dataclass(frozen=True)
class Shortened(UpdateCheck):
    """An update that was clipped, perhaps by this factor: only its weights' ratios are sure.

    The factor is at most ``most``.
    """

    number: int
    factor: float | None
    most: float = 1.0


# With these the weights say nothing: what was added up is not in the buffer any more, or is there twice.
MEANINGLESS = {"not_finite", "not_moved", "divided_again", "unused_micro_batches", "reordered"}
USUAL = (("skipped_in_divisor",), ("tail_divided_by_k",), ("mean_of_means",))  # before what a clip may hide
NO_LENGTH = {"off_by_one", "clipped_per_micro_batch"}  # then no window is the trailing one, or it is clipped
OVERLAID = {"clipped_per_micro_batch", "not_cleared"}  # but what each pass has added still says it


def weighing(report: Report, evidence: Evidence, known: set[str]) -> list[Diagnosis]:
    """Name what the weights show. ``known`` are faults in the moments, which can make weights meaningless."""
    if known & MEANINGLESS:
        return []
    every = _with_the_clip_noted(report, evidence)
    if known & OVERLAID:
        every = _as_added(report, evidence, "clipped_per_micro_batch" in known)
    if "off_by_one" in known and evidence.pieces() == evidence.due():
        # Only a later epoch is cut wrongly: the first one shows how micro-batches are weighed.
        known, every = known - {"off_by_one"}, [u for u in every if u.epoch == 0]
    whole = [u for u in every if set(counted(u)) <= set(support(u))]
    shifted = bool(known & {"off_by_one", "stepped_per_micro_batch", "leaked_tail"})
    updates = every if shifted or "cleared_mid_window" in known else whole
    for group in (updates, *_by_epoch(updates)):
        found = _explain_all(group, evidence, shifted)
        if found is not None:
            coarse = max((u.unexplained for u in group), default=0.0) > report.tolerance
            hidden = {"tail_divided_by_k"} if known & NO_LENGTH else set()
            found = [
                d for d in found if d.code not in hidden and (coarse or d.code != "low_precision_buffer")
            ]
            return list({d.code: d for d in reversed(found)}.values())[::-1]  # each fault once
    return []


def _as_added(report: Report, evidence: Evidence, each_clipped: bool) -> list[UpdateCheck]:
    """The updates with the weights that their backward passes have added, whatever has become of that since.

    Where something else was done to a clipped buffer, no length is known.
    """
    found, done, clip = list[UpdateCheck](), 0, evidence.clip
    passes = evidence.recorder.passes
    for number, (check, update) in enumerate(zip(report.updates, evidence.recorder.updates, strict=True)):
        evidence.reference.load(update)
        added = [micro_batch_weights(p.added(), evidence.reference, evidence.case)
                 for p in passes[done : update.passes]]  # fmt: skip
        factor = shortening(update, passes, done)  # such as a division at the end
        before = [norm(p.before) for p in passes[done + 1 : update.passes]]
        done = update.passes
        if not added:
            continue
        weights = np.sum([weights for weights, _rest in added], axis=0)
        now = replace(check, weights=weights, unexplained=max(rest for _weights, rest in added))
        to_the_norm = clip is not None and number in clip.factors
        as_before = any(abs(length - norm(update.gradient)) <= ALIKE * length for length in before)
        if each_clipped and as_before:
            found.append(now)  # nothing but clips has changed what was added
        elif each_clipped or to_the_norm:
            found.append(Shortened(**vars(now), number=number, factor=None, most=np.inf))
        elif factor:
            found.append(replace(now, weights=weights * factor))
    return found


def _with_the_clip_noted(report: Report, evidence: Evidence) -> list[UpdateCheck]:
    """The updates; of clipped ones those that are wrong, with the factor by which they were shortened."""
    clip = evidence.clip
    if clip is None:
        return list(report.updates)
    pairs = [(number, u, clip.factors.get(number)) for number, u in enumerate(report.updates)]
    # Where all else that was done to the buffer is clipping, each factor is the clip's.
    alone = clip.alone or any(f and _weighs(u, f) for _number, u, f in pairs)
    noted = []
    for number, update, factor in pairs:
        if number not in clip.factors:
            noted.append(update)
        elif alone and factor:
            noted.append(replace(update, weights=update.weights / factor))
        elif not update.relative_error <= report.tolerance:
            noted.append(Shortened(**vars(update), number=number, factor=factor))
    return noted


def _weighs(update: UpdateCheck, factor: float) -> bool:
    inside = counted(update)  # of one alone it can't be told whether it is divided by the window's length
    return len(inside) > 1 and all(abs(update.weights[i] - factor) <= ALIKE * factor for i in inside)


def _by_epoch(updates: list[UpdateCheck]) -> list[list[UpdateCheck]]:
    """The updates of each epoch, the last one first: a fault may begin late."""
    return [[u for u in updates if u.epoch == e] for e in sorted({u.epoch for u in updates}, reverse=True)]


def _explain_all(updates: list[UpdateCheck], evidence: Evidence, shifted: bool) -> list[Diagnosis] | None:
    """What the weights of these updates show; None if nothing is known that fits."""
    updates = [u for u in updates if support(u)]
    k, ways = evidence.case.accumulation_steps, _ways(evidence)
    full = [u for u in updates if shifted or len(u.expected) in (0, k)]
    tails = [u for u in updates if not any(u is f for f in full)]
    found, way = _explain(full, _("on full windows"), ways, evidence, shifted)
    likely = [way] if way else []  # what is wrong on full windows is likely the same in the trailing one
    more, other = _explain(tails, _("in the trailing window"), ways, evidence, shifted, likely)
    if (way or not full) and (other or not tails):
        return found + more
    return _no_known_way(updates, evidence) or coarse_sum(updates, evidence) or None


def _explain(
    updates: list[UpdateCheck],
    place: str,
    ways: list[Weighing],
    evidence: Evidence,
    shifted: bool,
    likely: Sequence[Weighing] = (),
) -> tuple[list[Diagnosis], Weighing | None]:
    """The faults in these updates' weights, and the way of weighing that fits them."""
    alike = min(max(ALIKE, 10 * max((u.unexplained for u in updates), default=0.0)), COARSE)
    loose, strict = (
        [_coefficients(updates, evidence, own, free) for own in ((False, True) if shifted else (False,))]
        for free in (True, False)
    )
    usual = [w for w in ways[1:] if w.codes in USUAL]
    groups = (ways[:1], [*likely, *usual], [w for w in ways[1:] if w not in usual])
    tries = [(seen, group) for group in groups for seen in strict + loose]
    for seen, candidates in tries:
        way = next((w for w in candidates if seen and _fits(w, seen, alike)), None)
        if way is not None:
            found = [
                Diagnosis(code, sentences(way.words, _measured(updates, place, evidence)))
                for code in way.codes
            ]
            return found + _short_window(way, seen, evidence, alike) + coarse_sum(updates, evidence), way
    return [], None


def _coefficients(
    updates: list[UpdateCheck], evidence: Evidence, own_pieces: bool, free: bool = True
) -> list[WeighedPass]:
    """The coefficients that were found, in the windows as they are due or in the pieces as they were made.

    Where an update was clipped, its scale is left ``free``, or the clip's factor is taken out.
    """
    found = []
    for update in updates:
        piece = tuple(support(update))
        inside = [i for i in piece if i in update.expected]
        factor, clipped, most = 1.0, None, 1.0
        if isinstance(update, Shortened):
            most = update.most
            factor, clipped = (1.0, update.number) if free or not update.factor else (update.factor, None)
        for i in piece if own_pieces or not inside else inside:
            window = evidence.window_of(i)
            coefficient = update.weights[i] / factor / evidence.total(window)
            found.append(WeighedPass(piece if own_pieces else window, i, coefficient, clipped, most))
    return found


def _fits(way: Weighing, seen: list[WeighedPass], alike: float) -> bool:
    """Each coefficient is the way's; where an update was clipped, up to one factor of at most 1."""
    pairs = [(f.clipped, f.coefficient, way.coefficient(f.window, f.number)) for f in seen]
    factors: dict[int | None, float] = {None: 1.0}
    for f, (clipped, found, expected) in zip(seen, pairs, strict=True):
        factors.setdefault(clipped, min(found / expected, f.most + alike))
    return all(abs(found - factors[c] * expected) <= alike * abs(expected) for c, found, expected in pairs)


def _short_window(
    way: Weighing, seen: list[WeighedPass], evidence: Evidence, alike: float
) -> list[Diagnosis]:
    """A mean of means over K where there are fewer than K: the shares add up to r/K and not to 1."""
    k, window = evidence.case.accumulation_steps, seen[0].window
    if "mean_of_means" not in way.codes or not all(0 < len(f.window) < k and f.clipped is None for f in seen):
        return []
    parts = {
        f.number: f.coefficient * float(evidence.reference.counts[f.number])
        for f in seen
        if f.window == window
    }
    share = sum(parts.values()) * (k if "divided_twice" in way.codes else 1)
    if share > 1 - max(alike, 0.01):
        return []
    words = _(
        "the trailing window of {r} is divided by K = {k}: its shares add up to {share:.3g}, not 1",
        r=len(window),
        k=k,
        share=share,
    )
    return [Diagnosis("tail_divided_by_k", words)]


def _no_known_way(updates: list[UpdateCheck], evidence: Evidence) -> list[Diagnosis]:
    """One factor for each window: the divisor is not what counts, whatever it is.

    The loss is a sum, or a mean of means, or weighs by samples.
    """
    sure, ways = [f for f in _coefficients(updates, evidence, False) if f.clipped is None], _ways(evidence)
    for codes, number in (((), 1), (("mean_of_means",), 2), (("weighted_by_samples",), 1)):
        found = []
        for way in [way for way in ways if way.codes == codes][:number]:
            factors: dict[Window, list[float]] = {}
            for f in sure:
                factor = f.coefficient / way.coefficient(f.window, f.number)
                factors.setdefault(f.window, []).append(factor)
            if factors and all(_agree(values) for values in factors.values()):
                found.append((way.words, {window: values[0] for window, values in factors.items()}))
        if found:
            words, each = next((f for f in found if _agree(list(f[1].values()))), found[0])
            place = _measured(updates, _("in each window"), evidence)
            return [*(Diagnosis(code, sentences(words, place)) for code in codes), _scale(each, evidence)]
    return []


def _scale(each: dict[Window, float], evidence: Evidence) -> Diagnosis:
    """By what factor windows are off: always the same, or by another divisor than what counts."""
    if _agree(list(each.values())):
        words = _(
            "every micro-batch weighs {factor:.4g} times what it should: the divisor is not the window's "
            "count",
            factor=next(iter(each.values())),
        )
        return Diagnosis("wrong_scale", words)
    window, factor = max(each.items(), key=lambda item: abs(item[1] - 1))
    total = evidence.total(window)
    words = _(
        "the divisor is not the window's count: where {total:g} count, it is {divisor:.4g}",
        total=total,
        divisor=total / factor,
    )
    return Diagnosis("wrong_denominator", words)


def _agree(values: list[float]) -> bool:
    return max(values) - min(values) <= ALIKE * max(map(abs, values))


def _measured(updates: list[UpdateCheck], place: str, evidence: Evidence) -> str:
    shown = max(updates, key=lambda u: max((abs(u.weights[i] - 1) for i in support(u)), default=0.0))
    inside = [i for i in support(shown) if i in shown.expected] or support(shown)
    weights = listed([f"{shown.weights[i]:.3g}" for i in inside])
    if evidence.clip is not None:  # then no length says anything
        return _("{place} weights are {weights}, not alike or not 1", place=place, weights=weights)
    return _(
        "{place} the gradient is {scale:.2f} times as long as it should be; weights {weights}, not 1",
        place=place,
        scale=shown.scale,
        weights=weights,
    )


def _ways(evidence: Evidence) -> list[Weighing]:
    """The right way first, then known mistakes, from the simplest on."""
    n, k, total = evidence.reference.counts.numpy(), evidence.case.accumulation_steps, evidence.total
    rows = np.array([float(rows_of(b)) for b in evidence.case.batches])
    means = _("a mean of means: micro-batches weigh alike, however much each of them counts;")
    twice = _("the micro-batches' means are divided by K twice;")
    ways = [
        Weighing((), "", lambda w, i: 1 / total(w)),
        Weighing(("tail_divided_by_k",),
                 _("a shorter window is divided as if it had K = {k} micro-batches;", k=k),
                 lambda w, i: len(w) / (k * total(w))),
        Weighing(("mean_of_means",), means, lambda w, i: 1 / (len(w) * n[i])),
        Weighing(("mean_of_means",), means, lambda w, i: 1 / (k * n[i])),
        Weighing(("no_division",), _("nothing divides by K: the micro-batches' means are added up;"),
                 lambda w, i: 1 / n[i]),
        Weighing(("divided_twice",), _("the window's mean is divided by K once more;"),
                 lambda w, i: 1 / (k * total(w))),
        Weighing(("divided_twice",), _("the window's mean is divided by its length once more;"),
                 lambda w, i: 1 / (len(w) * total(w))),
        Weighing(("mean_of_means", "divided_twice"), twice, lambda w, i: 1 / (k * k * n[i])),
        Weighing(("mean_of_means", "divided_twice"), twice, lambda w, i: 1 / (k * len(w) * n[i])),
        Weighing(("mean_of_means", "divided_twice"), twice, lambda w, i: 1 / (len(w) ** 2 * n[i])),
        Weighing(("divided_twice",), _("the micro-batches' means are divided by what counts once more;"),
                 lambda w, i: 1 / n[i] ** 2),
        Weighing(("divided_twice",), _("the micro-batches' means are divided by what counts once more;"),
                 lambda w, i: 1 / (k * n[i] ** 2)),
        Weighing(("sum_not_mean",), _("losses are summed, and never divided by what counts;"),
                 lambda w, i: 1.0),
        Weighing(("sum_not_mean",), _("losses are summed, and divided by K instead of what counts;"),
                 lambda w, i: 1 / k),
        Weighing(("sum_not_mean",),
                 _("losses are summed, and divided by their number instead of what counts;"),
                 lambda w, i: 1 / len(w)),
        Weighing(("weighted_by_samples",), _("micro-batches weigh by their samples, not by what counts;"),
                 lambda w, i: rows[i] / (n[i] * rows[list(w)].sum())),
        Weighing(("weighted_by_samples", "no_division"),
                 _("means are multiplied by their micro-batch's samples, and the sum is never divided;"),
                 lambda w, i: rows[i] / n[i]),
        Weighing(("weighted_by_samples",),
                 _("means are multiplied by their micro-batch's samples, and divided by K;"),
                 lambda w, i: rows[i] / (k * n[i])),
    ]  # fmt: skip
    done = evidence.case.epochs * int((n > 0).sum())
    if len(evidence.recorder.passes) == done < evidence.case.epochs * len(n):  # a pass for those that count
        ways[1:1] = _with_skipped_ones(n, evidence)
    for name, other in _other_counts(evidence.case).items():
        if not np.allclose(other, n):
            ways += _by_other_count(name, other, k)
    return ways


def _with_skipped_ones(n: np.ndarray, evidence: Evidence) -> list[Weighing]:
    """Micro-batches that were left out are counted in the divisor all the same: by labels, or as one of K."""
    words = _("micro-batches that were skipped, for a loss that is not finite say, stay in the divisor;")
    labels = np.array([counts_of(batch).get(_("labels that are not ignored"), 0.0)
                       for batch in evidence.case.batches])  # fmt: skip
    total, one = evidence.total, ("skipped_in_divisor",)
    ways = [Weighing(one, words, lambda w, i: (n[list(w)] > 0).sum() / (len(w) * total(w)))]
    if not np.allclose(labels, n) and np.allclose(labels[n > 0], n[n > 0]):
        ways.append(Weighing(one, words, lambda w, i: 1 / float(labels[list(w)].sum())))
    return ways


def _by_other_count(name: str, count: np.ndarray, k: int) -> list[Weighing]:
    words = _("divided by the number of {name}, not by what counts", name=name)
    one, both = ("wrong_denominator",), ("wrong_denominator", "mean_of_means")
    return [
        Weighing(one, _("{words};", words=words), lambda w, i: 1 / float(count[list(w)].sum())),
        Weighing(both, _("{words}, and a mean of means;", words=words), lambda w, i: 1 / (k * count[i])),
        Weighing(both, _("{words}, and a mean of means;", words=words), lambda w, i: 1 / (len(w) * count[i])),
        Weighing(
            ("wrong_denominator", "no_division"),
            _("{words}, and not by K;", words=words),
            lambda w, i: 1 / count[i],
        ),
    ]


def _other_counts(case: Case) -> dict[str, np.ndarray]:
    """What else of a micro-batch could be mistaken for its count, where all micro-batches have it."""
    each = [counts_of(batch) for batch in case.batches]
    names = [name for name in each[0] if all(name in counts for counts in each)]
    return {name: np.maximum([counts[name] for counts in each], 1e-9) for name in names}
