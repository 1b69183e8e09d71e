"""This model, this card, this effective batch: which M and K, and does accumulation help at all?

For each way to make the update (precision, checkpointing) the planner takes the smallest K whose micro-batch
fits the card with a margin, and ranks what fits by an estimate of its time. If nothing fits it says what is
in the way, and looks for leaner optimizers. Every peak comes from a trace; nothing is run or allocated.

What fits is decided by two numbers: the peak of what is allocated, and what PyTorch's allocator takes from
the card for it. The second is often a tenth more than the first, but with the logits of a large vocabulary a
third: an H200 ran out of memory at a peak of 83 percent.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache

from accum_lib.lenses.memory.allocator import replay
from accum_lib.lenses.memory.cards import Card, find_card
from accum_lib.lenses.memory.cuda import CUDA
from accum_lib.lenses.memory.prediction import LARGEST_M, Prediction, last_that, predict
from accum_lib.lenses.memory.settings import Settings
from accum_lib.lenses.memory.workloads import Workload, named
from accum_lib.records.memory import GIB, Option, Plan
from accum_lib.words import N_, _, listed, sentences

# Of what a process can allocate, left free: for what else is on the card, and for other versions' kernels.
MARGIN = 0.1
LARGEST_BATCH = 10**7  # examples in one update; more than that is a slip of the hand
UTILISATION = 0.4  # of the data sheet's arithmetic that training reaches, roughly
LAUNCH_SECONDS = 1e-5  # until one operator's kernel has been started; small ones take no less
LEANER = (("adamw", "fused"), ("adafactor", "foreach"), ("momentum", "foreach"), ("sgd", "foreach"))


def plan(
    workload: Workload | str,
    card: Card | str,
    effective_batch_size: int,
    settings: Settings | None = None,
    margin: float = MARGIN,
) -> Plan:
    """Choose M and K.

    Args:
        workload: what is trained, or the name of a model (see ``workloads.MODELS``).
        card: a GPU or its name, its size, or "here" (see ``cards.find_card``).
        effective_batch_size: B, examples in one update.
        settings: how the update is made; None tries float32 and the card's 16-bit type. Checkpointing is
            tried on top in either case.
        margin: the part of the card's usable memory that is left free.

    Raises:
        ValueError: the card or the model is not known, B or the margin is impossible.
        UntraceableError, TraceMismatchError: the model cannot be predicted; the message says why.
    """
    _check_batch(effective_batch_size)
    if not 0 <= margin < 1:
        raise ValueError(f"the margin is a part of the memory, from 0 to below 1; got {margin}")
    card = find_card(card) if isinstance(card, str) else card
    workload = _named(workload) if isinstance(workload, str) else workload
    limit = int(card.usable_bytes * (1 - margin))
    predictions = [_predict(workload, s, card) for s in _ways(settings, workload, card)]
    options = [option(p, card, limit, effective_batch_size) for p in predictions]
    for leaner in _leaner(predictions[-1].settings):
        if any(o.fits for o in options):
            break
        predictions.append(_predict(workload, leaner, card))
        options.append(option(predictions[-1], card, limit, effective_batch_size))
    return Plan(
        model=workload.name,
        card=card.name,
        effective_batch_size=effective_batch_size,
        usable_bytes=card.usable_bytes,
        margin=margin,
        limit_bytes=limit,
        options=tuple(sorted(options, key=_rank)),
        verdict=_verdict(options, predictions, limit),
    )


def option(prediction: Prediction, card: Card, limit_bytes: int, effective_batch_size: int) -> Option:
    """The best M and K for one way to make the update, or why there is none."""
    largest = largest_micro_batch(prediction, limit_bytes, limit_bytes)
    found = smallest_steps(prediction, limit_bytes, effective_batch_size, limit_bytes)
    m, k = found or (0, 0)
    settings, floor = prediction.settings, prediction.floor_bytes(2)
    size, steps = found or (prediction.smallest(), 2)
    peak, reserved = prediction.peak_bytes(size, steps), reserved_bytes(prediction, size, steps)
    return Option(
        precision=settings.precision,
        checkpointing=settings.checkpointing,
        optimizer=settings.optimizer,
        implementation=settings.implementation,
        micro_batch_size=m,
        accumulation_steps=k,
        largest_micro_batch=largest,
        peak_bytes=peak,
        reserved_bytes=reserved,
        floor_bytes=floor,
        seconds=estimated_seconds(prediction, card, m, k) if found else None,
        reason=_reason(found, largest, peak, reserved, floor, limit_bytes),
    )


def smallest_steps(
    prediction: Prediction, limit_bytes: float, effective_batch_size: int, card_bytes: float = math.inf
) -> tuple[int, int] | None:
    """(M, K): the smallest K for which some M with M * K >= B fits, and the smallest such M; or None.

    The last micro-batch of the window may be smaller than M, so that the window has exactly B examples. From
    K = 2 on, a larger K costs nothing but the bytes of its inputs, and a larger M never less; so only the
    largest M that fits is searched for, and then every K from the one it needs.

    Args:
        prediction, effective_batch_size: of what, and B.
        limit_bytes: the most that may be allocated at once.
        card_bytes: the most that the allocator may take for it (``reserved_bytes``).
    """
    batch = effective_batch_size
    if _fits(prediction, batch, 1, limit_bytes, card_bytes):
        return batch, 1
    m = min(largest_micro_batch(prediction, limit_bytes, card_bytes), batch)
    while m >= 1:
        k = max(2, math.ceil(batch / m))
        m = math.ceil(batch / k)  # the smallest M that reaches B with this K
        rest = batch - m * (k - 1)
        if _fits(prediction, m, k, limit_bytes, card_bytes) and prediction.takes(rest):
            return m, k
        m -= 1
    return None


def largest_micro_batch(
    prediction: Prediction, limit_bytes: float, card_bytes: float = math.inf, accumulation_steps: int = 2
) -> int:
    """The largest M that fits with this K; 0 if none does. The limits are those of ``smallest_steps``.

    Found by halving, as if a larger M never took less of the card; by a few megabytes it may.
    """

    def fits(size: int) -> bool:
        return _fits(prediction, size, accumulation_steps, limit_bytes, card_bytes)

    most, low = prediction.largest_micro_batch(limit_bytes, accumulation_steps), prediction.smallest()
    if most == 0 or fits(most):
        return most
    if not fits(low):
        return 0
    return last_that(fits, low, most)


def reserved_bytes(prediction: Prediction, micro_batch_size: int, accumulation_steps: int) -> int:
    """What PyTorch's caching allocator takes from the card, by a replay; a CPU's takes what is asked for.

    Replayed are the powers of two on both sides of M, and between them lies a straight line: up to a ninth
    below a replay of this M, or a third above. A margin of a tenth makes up for it.
    """
    peak = prediction.peak_bytes(micro_batch_size, accumulation_steps)
    if prediction.device.name == "cpu":
        return peak
    steps = min(accumulation_steps, 2)  # further ones bring their inputs alone
    low = 1 << (micro_batch_size.bit_length() - 1)
    found = _replayed(prediction, low, steps)
    if micro_batch_size > low:
        way = micro_batch_size / low - 1
        found = int((1 - way) * found + way * _replayed(prediction, 2 * low, steps))
    return max(peak, found + peak - prediction.peak_bytes(micro_batch_size, steps))  # their inputs


@lru_cache(maxsize=1024)
def _replayed(prediction: Prediction, micro_batch_size: int, accumulation_steps: int) -> int:
    return replay(prediction, micro_batch_size, accumulation_steps).reserved_bytes


def estimated_seconds(
    prediction: Prediction, card: Card, micro_batch_size: int, accumulation_steps: int
) -> float | None:
    """A rough time for all passes of one update, without the optimizer's; None for an unknown card.

    Each pass takes the longer of two: its arithmetic at ``UTILISATION`` of the card's speed, and starting its
    kernels one by one. It is an estimate from data sheets and not a measurement: it ranks options.
    """
    speed = card.tflops if prediction.settings.dtype is None else card.half_tflops
    if not speed or not prediction.flops(1):
        return None
    arithmetic = prediction.flops(micro_batch_size) / (speed * 1e12 * UTILISATION)
    return accumulation_steps * max(arithmetic, prediction.operators() * LAUNCH_SECONDS)


def useful_down_to(prediction: Prediction, accumulation_steps: int = 2) -> int:
    """The largest M whose fullest moment is the optimizer's: a smaller M saves nothing; 0 if there is none.

    Activations no longer count there: what is full is what the update needs whatever M is.
    """

    def inside(size: int) -> bool:
        return _fullest_in_update(prediction, size, accumulation_steps)

    low, high = 0, 1
    while high <= LARGEST_M and inside(high):
        low, high = high, 2 * high
    return last_that(inside, low, high)


def _fullest_in_update(prediction: Prediction, m: int, k: int) -> bool:
    size = m if prediction.takes(m) else 2
    return prediction.timeline(size, k, moments=1).peak_phase == "update"


# --- What is tried


def _ways(settings: Settings | None, workload: Workload, card: Card) -> list[Settings]:
    """As asked for, then in 16 bits if that is left open; each without and with checkpointing."""
    bases = [settings] if settings else [Settings(), Settings(precision=card.half)]
    ways = [replace(s, checkpointing=False) for s in bases if not s.checkpointing]
    return ways + [replace(s, checkpointing=True) for s in bases if _can_checkpoint(workload)]


def _leaner(settings: Settings) -> list[Settings]:
    """The same with optimizers that keep less."""
    tried = settings.optimizer, settings.implementation
    return [replace(settings, optimizer=o, implementation=i) for o, i in LEANER if (o, i) != tried]


def _predict(workload: Workload, settings: Settings, card: Card) -> Prediction:
    return predicted(workload, settings, card.hopper, card.device)


_named = cache(named)


@lru_cache(maxsize=64)
def _can_checkpoint(workload: Workload) -> bool:
    return workload.can_checkpoint()


def predicted(
    workload: Workload, settings: Settings, hopper: bool = False, device: str = "cuda"
) -> Prediction:
    """The prediction for a GPU or "cpu", made once: it serves every card of the kind and every B."""
    return _predicted(workload, settings, hopper, device)  # a cache takes a default for another call


@lru_cache(maxsize=64)
def _predicted(workload: Workload, settings: Settings, hopper: bool, device: str) -> Prediction:
    if device == "cpu":
        return predict(workload, settings, "cpu")
    return predict(workload, settings, CUDA(attention=settings.attention, hopper=hopper))


def _fits(prediction: Prediction, m: int, k: int, limit_bytes: float, card_bytes: float) -> bool:
    if not prediction.takes(m) or prediction.peak_bytes(m, k) > limit_bytes:
        return False
    return card_bytes == math.inf or reserved_bytes(prediction, m, k) <= card_bytes


def _leanest(prediction: Prediction) -> int:
    """The lowest peak that accumulation can reach."""
    return prediction.peak_bytes(prediction.smallest(), 2)


def _check_batch(size: int) -> None:
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise ValueError(f"the effective batch B must be a whole number of examples; got {size!r}")
    if not 1 <= size <= LARGEST_BATCH:
        raise ValueError(f"the effective batch B must be from 1 to {LARGEST_BATCH:,} examples; got {size:,}")


# --- What is said


def _rank(option: Option) -> tuple:
    """What fits comes first, the fastest of it before, then what changes least."""
    changes = option.checkpointing + (option.precision != "fp32") + (option.optimizer != "adamw")
    if not option.fits:
        return True, option.peak_bytes, changes
    if option.seconds is None:  # without a card's speed: recomputing costs a third, a micro-batch less
        return False, option.checkpointing, option.accumulation_steps, changes
    return False, option.seconds, changes


def _reason(
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


def _verdict(options: Sequence[Option], predictions: Sequence[Prediction], limit: int) -> str:
    """About the first option, which is the one as asked for."""
    asked, others = options[0], [o for o in options[1:] if o.fits]
    what = describe(asked)
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
        best = min(others, key=_rank)
        m, k = best.micro_batch_size, best.accumulation_steps
        return _("{why} What helps: {way} (M = {m}, K = {k}).", why=why, way=describe(best), m=m, k=k)
    return sentences(why, _sharding(min(predictions, key=_leanest), limit))


def _sharding(prediction: Prediction, limit: int) -> str:
    """How many cards could share what is always there (ZeRO: Rajbhandari et al. 2020, arXiv 1910.02054)."""
    shared, least = prediction.resident_bytes(), _leanest(prediction)
    if least - shared >= limit:
        return _("No way was found: what one example needs beside the weights exceeds the card. Shorten it.")
    cards = max(2, math.ceil(shared / (limit - (least - shared))))
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
    return listed([*words, *([_("checkpointing")] if way.checkpointing else [])])


NAMES = {"adamw": "AdamW", "sgd": "SGD", "momentum": N_("SGD with momentum"), "adafactor": "Adafactor"}


def gib(nbytes: float) -> str:
    """Bytes in words."""
    return f"{nbytes / GIB:.2f} GiB"


def explain(found: Plan) -> str:
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
    sizes = (f"{nbytes / GIB:.2f}" for nbytes in (o.peak_bytes, o.reserved_bytes, o.floor_bytes))
    return describe(o), m, k, *sizes, seconds, o.reason


def _last_words(found: Plan) -> str:
    best = found.best
    if best is None:
        return _("Nothing fits.")
    m, k, batch = best.micro_batch_size, best.accumulation_steps, found.effective_batch_size
    last = batch - m * (k - 1)
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
    return sentences(take, *notes)
