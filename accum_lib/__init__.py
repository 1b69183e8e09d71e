"""Gradient accumulation you can see and touch: the exact loop, and what it costs, measured.

The core is the module ``accum_lib.accumulate``; it needs torch alone::

    from accum_lib.accumulate import accumulate, apply_update, windows

Nothing of it is imported here: the function of that name would hide the module.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
