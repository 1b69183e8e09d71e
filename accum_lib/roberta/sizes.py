"""M, K and B of the lab: any two give the third, and what does not go together is refused."""

from collections.abc import Sequence
from typing import TypeVar

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
        ("the micro-batch size M", m),
        ("the accumulation steps K", k),
        ("the effective batch size B", b),
    ):
        _check(name, value)
    if b is None:
        m = m or DEFAULT_MICRO_BATCH
        return m, k or max(1, DEFAULT_EFFECTIVE // m)
    if m and k and m * k != b:
        raise ValueError(f"M = {m} times K = {k} is {m * k}, not B = {b}: leave one of the three out")
    if m:
        return m, _quotient(b, m, "M")
    if k:
        return _quotient(b, k, "K"), k
    m = largest_divisor(b, DEFAULT_MICRO_BATCH)
    return m, b // m


def _quotient(b: int, given: int, name: str) -> int:
    if b % given:
        below, above = b // given * given, -(-b // given) * given
        near = f"{below} or {above}" if below else f"{above}"
        raise ValueError(f"B = {b} is no multiple of {name} = {given}: take B = {near}, or another {name}")
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
        raise ValueError(f"{name} must be 1 or more; got {value}")
