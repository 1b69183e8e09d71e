"""What every adapter does: read the cases, run each, write what came of it. NumPy alone.

python with_optax.py cases.json found.json
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Case = dict[str, Any]
Loop = Callable[[Case], dict[str, Any]]


def arrays(case: Case, dtype: Any = np.float64) -> list[tuple[Any, Any]]:
    """The micro-batches of one epoch: inputs and labels."""
    pairs = zip(case["inputs"], case["labels"], strict=True)
    return [(np.array(x, dtype), np.array(y, np.int64)) for x, y in pairs]


def windows(items: list[Any], steps: int) -> list[list[Any]]:
    """The micro-batches of each update; the last may be fewer."""
    return [items[i : i + steps] for i in range(0, len(items), steps)]


def flat(weight: Any, bias: Any) -> list[float]:
    """The parameters as the checker has them: the weight (features, classes) by rows, then the bias."""
    both = [np.asarray(weight, np.float64).ravel(), np.asarray(bias, np.float64).ravel()]
    return [float(x) for x in np.concatenate(both)]


def serve(documented: Loop, mended: Loop | None = None) -> None:
    """Run each case as the framework's guide has it, and mended."""
    cases = json.loads(Path(sys.argv[1]).read_text())
    found = []
    for case in cases:
        entry = {"documented": _tried(documented, case)}
        if mended is not None:
            entry["mended"] = _tried(mended, case)
        found.append(entry)
    Path(sys.argv[2]).write_text(json.dumps(found))


def _tried(loop: Loop, case: Case) -> dict[str, Any]:
    try:
        return {"dtype": "float64", **loop(case)}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
