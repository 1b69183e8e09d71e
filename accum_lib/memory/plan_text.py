"""A plan in sentences: which way is best, why it fits or does not, and what would help."""

import math
from collections.abc import Sequence
from typing import Any

from accum_lib.machine import GIB
from accum_lib.memory.cards import UTILISATION
from accum_lib.memory.prediction import Prediction, leanest
from accum_lib.memory.records import Option, Plan
from accum_lib.memory.settings import Settings
from accum_lib.words import N_, _, listed, sentences


def rank(option: Option) -> tuple[Any, ...]:
    """What fits comes first, the fastest of it before, then what changes least."""
    changes = option.checkpointing + (option.precision != "fp32") + (option.optimizer != "adamw")
    changes += option.chunked + (option.weights != "fp32") + 2 * (option.trained != "all")
    if not option.fits:
        return True, not option.predicted, option.peak_bytes, changes
    if option.seconds is None:  # without a card's speed: recomputing costs a third, a micro-batch less
        return False, option.checkpointing, option.accumulation_steps, changes
    return False, option.seconds, changes


def reason(
    found: tuple[int, int] | None, largest: int, peak: int, reserved: int, floor: int, limit: int
) -> str:
    if found and found[1] == 1:
        return _("the whole batch fits: no accumulation is needed")
    if found:
        return _(
            "with accumulation up to {largest} examples fit at once, so K = {k} is the smallest",
            largest=largest,
            k=found[1],
        )
    if floor > limit:
        return _("{floor} of it is there however small M is: accumulation cannot help", floor=gib(floor))
    if peak > limit:
        return _(
            "not even one example fits ({peak}): accumulation cannot help, checkpointing may", peak=gib(peak)
        )
    if reserved > limit:
        return _("{reserved} would be taken from the card for it, in pieces", reserved=gib(reserved))
    return _("no M makes up B: the model refuses such batches, or the window's inputs do not fit")


def verdict(options: Sequence[Option], predictions: Sequence[Prediction], limit: int) -> str:
    """About the first option, which is the one as asked for."""
    asked, others = options[0], [o for o in options[1:] if o.fits]
    what = describe(asked)
    if not asked.predicted:
        rest = (
            _("Nothing else fits.")
            if not others
            else _("What fits: {way}.", way=describe(min(others, key=rank)))
        )
        return sentences(f"{what}: {asked.reason}", rest)
    if asked.accumulation_steps == 1:
        return _("{what}: the whole batch fits, so accumulation would only take time.", what=what)
    if asked.fits:
        return _(
            "{what}: accumulation makes it fit, in {k} micro-batches.", what=what, k=asked.accumulation_steps
        )
    if asked.reserved_bytes <= limit:  # and so is the peak
        return f"{what}: {asked.reason}."
    why = _(
        "Accumulation cannot help {what}: {peak} are needed even for the smallest micro-batch, {floor} of "
        "it whatever M is, and {limit} are allowed.",
        what=what,
        peak=gib(asked.reserved_bytes),
        floor=gib(asked.floor_bytes),
        limit=gib(limit),
    )
    if others:
        best = min(others, key=rank)
        m, k = best.micro_batch_size, best.accumulation_steps
        return _("{why} It fits with {way} (M = {m}, K = {k}).", why=why, way=describe(best), m=m, k=k)
    return sentences(why, _sharding(min(predictions, key=leanest), limit))


def logits_at_the_peak(prediction: Prediction, logits: int, micro_batch_size: int) -> list[str]:
    """A sentence if tensors as large as the logits are much of the peak."""
    part = prediction.part_at_peak(logits, micro_batch_size, 2) if logits else 0.0
    if part < LOGITS_PART or prediction.settings.chunked:
        return []
    return [
        _(
            "At the peak, {part:.0%} are the logits over the vocabulary and what is made of them, which a "
            "loss in chunks, or a fused one, does without.",
            part=part,
        )
    ]


def most_room(options: Sequence[Option]) -> list[str]:
    """A sentence about the way with which most examples fit at once, if as asked it takes accumulation."""
    asked, best = options[0], max(options, key=lambda o: o.largest_micro_batch)
    if asked.accumulation_steps < 2 or best.largest_micro_batch <= asked.largest_micro_batch:
        return []
    return [
        _(
            "What makes most room: {way}, with up to {most} examples at once (as asked {asked}).",
            way=describe(best),
            most=best.largest_micro_batch,
            asked=asked.largest_micro_batch,
        )
    ]


