"""Follow every storage of a computation, from its birth to its death, without having any.

A tensor on PyTorch's *meta* device has a shape and a storage of a known size, but no memory behind it.
Python sees every operator that runs, so it sees every new storage; a weak reference reports when the
last tensor that uses it is gone. The engine that computes gradients is the real one, so what it keeps,
and for how long, is what it keeps in a real run.
"""

import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from accum_lib.memory.trace import INSTEAD, shapes, untraceable
from accum_lib.memory.trace.device import Device, Kernel, Scratch
from accum_lib.memory.trace.shapes import Operator, Shapes, tensors_in

aten = torch.ops.aten
PARAMETERS, GRADIENTS, STATE, INPUTS, COPIES = (  # what a storage may be for
    "parameters",
    "gradients",
    "optimizer state",
    "inputs",
    "weight copies",
)
COUNTED_EACH_TIME = (aten.convolution.default, aten.convolution_backward.default)  # strides matter, too
FORMULAS = {aten._grouped_mm.default: lambda a, b, *_, **__: 2 * a.numel() * b.shape[-1]}
READS_A_NUMBER = (aten._local_scalar_dense.default, aten.item.default, aten.is_nonzero.default)
LOOKS_AT_VALUES = (  # in its gradient's formula: for zeros, for numbers that are equal
    aten.prod.default, aten.prod.dim_int, aten.cumprod.default, aten.max.default, aten.min.default,
    aten.median.default, aten.nanmedian.default,
)  # fmt: skip
GRADIENT_UNKNOWN = {  # whose gradient's formula does something else in a trace than in a real run
    **dict.fromkeys(LOOKS_AT_VALUES, "in a way that depends on values"),
    aten.linalg_cholesky_ex.default: "otherwise while it is traced",
}
# The formula that writes into what it has just made, unless it is watched; and the operators that do so.
WRITES_INTO_ITS_OWN = "BinaryCrossEntropyWithLogitsBackward0", (aten.sub.Tensor, aten.mul.Tensor)
NOBODY = -1  # the number of a storage that is not followed
MAKES_ZEROS = (aten.new_zeros.default, aten.zeros.default, aten.zeros_like.default)
INTO_ZEROS = {  # what a formula for gradients runs while it is watched, and what it runs else
    aten.scatter.src: aten.scatter_.src,
    aten.scatter.value: aten.scatter_.value,
    aten.scatter_add.default: aten.scatter_add_.default,
    aten.index_add.default: aten.index_add_.default,
    aten.index_copy.default: aten.index_copy_.default,
    aten.index_put.default: aten.index_put_.default,
    aten.masked_scatter.default: aten.masked_scatter_.default,
}


@dataclass(frozen=True)
class Tape:
    """What a follower has seen. An *event* is the birth or the death of one storage.

    Attributes:
        nbytes: (storages,) bytes that each asks for.
        category: (storages,) what it is for: a name, or "" if unknown.
        resident: (storages,) it was there before the first event.
        storage: (events,) whose event it is.
        sign: (events,) +1 born, -1 died.
        operator: (events,) which entry of ``operators`` had run last.
        operators: the names of all operators, in order.
        flops: (operators,) floating-point operations of each product, convolution and attention; 0 of others.
        marks: (name, event, operator) where something began: what comes next.
        scratch: (storage, why it has that size) where the size is no straight line in M.
        tried: (storage, operator) of what an unknown kernel held or returned when it was run for real.
    """

    nbytes: np.ndarray
    category: np.ndarray
    resident: np.ndarray
    storage: np.ndarray
    sign: np.ndarray
    operator: np.ndarray
    operators: tuple[str, ...]
    flops: np.ndarray
    marks: tuple[tuple[str, int, int], ...]
    scratch: tuple[tuple[int, Scratch], ...] = ()
    tried: tuple[tuple[int, str], ...] = ()


