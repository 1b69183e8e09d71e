"""Advice in sentences: what fits, what the batch buys, how sure that is, what it costs, what cannot help."""

import math
from dataclasses import replace

from accum_lib.lessons.choose_k.record import Advice
from accum_lib.words import _

WORTH_SAYING = 1.01  # times as fast
UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def reasons(advice: Advice) -> Advice:
    """The same advice with its reasons filled in."""
    if not advice.fits:
        return replace(advice, reasons=(_nothing_fits(advice),))
    if advice.noise is None:
        return replace(advice, reasons=(_memory(advice), _unknown_noise(advice)))
    parts = (_memory(advice), _batch(advice), _uncertainty(advice), _time(advice))
    return replace(advice, reasons=tuple(part for part in parts if part))


def headline(advice: Advice) -> str:
    """The choice itself."""
    if not advice.fits:
        return _("No M fits, so no K helps.")
    if not advice.accumulation_steps:
        return _("K is open: nothing is known of the noise.")
    m, k, b = advice.micro_batch_size, advice.accumulation_steps, advice.effective_batch_size
    return _("Take M = {m}, K = {k}: B = {b}.", m=m, k=k, b=b)


def size(nbytes: float) -> str:
    """Bytes in words."""
    name, unit = next(((n, u) for n, u in UNITS if nbytes >= u), UNITS[-1])
    return f"{nbytes / unit:.3g} {name}"


def _number(value: float) -> str:
    """Three digits, and never an exponent for what one can read."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}".replace("1e+03", "1,000")


def _nothing_fits(a: Advice) -> str:
    if a.floor_bytes > a.limit_bytes:
        return _(
            "{floor} are needed however small M is, and {limit} are allowed: accumulation cannot "
            "help. Fewer bits, a leaner optimizer or another card can (notebook 04).",
            floor=size(a.floor_bytes),
            limit=size(a.limit_bytes),
        )
    return _(
        "Even the smallest micro-batch needs {peak}, and {limit} are allowed: accumulation "
        "cannot help. Checkpointing or shorter examples may (notebook 04).",
        peak=size(a.peak_bytes),
        limit=size(a.limit_bytes),
    )


def _memory(a: Advice) -> str:
    peak = _("{peak} of {limit} allowed", peak=size(a.peak_bytes), limit=size(a.limit_bytes))
    if a.accumulation_steps == 1:
        return _("The whole batch fits ({peak}), so no accumulation is needed.", peak=peak)
    if not a.accumulation_steps:
        return _("Up to M = {m} fits with accumulation ({peak}).", m=a.largest_micro_batch, peak=peak)
    return _(
        "Up to M = {m} fits with accumulation; the choice takes {peak}.", m=a.largest_micro_batch, peak=peak
    )


def _unknown_noise(a: Advice) -> str:
    return _(
        "No noise scale was measured for {model}, so B may be anything from 1 to N = {n:,}: "
        "choose what you know of it, or measure it where it trains.",
        model=_(a.model),
        n=a.num_samples,
    )


def _batch(a: Advice) -> str:
    assert a.noise is not None
    work = _(
        "the same progress takes {updates} times the least updates and {examples} times the least examples",
        updates=_number(a.updates_factor),
        examples=_number(a.examples_factor),
    )
    if a.goal == "balance" and a.effective_batch_size < min(round(a.noise.noise_scale), a.num_samples):
        return _(
            "The inputs of a whole window are on the card together, and no more than these fit. "
            "There {work}.",
            work=work,
        )
    if a.noise.noise_scale >= a.num_samples and a.goal == "balance":
        return _(
            "The noise scale is above N = {n:,}, so an update takes all examples, and {work}: "
            "more data, not a larger K, would be used.",
            n=a.num_samples,
            work=work,
        )
    scale = _number(a.noise.noise_scale)
    return _("At this B and a noise scale of {scale}, {work}.", scale=scale, work=work)


def _uncertainty(a: Advice) -> str:
    assert a.noise is not None
    high = (
        _("without an upper end") if math.isinf(a.noise.high) else _("to {high}", high=_number(a.noise.high))
    )
    how = (
        _("assumed")
        if math.isnan(a.noise.confidence)
        else _("{confidence:.0%} interval", confidence=a.noise.confidence)
    )
    return _(
        "Uncertain: the noise scale is from {low} {high} ({how}), so B is from "
        "{batch_low:,} to {batch_high:,} and K from {steps_low:,} to {steps_high:,}.",
        low=_number(a.noise.low),
        high=high,
        how=how,
        batch_low=a.batch_low,
        batch_high=a.batch_high,
        steps_low=a.steps_low,
        steps_high=a.steps_high,
    )


def _time(a: Advice) -> str:
    if a.seconds is None or a.fastest is None or a.slower is None:
        return _("Nothing was measured on this card, so no time is named, only work.")
    m, k = a.fastest
    update = _(
        "By times measured here an update takes {milliseconds} ms", milliseconds=_number(a.seconds * 1e3)
    )
    if a.slower < WORTH_SAYING:
        return _(
            "{update}, and no other choice that fits is more than 1 % faster to the same progress.",
            update=update,
        )
    return _(
        "{update}; M = {m}, K = {k} would be {slower:.2f} times as fast to the same progress.",
        update=update,
        m=m,
        k=k,
        slower=a.slower,
    )
