"""What a trace has to know about the device that it speaks for.

Which kernel runs, what it keeps for the backward pass, and what it needs while it runs, differ from
device to device. Shapes do not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from accum_lib.memory.trace import INSTEAD, untraceable
from accum_lib.memory.trace.autocast import Casts, below, is_on
from accum_lib.memory.trace.shapes import Operator


class Scratch(NamedTuple):
    """Bytes that a kernel takes for itself and that are no straight line in M: what is one, and the rule.

    Attributes:
        number: a straight line in M, such as the rows of the input.
        nbytes: the bytes that follow from it.
    """

    number: int
    nbytes: Callable[[float], int]


HiddenBytes = Callable[[tuple, Any], tuple[int, int | Scratch]]


class Kernel(NamedTuple):
    """What one run of an operator's kernel has shown.

    Attributes:
        outputs: what it returned, as ``shapes.describe`` has it; None where that is (part of) an argument, or
            depends on values that a trace does not have.
        before, after: the most bytes that it held for itself before its last output was there, its other
            outputs included, and beside them all afterwards.
    """

    outputs: Any
    before: int
    after: int


class Device:
    """What all devices share; ``cpu.py`` and ``cuda.py`` say what is special.

    Attributes:
        name: "cpu" or "cuda".
        workspaces: what its libraries hold all the time, in bytes each.
        granularity: every request is rounded up to a multiple of it, in bytes.
        adds_in_place: set while an addition is one that a real run does in place.
        casts: autocast's copies, if the traced update runs under it.
        hidden: for some operators, the bytes that their kernel allocates for itself and frees.
    """

    name = ""
    granularity = 1
    workspaces: tuple[int, ...] = ()
    hidden: ClassVar[dict[Operator, HiddenBytes]] = {}

    def __init__(self) -> None:
        self.adds_in_place = False
        self.casts: Casts | None = None

    @property
    def workspace_bytes(self) -> int:
        """All workspaces together."""
        return sum(self.workspaces)

    def lower(self, tensor: Tensor) -> Tensor:
        """The tensor as autocast would have it for a matrix product."""
        return self.casts.lower(tensor) if self.casts is not None and is_on() else tensor

    def follows(self, tensor: Tensor) -> bool:
        """Whether this tensor's storage would lie in the device's memory."""
        raise NotImplementedError

    def kernels(self) -> dict[str, Callable]:
        """Operators that are another computation on this device than on meta, and the right one."""
        raise NotImplementedError

    def true_outputs(self, operator: Operator, args: tuple, outputs: Any) -> Any:
        """The outputs, where those on meta have another size than on this device."""
        return outputs

    def tried(self, operator: Operator, args: tuple, kwargs: dict[str, Any]) -> Kernel | None:
        """For an operator whose memory is not known, what a run for real shows; None if it is known."""
        return None

    def hidden_bytes(self, operator: Operator, args: tuple, outputs: Any) -> tuple[int, int | Scratch]:
        """What the kernel holds at most before its outputs are allocated, and beside them."""
        count = self.hidden.get(operator)
        return count(args, outputs) if count else (0, 0)


def _in_one_kernel(operator: Operator, *args: Any, **kwargs: Any) -> Any:
    """Leave it whole: PyTorch splits it up on meta tensors, but not where there is a kernel for it."""
    if torch.is_grad_enabled():  # differentiated once more
        return below(operator, *args, **kwargs)
    with torch._C._AutoDispatchBelowAutograd():
        return below(operator, *args, **kwargs)


# Backward operators that are one kernel on a CPU and on a GPU, and several operators on any other device.
IN_ONE_KERNEL = {
    name: partial(_in_one_kernel, getattr(torch.ops.aten, name).default)
    for name in ("silu_backward", "mish_backward")
}


def refusal(operator: str, why: str) -> Callable:
    """Instead of a kernel whose memory is not known: an error that says so."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise untraceable(f"aten.{operator}", f"has no model of its memory here ({why})", INSTEAD)

    return refuse
