"""Gradient accumulation, to see and to touch: the exact loop, and what it costs, measured.

The core is ``accum_lib.accumulate``; it needs torch alone, so that is all this package imports.
"""

from accum_lib._version import __version__
from accum_lib.accumulate import UpdateResult, WindowResult, accumulate, apply_update, windows

__all__ = ["UpdateResult", "WindowResult", "__version__", "accumulate", "apply_update", "windows"]
