"""A replay of PyTorch's caching allocator: why a GPU holds more than was asked for.

PyTorch takes memory from the GPU in large *segments* and cuts *blocks* from them. A block that is a little
too large is handed out whole, so what counts as allocated is more than the sum of requests; freed blocks
stay in their segment, so what is reserved is more still. The rules are those of
c10/cuda/CUDACachingAllocator.cpp with its default settings.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from accum_lib.memory.prediction import Prediction, Requests

MIB = 2**20
ROUND = 512  # requests are rounded up to this (kMinBlockSize)
SMALL = MIB  # a request up to this comes from the small pool (kSmallSize)
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MIB, 20 * MIB  # kSmallBuffer, kLargeBuffer
OWN_SEGMENT = 10 * MIB  # from this on a request gets a segment of its own size (kMinLargeAlloc) ...
OWN_ROUND = 2 * MIB  # ... rounded up to this (kRoundLarge)


@dataclass(eq=False, slots=True)
class Block:
    """Part of a segment. ``before`` and ``after`` are its neighbours there."""

    address: int
    size: int
    small: bool
    free: bool = True
    before: "Block | None" = field(default=None, repr=False)
    after: "Block | None" = field(default=None, repr=False)


class CachingAllocator:
    """Allocate and free without any memory.

    Attributes:
        allocated, reserved: bytes in blocks that are in use, and in all segments.
        most_allocated, most_reserved: the most that these have been.
    """

    def __init__(self) -> None:
        self.allocated = self.reserved = self.most_allocated = self.most_reserved = 0
        self._free: dict[bool, list[tuple[int, int, Block]]] = {True: [], False: []}  # by small or not
        self._next_address = 0

    def allocate(self, nbytes: int) -> Block | None:
        """A block for ``nbytes``: the smallest free one that is large enough; None for no bytes."""
        if nbytes == 0:
            return None
        size = -(-nbytes // ROUND) * ROUND
        block = self._smallest_free(size) or self._new_segment(size)
        if self._worth_cutting(block, size):
            self._cut(block, size)
        block.free = False
        self.allocated += block.size
        self.most_allocated = max(self.most_allocated, self.allocated)
        return block

    def release(self, block: Block | None) -> None:
        """Give a block back; it grows together with free neighbours."""
        if block is None:
            return
        self.allocated -= block.size
        block.free = True
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                self._forget(neighbour)
                block = _joined(neighbour, block) if neighbour is block.before else _joined(block, neighbour)
        self._remember(block)

    def reset_peaks(self) -> None:
        """From now on the most is what is there now."""
        self.most_allocated, self.most_reserved = self.allocated, self.reserved

    def _smallest_free(self, size: int) -> Block | None:
        pool = self._free[size <= SMALL]
        at = bisect_left(pool, (size,))
        return pool.pop(at)[2] if at < len(pool) else None

    def _new_segment(self, size: int) -> Block:
        if size <= SMALL:
            length = SMALL_SEGMENT
        elif size < OWN_SEGMENT:
            length = LARGE_SEGMENT
        else:
            length = -(-size // OWN_ROUND) * OWN_ROUND
        block = Block(self._next_address, length, small=size <= SMALL)
        self._next_address += length + OWN_ROUND  # segments are never neighbours
        self.reserved += length
        self.most_reserved = max(self.most_reserved, self.reserved)
        return block

    def _worth_cutting(self, block: Block, size: int) -> bool:
        rest = block.size - size
        return rest >= ROUND if block.small else rest > SMALL

    def _cut(self, block: Block, size: int) -> None:
        rest = Block(block.address + size, block.size - size, block.small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        self._remember(rest)

    def _remember(self, block: Block) -> None:
        insort(self._free[block.small], (block.size, block.address, block))  # no two have one address

    def _forget(self, block: Block) -> None:
        pool = self._free[block.small]
        pool.pop(bisect_left(pool, (block.size, block.address)))


def _joined(left: Block, right: Block) -> Block:
    left.size += right.size
    left.after = right.after
    left.free = True
    if right.after is not None:
        right.after.before = left
    return left


@dataclass(frozen=True)
class Replay:
    """What the allocator would report of one update, in bytes; the cuBLAS workspace included."""

    allocated_bytes: int
    reserved_bytes: int


def replay(prediction: Prediction, micro_batch_size: int, accumulation_steps: int = 1) -> Replay:
    """Put an update's requests through the allocator, after two updates that have warmed it up.

    The first of them makes the optimizer's state, in pieces of what the activations have left. If the second
    takes nothing more from the card it leaves all as it was, so the third would be the same.
    """
    asked = prediction.requests(micro_batch_size, accumulation_steps)
    allocator = CachingAllocator()
    for size in [*asked.resident_bytes.tolist(), *prediction.device.workspaces]:
        allocator.allocate(size)
    for number in range(3):
        allocator.reset_peaks()
        before = allocator.reserved
        _one_update(allocator, asked, first=number == 0)
        if number and allocator.reserved == before:
            break
    return Replay(allocator.most_allocated, allocator.most_reserved)


def _one_update(allocator: CachingAllocator, asked: Requests, first: bool) -> None:
    blocks: dict[int, list[Block | None]] = {}  # a storage of the trace may stand for one in every pass
    nbytes, events = asked.nbytes.tolist(), zip(asked.storage.tolist(), asked.sign.tolist(), strict=True)
    for event, (number, sign) in enumerate(events):
        if first and event == asked.update_at:
            for size in asked.optimizer_bytes.tolist():
                allocator.allocate(size)
        if sign > 0:
            blocks.setdefault(number, []).append(allocator.allocate(nbytes[number]))
        elif blocks.get(number):
            allocator.release(blocks[number].pop())
    for left in blocks.values():  # the losses of passes that the trace had not
        for block in left:
            allocator.release(block)