def _sharding(prediction: Prediction, limit: int) -> str:
    """How many cards could share what is always there (ZeRO: Rajbhandari et al. 2020, arXiv 1910.02054)."""
    mine, least = prediction.resident_bytes(), leanest(prediction)
    shared = mine * prediction.settings.cards
    if least - mine >= limit:
        return _("No way was found: what one example needs beside the weights exceeds the card. Shorten it.")
    cards = max(2, math.ceil(shared / (limit - (least - mine))))
    return _(
        "No leaner way tried here fits either. Sharding parameters, gradients and optimizer state ({shared} "
        "with {way}) over at least {cards} cards would.",
        shared=gib(shared),
        way=describe(prediction.settings),
        cards=cards,
    )


def describe(way: Option | Settings) -> str:
    """An option or settings in a few words."""
    how = "" if way.implementation == "foreach" else f" ({way.implementation})"
    words = [way.precision, f"{_(NAMES.get(way.optimizer, way.optimizer))}{how}"]
    more = {
        _("checkpointing"): way.checkpointing,
        "LoRA": way.trained == "lora",
        _("the head alone"): way.trained == "head",
        _("weights in bf16"): way.weights == "bf16",
        _("loss in chunks"): way.chunked,
    }
    return listed([*words, *(word for word, said in more.items() if said)])


LOGITS_PART = 0.3  # of the peak, from which it is said
NAMES = {"adamw": "AdamW", "sgd": "SGD", "momentum": N_("SGD with momentum"), "adafactor": "Adafactor"}


def gib(nbytes: float) -> str:
    """Bytes in words."""
    return f"{nbytes / GIB:.2f} GiB"


def explain_plan(found: Plan) -> str:
    """A plan as text: the verdict, the options in order, and how to take the first."""
    head = _(
        "{model}, B = {b}, on {card}: {usable} usable, {limit} with a margin of {margin:.0%}.\n{verdict}\n",
        model=found.model,
        b=found.effective_batch_size,
        card=found.card,
        usable=gib(found.usable_bytes),
        limit=gib(found.limit_bytes),
        margin=found.margin,
        verdict=found.verdict,
    )
    rows = [
        ("", "M", "K", _("peak GiB"), _("reserved"), _("floor, K > 1"), _("s/update"), _("why")),
        *map(_row, found.options),
    ]
    last = len(rows[0]) - 1
    widths = [max(len(row[i]) for row in rows) for i in range(last)]
    table = "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, last)), row[last]])
        for row in rows
    )
    return f"{head}\n{table}\n\n{_last_words(found)}"


def _row(o: Option) -> tuple[str, ...]:
    m, k = (str(o.micro_batch_size), str(o.accumulation_steps)) if o.fits else ("-", "-")
    seconds = "-" if o.seconds is None else f"~{o.seconds:.2g}"
    known = (o.peak_bytes, o.reserved_bytes, o.floor_bytes)
    sizes = (f"{nbytes / GIB:.2f}" if o.predicted else "-" for nbytes in known)
    return describe(o), m, k, *sizes, seconds, o.reason


def _last_words(found: Plan) -> str:
    best = found.best
    if best is None:
        return _("Nothing fits.")
    m, k = best.micro_batch_size, best.accumulation_steps
    last = found.share - m * (k - 1)
    rest = "" if last == m else _(" (the last of them {last})", last=last)
    take = _("Take {way}: micro-batches of M = {m}{rest}, K = {k}.", way=describe(best), m=m, rest=rest, k=k)
    notes = [_("Peaks are predictions from a trace.")]
    if best.seconds is not None:
        notes.append(
            _(
                "Times are estimates, {share:.0%} of data sheets' arithmetic, not measurements.",
                share=UTILISATION,
            )
        )
    if found.cards > 1:
        notes.append(
            _(
                "M and K are those of each of the {cards} cards, which runs {share} of the examples and "
                "keeps its shard of weights, gradients and optimizer state (FSDP2, averaging in every pass). "
                "What NCCL takes for itself and the time of its messages are not counted.",
                cards=found.cards,
                share=found.share,
            )
        )
    return sentences(take, *notes)