class StorageFollower(TorchDispatchMode):
    """While this is open (``with``), every operator runs through it, and every storage is followed.

    Args:
        device: what the trace speaks for; it knows what a kernel needs besides its outputs.
    """

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device
        self.recording = True
        self.any_number_will_do = False  # set where what is read decides nothing, as in an optimizer
        _owners_of_one_held_alone()  # learnt now, since it runs a backward pass of its own
        self._shapes = Shapes()
        self._number: dict[int, int] = {}  # a storage's address: its number
        self._refs: dict[int, weakref.ref] = {}
        self._nbytes: list[int] = []
        self._category: list[str] = []
        self._resident: list[bool] = []
        self._events: list[tuple[int, int, int]] = []  # storage, sign, operator
        self._operators: list[str] = []
        self._flops: list[int] = []
        self._formula: dict[Operator, Any] = {}
        self._counted: dict[Any, int] = {}
        self._marks: list[tuple[str, int, int]] = []
        self._scratch: list[tuple[int, Scratch]] = []
        self._zeros: Any = None  # what the last operator returned, if it made zeros
        self._made: deque[int] = deque(maxlen=3)  # by the last operators; numbers, to keep none alive
        self._tried: list[tuple[int, str]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled in a trace, and PyTorch's guard against that takes a tenth of its time."""
        return False

    # --- What the tracer says

    def reside(self, tensors: Iterable[Tensor], category: str) -> None:
        """These tensors are there already."""
        for tensor in tensors:
            self.follow(tensor, category, resident=True)

    def pass_over(self, tensors: Iterable[Tensor]) -> None:
        """These tensors, which outlive the trace, take nothing on the device."""
        self._number.update((tensor.untyped_storage()._cdata, NOBODY) for tensor in tensors)

    def begin(self, nbytes: int, category: str = "") -> int:
        """Something is there from now on that no tensor of the trace has; its number."""
        return self._new(nbytes, category, resident=False)

    def end(self, number: int) -> None:
        """What has begun so is gone."""
        self._events.append((number, -1, len(self._operators)))

    def tag(self, tensors: Iterable[Tensor], category: str) -> None:
        """The storages of these tensors, which have been followed from their birth, are for this."""
        for tensor in tensors:
            number = self._number.get(tensor.untyped_storage()._cdata)
            if number is not None:
                self._category[number] = category

    def number_of(self, tensor: Tensor) -> int:
        """Which storage it is that the tensor uses, which is followed."""
        return self._number[tensor.untyped_storage()._cdata]

    def mark(self, name: str) -> None:
        """Here something begins."""
        self._marks.append((name, len(self._events), len(self._operators)))

    def tape(self) -> Tape:
        """All that has been seen so far."""
        storage, sign, operator = np.array(self._events, dtype=np.int64).reshape(-1, 3).T
        return Tape(
            nbytes=np.array(self._nbytes, dtype=np.int64),
            category=np.array(self._category),
            resident=np.array(self._resident, dtype=bool),
            storage=storage,
            sign=sign,
            operator=operator,
            operators=tuple(self._operators),
            flops=np.array(self._flops, dtype=np.int64),
            marks=tuple(self._marks),
            scratch=tuple(self._scratch),
            tried=tuple(self._tried),
        )

    # --- What PyTorch says

    def __torch_dispatch__(
        self, operator: Operator, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        in_place = self._is_in_place(operator, args)
        tried = self.device.tried(
            INTO_ZEROS[operator] if in_place and operator in INTO_ZEROS else operator, args, kwargs
        )
        outputs = args[0] if in_place else self._run(operator, args, kwargs, tried)
        self._zeros = outputs if operator in MAKES_ZEROS else None
        self._made.append(id(outputs))
        self._operators.append(str(operator))
        self._flops.append(self._count_flops(operator, args, kwargs, outputs))
        before, after = tried[1:] if tried else self.device.hidden_bytes(operator, args, outputs)
        by = str(operator) if tried else ""
        self._pass_through(before, by)
        for tensor in tensors_in(outputs):
            self.follow(tensor, tried=by)
        self._pass_through(after, by)
        return outputs

    def _is_in_place(self, operator: Operator, args: tuple) -> bool:
        """Whether a real run would write this into its first argument: it takes care while it is watched.

        So with gradients that are put into new zeros (areAnyTensorSubclassLike in FunctionsManual.cpp).
        """
        if operator in INTO_ZEROS:
            return args[0] is self._zeros and torch._C._current_graph_task_id() >= 0
        formula, operators = WRITES_INTO_ITS_OWN
        if operator in operators and id(args[0]) in self._made:
            node = torch._C._current_autograd_node()
            return node is not None and node.name() == formula
        return operator is aten.add.Tensor and (self.device.adds_in_place or _adds_up_gradients(args))

    def _run(self, operator: Operator, args: tuple, kwargs: dict[str, Any], tried: Kernel | None) -> Any:
        copies_to_cpu = operator is aten._to_copy.default and kwargs.get("device") == torch.device("cpu")
        if operator in READS_A_NUMBER or copies_to_cpu:
            return self._read(operator, args, kwargs)
        if operator in GRADIENT_UNKNOWN and args[0].requires_grad:
            reason = f"has a gradient that is computed {GRADIENT_UNKNOWN[operator]}"
            raise untraceable(operator, reason, INSTEAD)
        try:
            if tried and tried.outputs is not None:
                outputs = shapes.rebuild(tried.outputs)
            else:
                outputs = self._shapes.run(operator, args, kwargs)
        except NotImplementedError as error:
            raise untraceable(
                operator,
                "has an output whose shape depends on values, or no meta kernel",
                "Give the model inputs of fixed shape there, or measure it instead of predicting it",
            ) from error
        shapes.carry(operator, args, kwargs, outputs)
        return self.device.true_outputs(operator, args, outputs)

    def _count_flops(self, operator: Operator, args: tuple, kwargs: dict[str, Any], outputs: Any) -> int:
        """By PyTorch's formulas (torch/utils/flop_counter.py): a multiplication and an addition are two."""
        if operator not in self._formula:
            self._formula[operator] = FORMULAS.get(operator) or flop_registry.get(operator._overloadpacket)
        formula = self._formula[operator]
        if formula is None:
            return 0
        shapes = operator, tuple(tuple(t.shape) for t in tensors_in(args))
        if shapes not in self._counted or operator in COUNTED_EACH_TIME:
            self._counted[shapes] = int(formula(*args, **kwargs, out_val=outputs))
        return self._counted[shapes]

    def _read(self, operator: Operator, args: tuple, kwargs: dict[str, Any]) -> Any:
        try:
            return operator(shapes.value_of(args[0]), *args[1:], **kwargs)
        except shapes.UnknownValueError:
            if self.any_number_will_do:
                return operator(torch.ones(args[0].shape, dtype=args[0].dtype), *args[1:], **kwargs)
            raise untraceable(
                operator,
                "reads a number that only a real run has (data-dependent control flow)",
                "Take that branch out of the model for the prediction (torch.where computes both), or "
                "measure it instead of predicting it",
            ) from None

    def follow(self, tensor: Tensor, category: str = "", resident: bool = False, tried: str = "") -> None:
        """Note the birth of the tensor's storage, unless it is followed already, and later its death."""
        if not self.device.follows(tensor):
            return
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._number:
            return
        if tried and self.recording:
            self._tried.append((len(self._nbytes), tried))
        number = self._new(storage.nbytes(), category, resident)
        self._number[address] = number
        self._refs[address] = weakref.ref(storage, lambda _: self._died(address, number))

    def _new(self, nbytes: int, category: str, resident: bool) -> int:
        number = len(self._nbytes)
        self._nbytes.append(nbytes)
        self._category.append(category)
        self._resident.append(resident or not self.recording)
        if self.recording and not resident:
            self._events.append((number, 1, len(self._operators)))
        return number

    def _died(self, address: int, number: int) -> None:
        self._number.pop(address, None)
        self._refs.pop(address, None)
        if self.recording:
            self._events.append((number, -1, len(self._operators)))
        elif self._resident[number]:
            self._nbytes[number] = 0  # it came and went while recording was off

    def _pass_through(self, size: int | Scratch, tried: str = "") -> None:
        """A buffer inside a kernel, seen in a trial or known: it is gone when the operator returns."""
        if not self.recording:
            return
        if isinstance(size, Scratch):  # on every tape, also where this M needs none: they have to line up
            self._scratch.append((len(self._nbytes), size))
            size = size.nbytes(size.number)
        elif tried:
            self._tried.append((len(self._nbytes), tried))
        elif not size:
            return
        self.end(self.begin(size))


def _adds_up_gradients(args: tuple) -> bool:
    """Whether this addition is the engine's own, of two gradients of one tensor, in place in a real run.

    A tensor that is used twice gets two gradients. The engine adds the second to the first **in place**
    if nothing else holds the first, but never while Python watches its operators
    (torch/csrc/autograd/input_buffer.cpp). So the trace has to do what the engine would have done.
    """
    if torch._C._current_graph_task_id() < 0 or torch.is_grad_enabled():
        return False
    first, second = args
    if not isinstance(second, Tensor) or first.shape != second.shape or first.dtype != second.dtype:
        return False
    alone = _owners(first) <= _owners_of_one_held_alone()
    return alone and _is_dense(first)


def _is_dense(tensor: Tensor) -> bool:
    """Whether it fills its memory without gaps, in some order of its dimensions (c10/core/Contiguity.h)."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _owners(tensor: Tensor) -> int:
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


@cache
def _owners_of_one_held_alone() -> int:
    """How many owners PyTorch counts, as seen from here, of a gradient that only the engine holds."""
    counted: list[int] = []

    class Probe(TorchDispatchMode):
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if operator is aten.add.Tensor:
                counted.append(_owners(args[0]))
            return operator(*args, **(kwargs or {}))

    weight = torch.ones(2, requires_grad=True)
    twice = weight * 2
    loss = (twice * 3).sum() + (twice * 4).sum()
    with Probe():
        loss.backward()
    return counted[0]
