"""Advice in sentences: what fits, what the batch buys, how sure that is, what it costs, what cannot help."""

import math
from dataclasses import replace

from accum_lib.records.advice import Advice

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
        return "No M fits, so no K helps."
    if not advice.accumulation_steps:
        return "K is open: nothing is known of the noise."
    m, k, b = advice.micro_batch_size, advice.accumulation_steps, advice.effective_batch_size
    return f"Take M = {m}, K = {k}: B = {b}."


def size(nbytes: float) -> str:
    """Bytes in words."""
    name, unit = next(((n, u) for n, u in UNITS if nbytes >= u), UNITS[-1])
    return f"{nbytes / unit:.3g} {name}"


def _number(value: float) -> str:
    """Three digits, and never an exponent for what one can read."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}".replace("1e+03", "1,000")


def _nothing_fits(a: Advice) -> str:
    if a.floor_bytes > a.limit_bytes:
        return (
            f"{size(a.floor_bytes)} are needed however small M is, and {size(a.limit_bytes)} are allowed: "
            "accumulation cannot help. Fewer bits, a leaner optimizer or another card can (notebook 04)."
        )
    return (
        f"Even the smallest micro-batch needs {size(a.peak_bytes)}, and {size(a.limit_bytes)} are allowed: "
        "accumulation cannot help. Checkpointing or shorter examples may (notebook 04)."
    )


def _memory(a: Advice) -> str:
    peak = f"{size(a.peak_bytes)} of {size(a.limit_bytes)} allowed"
    if a.accumulation_steps == 1:
        return f"The whole batch fits ({peak}), so no accumulation is needed."
    if not a.accumulation_steps:
        return f"Up to M = {a.largest_micro_batch} fits with accumulation ({peak})."
    return f"Up to M = {a.largest_micro_batch} fits with accumulation; the choice takes {peak}."


def _unknown_noise(a: Advice) -> str:
    return (
        f"No noise scale was measured for {a.model}, so B may be anything from 1 to N = {a.num_samples:,}: "
        "choose what you know of it, or measure it where it trains."
    )


def _batch(a: Advice) -> str:
    assert a.noise is not None
    work = (
        f"the same progress takes {_number(a.updates_factor)} times the least updates and "
        f"{_number(a.examples_factor)} times the least examples"
    )
    if a.goal == "balance" and a.effective_batch_size < min(round(a.noise.noise_scale), a.num_samples):
        return (
            "The inputs of a whole window are on the card together, and no more than these fit. There "
            f"{work}."
        )
    if a.noise.noise_scale >= a.num_samples and a.goal == "balance":
        return (
            f"The noise scale is above N = {a.num_samples:,}, so an update takes all examples, and {work}: "
            "more data, not a larger K, would be used."
        )
    return f"At this B and a noise scale of {_number(a.noise.noise_scale)}, {work}."


def _uncertainty(a: Advice) -> str:
    assert a.noise is not None
    high = "without an upper end" if math.isinf(a.noise.high) else f"to {_number(a.noise.high)}"
    how = "assumed" if math.isnan(a.noise.confidence) else f"{a.noise.confidence:.0%} interval"
    return (
        f"Uncertain: the noise scale is from {_number(a.noise.low)} {high} ({how}), so B is from "
        f"{a.batch_low:,} to {a.batch_high:,} and K from {a.steps_low:,} to {a.steps_high:,}."
    )


def _time(a: Advice) -> str:
    if a.seconds is None or a.fastest is None or a.slower is None:
        return "Nothing was measured on this card, so no time is named, only work."
    m, k = a.fastest
    update = f"By times measured here an update takes {_number(a.seconds * 1e3)} ms"
    if a.slower < WORTH_SAYING:
        return f"{update}, and no other choice that fits is more than 1 % faster to the same progress."
    return f"{update}; M = {m}, K = {k} would be {a.slower:.2f} times as fast to the same progress."
