"""One update run on meta tensors, with the birth and death of each storage written down."""

import contextlib
import pathlib
import sys
import types

import torch

ENGINE = pathlib.Path(__file__).parents[1]  # of the whole memory engine
PASSED_OVER = (str(ENGINE), str(pathlib.Path(torch.__file__).parent), contextlib.__file__)

INSTEAD = "Measure it instead of predicting it (measure_apart in accum_lib.lessons.memory.measure)"


class UntraceableError(ValueError):
    """The model asks for a number that a trace does not have, or runs what the trace does not know."""


class TraceMismatchError(ValueError):
    """Two traces of different micro-batch sizes do not line up, so nothing may be read off between them."""


def untraceable(operator: object, reason: str, instead: str) -> UntraceableError:
    """An error that names the operator, where in the model it was called, why, and what to do instead."""
    return UntraceableError(f"{operator}, called at {where()}, {reason}. {instead}")


def where() -> str:
    """File and line of the innermost call that is neither PyTorch's nor the trace's own."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(PASSED_OVER):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown place"
