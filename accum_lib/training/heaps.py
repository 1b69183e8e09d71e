"""Freed memory goes back to the system, so that what a process holds is what its tensors need.

glibc maps large blocks one by one and unmaps them when they are freed; but each time it does so it raises its
idea of "large", up to 32 MiB, and keeps what is smaller for itself. A RoBERTa-base has its gradients in that
range: its process then holds hundreds of megabytes that no tensor uses, and a prediction would be too low.
Smaller blocks lie in heaps, one for each thread, which shrink from their ends only: what was freed in between
stays, a hundred megabytes after a backward pass over short texts, until it is trimmed.
Sources: mallopt(3), M_MMAP_THRESHOLD (a threshold that is set is not raised any more); malloc_trim(3).
"""

import ctypes

M_MMAP_THRESHOLD = -3  # glibc's number for it, malloc.h
LARGE_BYTES = 2**17
_giving_back = False


def give_freed_blocks_back(large_bytes: int = LARGE_BYTES) -> bool:
    """Let blocks from ``large_bytes`` on be unmapped when they are freed; it holds for the whole process.

    Mapping a block again costs time, so this is for models whose memory is worth it.

    Returns:
        Whether the C library took the setting; others than glibc have other ways.
    """
    global _giving_back
    try:
        _giving_back = bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, large_bytes))
    except (AttributeError, OSError, TypeError):
        _giving_back = False
    return _giving_back


def trim_heaps() -> None:
    """Give the free parts of the heaps back, too, if blocks are given back at all. It takes milliseconds."""
    if _giving_back:
        ctypes.CDLL(None).malloc_trim(0)
