"""This model, this card, this effective batch: which M and K, and does accumulation help at all?

For each way to make the update (precision, checkpointing) the planner takes the smallest K whose micro-batch
fits the card with a margin, and ranks what fits by an estimate of its time. If nothing fits it says what is
in the way, and looks for leaner optimizers. Every peak comes from a trace; nothing is run or allocated.

What fits is decided by two numbers: the peak of what is allocated, and what PyTorch's allocator takes from
the card for it. The second is often a tenth more than the first, but with the logits of a large vocabulary a
third: an H200 ran out of memory at a peak of 83 percent.
"""

import math
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from accum_lib.memory.caching_allocator import replay
from accum_lib.memory.cards import LAUNCH_SECONDS, UTILISATION, Card, find_card
from accum_lib.memory.plan_text import logits_at_the_peak, most_room, rank, reason, verdict
from accum_lib.memory.prediction import LARGEST_M, Prediction, last_that, predict
from accum_lib.memory.records import Option, Plan, share_of
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import TraceMismatchError, UntraceableError
from accum_lib.memory.workloads import Workload, named
from accum_lib.words import _, sentences

# Of what a process can allocate, left free: for what else is on the card, and for other versions' kernels.
MARGIN = 0.1
LARGEST_BATCH = 10**7  # examples in one update; more than that is a slip of the hand
LEANER = (("adamw", "fused"), ("adafactor", "foreach"), ("momentum", "foreach"), ("sgd", "foreach"))


def plan(
    workload: Workload | str,
    card: Card | str,
    effective_batch_size: int,
    settings: Settings | None = None,
    margin: float = MARGIN,
    cards: int | None = None,
) -> Plan:
    """Choose M and K.

    Args:
        workload: what is trained, or the name of a model (see ``workloads.MODELS``).
        card: a GPU or its name, its size, or "here" (see ``cards.find_card``).
        effective_batch_size: B, examples in one update.
        settings: how the update is made; None tries float32 and the card's 16-bit type. Checkpointing is
            tried on top in either case.
        margin: the part of the card's usable memory that is left free.
        cards: such cards, over which FSDP2 shards the model and B is shared out: M and K are each card's
            (see ``trace/sharded.py``). None takes the settings' number.

    Raises:
        ValueError: the card or the model is not known, B, the margin or the number of cards is impossible.
        UntraceableError, TraceMismatchError: no way can be predicted; the message says why the first cannot.
    """
    _check_batch(effective_batch_size)
    if not 0 <= margin < 1:
        raise ValueError(
            _("the margin is a part of the memory, from 0 to below 1; got {margin}", margin=margin)
        )
    cards = (settings or Settings()).cards if cards is None else Settings(cards=cards).cards
    share = _share(effective_batch_size, cards)
    card = find_card(card) if isinstance(card, str) else card
    workload = _named(workload) if isinstance(workload, str) else workload
    limit = card.limit_bytes(margin)
    options: list[Option] = []
    refused: list[ValueError] = []
    predictions: dict[Option, Prediction] = {}  # of those that could be predicted

    def add(way: Settings) -> None:
        """Each way stands alone: one that cannot be predicted is a row with its reason."""
        try:
            found = predict(workload, way, card.device, card.hopper)
            options.append(option(found, card, limit, share))
            predictions[options[-1]] = found
        except (UntraceableError, TraceMismatchError) as error:
            refused.append(error)
            options.append(unpredicted(way, str(error)))

    for way in _ways(settings, workload, card):
        add(replace(way, cards=cards))
    if not predictions:
        raise refused[0]
    best = min(predictions, key=rank)
    logits = logits_at_the_peak(predictions[best], workload.logits, best.micro_batch_size or 2)
    if logits and best.fits and workload.chunked and cards == 1:
        add(replace(predictions[best].settings, chunked=True))
    for leaner in _leaner(list(predictions.values())[-1].settings, workload):
        if any(o.fits for o in options):
            break
        add(leaner)
    return Plan(
        model=workload.name,
        card=card.name if cards == 1 else _("{cards} cards, each {card}", cards=cards, card=card.name),
        effective_batch_size=effective_batch_size,
        usable_bytes=card.usable_bytes,
        margin=margin,
        limit_bytes=limit,
        options=tuple(sorted(options, key=rank)),
        verdict=sentences(verdict(options, list(predictions.values()), limit), *most_room(options), *logits),
        cards=cards,
    )


def unpredicted(settings: Settings, why: str) -> Option:
    """A way of which nothing is known."""
    return Option(
        settings.precision, settings.checkpointing, settings.optimizer, settings.implementation,
        0, 0, 0, 0, 0, 0, None, _("it cannot be predicted: {why}", why=why), predicted=False,
        **_tuning(settings),
    )  # fmt: skip


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
        reason=reason(found, largest, peak, reserved, floor, limit_bytes),
        **_tuning(settings),
    )


def _tuning(settings: Settings) -> dict[str, Any]:
    return {"trained": settings.trained, "weights": settings.weights, "chunked": settings.chunked}


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

    most = prediction.largest_micro_batch(limit_bytes, accumulation_steps)
    if most == 0 or fits(most):
        return most
    found = last_that(fits, 2, most)
    if found > 2 or fits(2):
        return found
    return 1 if fits(1) else 0  # it needs a trace of its own, so it is asked last


def reserved_bytes(prediction: Prediction, micro_batch_size: int, accumulation_steps: int) -> int:
    """What PyTorch's caching allocator takes from the card, by a replay; a CPU's takes what is asked for.

    Replayed are the powers of two on both sides of M, with a straight line between them: up to a ninth
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


def _leaner(settings: Settings, workload: Workload) -> list[Settings]:
    """The same with a loss in chunks, with optimizers that keep less, with LoRA, then on 16-bit weights."""
    tried, chunks = (settings.optimizer, settings.implementation), workload.chunked and settings.cards == 1
    ways = [replace(settings, chunked=True)] if chunks and not settings.chunked else []
    ways += [replace(settings, optimizer=o, implementation=i) for o, i in LEANER if (o, i) != tried]
    if settings.trained == "all" and _can_checkpoint(workload):
        adapted = replace(settings, trained="lora", chunked=bool(chunks))
        ways.append(adapted)
        if settings.precision == "bf16":
            ways.append(replace(adapted, weights="bf16"))
    return ways


_named = cache(named)


@lru_cache(maxsize=64)
def _can_checkpoint(workload: Workload) -> bool:
    try:
        return workload.can_checkpoint()
    except Exception:  # whatever building a model raises: its first prediction says so
        return False


def _fits(prediction: Prediction, m: int, k: int, limit_bytes: float, card_bytes: float) -> bool:
    if not prediction.takes(m) or prediction.peak_bytes(m, k) > limit_bytes:
        return False
    return card_bytes == math.inf or reserved_bytes(prediction, m, k) <= card_bytes


def _share(batch: int, cards: int) -> int:
    """How many of the examples the card gets that has most of them."""
    if batch < cards:
        raise ValueError(
            _("{cards} cards cannot share {b} examples: take {b} cards or fewer", cards=cards, b=batch)
        )
    return share_of(batch, cards)


def _check_batch(size: int) -> None:
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise ValueError(f"the effective batch B must be a whole number of examples; got {size!r}")
    if not 1 <= size <= LARGEST_BATCH:
        raise ValueError(
            _(
                "the effective batch B must be from 1 to {most:,} examples; got {size:,}",
                most=LARGEST_BATCH, size=size,
            )
        )  # fmt: skip
