"""What each observation shows of each fault."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sightings:
    """Faults against observations, from real training runs.

    Attributes:
        faults: (F,) their names; row f of the arrays belongs to fault f.
        observations: (O,) what one looks at.
        values: (F, O) what was measured: see ``units``.
        seen: (F, O) whether it stands out from what is normal.
        units: (O,) what a value means.
        normal: (O,) the largest value that is still normal.
    """

    faults: tuple[str, ...]
    observations: tuple[str, ...]
    values: np.ndarray
    seen: np.ndarray
    units: tuple[str, ...]
    normal: np.ndarray
