"""Ways in which gradient accumulation goes wrong, each with its correction, its source, and what shows it."""

from accum_lib.check.faults.catalogue import FAULTS, LIMITS, RECENT, Fault

__all__ = ["FAULTS", "LIMITS", "RECENT", "Fault"]
