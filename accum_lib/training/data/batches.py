"""In which order the examples of an epoch are read, as windows. Seed and epoch decide it, nothing else.

Padding costs time: a micro-batch is as long as its longest text. Sorting a window's examples by length saves
most of it and changes **no update**, since a window's gradient does not depend on the order within. Sorting
over several windows saves more, but then a window holds texts of like length, and is no random sample.

M, K and B of the lab: any two give the third, and what does not go together is refused.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

from accum_lib.training.settings import TrainingSettings
from accum_lib.words import N_, _

DEFAULT_MICRO_BATCH, DEFAULT_EFFECTIVE = 8, 32  # B: Liu et al. 2019 (arXiv 1907.11692), table 10
Item = TypeVar("Item")


def batch_sizes(
    micro_batch_size: int | None = None,
    accumulation_steps: int | None = None,
    effective_batch_size: int | None = None,
) -> tuple[int, int]:
    """M and K from any of M, K and B = M K. What is not said: M is 8, B is 32 or near it.

    Raises:
        TypeError, ValueError: one is not a whole number from 1 on, or no whole M and K fit them.
    """
    m, k, b = micro_batch_size, accumulation_steps, effective_batch_size
    for name, value in (
        (N_("the micro-batch size M"), m),
        (N_("the accumulation steps K"), k),
        (N_("the effective batch size B"), b),
    ):
        _check(name, value)
    if b is None:
        m = m or DEFAULT_MICRO_BATCH
        return m, k or max(1, DEFAULT_EFFECTIVE // m)
    if m and k and m * k != b:
        raise ValueError(
            _(
                "M = {m} times K = {k} is {product}, not B = {b}: leave one of the three out",
                m=m, k=k, product=m * k, b=b,
            )
        )  # fmt: skip
    if m:
        return m, _quotient(b, m, "M")
    if k:
        return _quotient(b, k, "K"), k
    m = largest_divisor(b, DEFAULT_MICRO_BATCH)
    return m, b // m


def _quotient(b: int, given: int, name: str) -> int:
    if b % given:
        below, above = b // given * given, -(-b // given) * given
        near = _("{one} or {other}", one=below, other=above) if below else above
        raise ValueError(
            _(
                "B = {b} is no multiple of {name} = {given}: take B = {near}, or another {name}",
                b=b, name=name, given=given, near=near,
            )
        )  # fmt: skip
    return b // given


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of ``number`` that is not above ``limit``."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def cut(window: Sequence[Item], micro_batch_size: int) -> list[Sequence[Item]]:
    """A window's examples in micro-batches of M; the last may be smaller."""
    return [window[i : i + micro_batch_size] for i in range(0, len(window), micro_batch_size)]


def halved(micro_batch_size: int) -> int:
    """Half of M, rounded up, so that K does not get larger than it must."""
    return -(-micro_batch_size // 2)


def _check(name: str, value: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, such as 4; got {value!r}")
    if value < 1:
        raise ValueError(_("{name} must be {least} or more; got {value}", name=_(name), least=1, value=value))


def epoch_windows(
    lengths: Sequence[int], effective_batch_size: int, pool: int, seed: int, epoch: int
) -> list[list[int]]:
    """The epoch's windows of B example indices; the last holds what is left. Each example occurs once.

    Args:
        lengths: (N,) tokens of each example.
        effective_batch_size: B.
        pool: sort by length within this many windows; 0 does not sort.
        seed, epoch: both decide the order.

    Raises:
        ValueError: there are no examples.
    """
    if not lengths:
        raise ValueError("no examples to train on")
    generator = random.Random(f"order {seed} {epoch}")
    shuffled = generator.sample(range(len(lengths)), len(lengths))
    if pool > 0:
        shuffled = _sorted_in_pools(shuffled, lengths, pool * effective_batch_size)
    windows = [list(window) for window in cut(shuffled, effective_batch_size)]
    if pool > 1:
        windows = _shuffled(windows, effective_batch_size, generator)
    return windows


def planned_order(lengths: Sequence[int], settings: TrainingSettings, epoch: int) -> list[list[int]]:
    """``epoch_windows`` as a run with these settings reads them."""
    return epoch_windows(lengths, settings.effective_batch_size, settings.order_pool, settings.seed, epoch)


def _sorted_in_pools(indices: list[int], lengths: Sequence[int], size: int) -> list[int]:
    """Longest first: if a micro-batch does not fit into memory, it is the first one."""
    pools = cut(indices, size)
    return [i for pool in pools for i in sorted(pool, key=lambda i: -lengths[i])]


def _shuffled(windows: list[list[int]], full: int, generator: random.Random) -> list[list[int]]:
    """Long and short windows mixed; the trailing window, if it is shorter, stays the last one."""
    whole = [window for window in windows if len(window) == full]
    return generator.sample(whole, len(whole)) + windows[len(whole) :]
