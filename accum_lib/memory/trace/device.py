"""What a trace has to know about the device that it speaks for.

Which kernel runs, what it keeps for the backward pass, and what it needs while it runs, differ from
device to device. Shapes do not.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from accum_lib.memory.trace import untraceable
from accum_lib.memory.trace.autocast import Casts, is_on
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

    def hidden_bytes(self, operator: Operator, args: tuple, outputs: Any) -> tuple[int, int | Scratch]:
        """What the kernel holds at most before its outputs are allocated, and beside them."""
        count = self.hidden.get(operator)
        return count(args, outputs) if count else (0, 0)


def refusal(operator: str, why: str) -> Callable:
    """Instead of a kernel whose memory is not known: an error that says so."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise untraceable(
            f"aten.{operator}", f"has no model of its memory here ({why})", "Measure it instead"
        )

    return refuse
