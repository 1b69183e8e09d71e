"""In which order the examples of an epoch are read, as windows. Seed and epoch decide it, nothing else.

Padding costs time: a micro-batch is as long as its longest text. Sorting a window's examples by length saves
most of it and changes **no update**, since a window's gradient does not depend on the order within. Sorting
over several windows saves more, but then a window holds texts of like length, and is no random sample.
"""

import random
from collections.abc import Sequence

from accum_lib.roberta.settings import TrainingSettings
from accum_lib.roberta.sizes import cut


def epoch_windows(
    lengths: Sequence[int], effective_batch_size: int, pool: int, seed: int, epoch: int
) -> list[list[int]]:
    """The epoch's windows of B example indices; the last holds what is left. Each example occurs once.

    Args:
        lengths: (N,) tokens of each example.
        effective_batch_size: B.
        pool: sort by length within so many windows; 0 does not sort.
        seed, epoch: both decide the order.

    Raises:
        ValueError: there are no examples.
    """
    if not lengths:
        raise ValueError("no examples to train on")
    dice = random.Random(f"order {seed} {epoch}")
    shuffled = dice.sample(range(len(lengths)), len(lengths))
    if pool > 0:
        shuffled = _sorted_in_pools(shuffled, lengths, pool * effective_batch_size)
    windows = [list(window) for window in cut(shuffled, effective_batch_size)]
    if pool > 1:
        windows = _shuffled(windows, effective_batch_size, dice)
    return windows


def planned_order(lengths: Sequence[int], settings: TrainingSettings, epoch: int) -> list[list[int]]:
    """``epoch_windows`` as a run with these settings reads them."""
    return epoch_windows(lengths, settings.effective_batch_size, settings.order_pool, settings.seed, epoch)


def _sorted_in_pools(indices: list[int], lengths: Sequence[int], size: int) -> list[int]:
    """Longest first: if a micro-batch does not fit into memory, it is the first one."""
    pools = cut(indices, size)
    return [i for pool in pools for i in sorted(pool, key=lambda i: -lengths[i])]


def _shuffled(windows: list[list[int]], full: int, dice: random.Random) -> list[list[int]]:
    """Long and short windows mixed; the trailing window, if it is shorter, stays the last one."""
    whole = [window for window in windows if len(window) == full]
    return dice.sample(whole, len(whole)) + windows[len(whole) :]
