"""Freed blocks of some megabytes leave the process; without the setting they stay, which this test sees."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys, psutil
from accum_lib.machine import give_freed_blocks_back
if sys.argv[1] == "set":
    assert give_freed_blocks_back()
bytearray(30 << 20)  # freed at once: from here on glibc takes 30 MiB for small, if it may
before = psutil.Process().memory_info().rss
blocks, pins = [], []
for _ in range(20):
    blocks.append(b"x" * (8 << 20))
    pins.append(b"x" * 100_000)  # what stays keeps the heap from shrinking
del blocks
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def mebibytes(program: str, how: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", program, how], capture_output=True, text=True, check=True, env=os.environ
    )
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_what_is_freed_is_gone() -> None:
    assert mebibytes(PROGRAM, "set") < 10
    assert mebibytes(PROGRAM, "not set") > 100  # of 160


def test_another_c_library_is_left_alone(monkeypatch) -> None:
    from accum_lib import machine as heaps

    monkeypatch.setattr(heaps.ctypes, "CDLL", lambda name: object())
    assert heaps.give_freed_blocks_back() is False


HEAP = """
import sys, psutil
from accum_lib import machine as allocator
if sys.argv[1] != "never asked":
    allocator.give_freed_blocks_back()
small = [b"x" * 100_000 for _ in range(1000)]
pin = b"x" * 100_000  # it lies above them
del small
before = psutil.Process().memory_info().rss
if sys.argv[1] != "not trimmed":
    allocator.trim_heaps()
print((before - psutil.Process().memory_info().rss) / 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_heap_is_given_back_only_where_blocks_are() -> None:
    given = {how: mebibytes(HEAP, how) for how in ("trimmed", "not trimmed", "never asked")}
    assert given["trimmed"] > 80  # of 95
    assert max(given["not trimmed"], given["never asked"]) < 10
