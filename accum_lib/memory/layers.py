"""A deep model's trace from a few of its layers: where all are alike, the middle one is repeated.

Kept are the first three layers and the last two. If the third does what its neighbours do, operator by
operator and byte by byte, it stands for all that are left out: in a forward pass its copies come one after
the other, in a backward pass the other way round. What a copy ends is its own, or its neighbours', or comes
from outside; what ends outside ends once for each copy. The optimizer's update is traced with all parameters,
once for every precision and every M.

Whether anything else depends on the depth is seen from a trace with one layer more: the shorter one has to
say the same. Where it does not, or layers differ, the whole model is traced.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import groupby, pairwise
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import nn

from accum_lib.memory.cpu import CPU
from accum_lib.memory.cuda import CUDA
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace.device import Device
from accum_lib.memory.trace.sharded import first_input, shard_of, sharded_over
from accum_lib.memory.trace.storages import GRADIENTS, INPUTS, PARAMETERS, StorageFollower, Tape
from accum_lib.memory.trace.update import (
    categories,
    everything_open,
    gradients,
    run_passes,
    run_update,
    to_meta,
    trace_update,
)
from accum_lib.memory.tuning import prepared
from accum_lib.memory.workloads import Workload

MIDDLE, KEPT = 2, 5  # the layer that is repeated, and how many are traced
OUTSIDE = -9  # the number of no layer, nor of a layer's neighbour
WORTH_IT = 8  # layers, from which this saves time
TRIED_WITH = 2  # examples in the trace with one layer more
OPTIMIZERS = ("sgd", "momentum", "adamw", "adafactor")  # whose update comes after all passes
Run = tuple[range, Callable[[int], int]]  # events, and what they make of a storage's number
Kind = tuple[str, str]  # of device: its name, and the attention that is pinned there
PLAIN = (int, float, str, bool, type(None), tuple, torch.dtype, FunctionType, type)


class NotAlikeError(Exception):
    """The layers differ, or something else depends on how many there are."""


def trace(
    workload: Workload, micro_batch_size: int, accumulation_steps: int, settings: Settings, device: Device
) -> Tape:
    """What ``trace_update`` returns, in the time of a few layers where all are alike.

    Raises:
        UntraceableError: as ``trace_update`` does.
    """
    usual = settings.set_to_none and settings.optimizer in OPTIMIZERS and type(device) in (CPU, CUDA)
    if usual and workload.repeats:
        with suppress(Exception):  # of any kind: if it is the model's own, the whole trace says so
            return from_a_few(workload, micro_batch_size, accumulation_steps, settings, device)
    return trace_update(workload, micro_batch_size, accumulation_steps, settings, device)


def from_a_few(workload: Workload, m: int, steps: int, settings: Settings, device: Device) -> Tape:
    """The same, or an error.

    Raises:
        NotAlikeError: this model needs a whole trace.
    """
    stacks, depth = _stacks(workload)
    kind = device.name, getattr(device, "backend", "")
    in_passes = replace(settings, optimizer="sgd", implementation="foreach")
    in_update = replace(settings, checkpointing=False, chunked=False, precision="fp32")
    plain = replace(in_passes, checkpointing=False, precision=settings.weights)
    if not stacks or not _depth_is_all(workload, steps, plain, kind):
        raise NotAlikeError
    passes, ends = _grown(*_few(workload, KEPT, m, steps, in_passes, kind), stacks, depth)
    return _joined(passes, ends, *_update(workload, in_update, kind, tuple(ends)))


@lru_cache(maxsize=64)
def _depth_is_all(workload: Workload, steps: int, settings: Settings, device: Kind) -> bool:
    """Whether a trace with one layer more is what the shorter one says."""
    stacks, _ = _stacks(workload)
    try:
        one_more, short = (_few(workload, n, TRIED_WITH, steps, settings, device) for n in (KEPT + 1, KEPT))
        return _same(_grown(*short, stacks, KEPT + 1)[0], _in_order(*one_more)[0])
    except Exception:  # of any kind: if it is the model's own, the whole trace says so
        return False


# --- Which layers are alike


@lru_cache(maxsize=16)
def _stacks(workload: Workload) -> tuple[tuple[str, ...], int]:
    """The names of the model's longest lists of layers that are all alike, and how many each has."""
    with torch.device("meta"):
        model = workload.make_model()
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    depth = max((len(m) for m in lists.values()), default=0)
    longest = [name for name, m in lists.items() if len(m) == depth]
    outer = [n for n in longest if not any(n.startswith(f"{other}.") for other in longest)]
    alike = depth >= WORTH_IT and all(_alike(list(lists[name])) for name in outer)
    return (tuple(outer) if alike and _evenly(vars(model.config), depth) else ()), depth


def _alike(layers: list[nn.Module]) -> bool:
    """Whether all but the first and the last have the same parts, shapes and plain attributes."""
    model, *others = (_facts(layer) for layer in layers[1:-1])
    return all(
        own.keys() == model.keys()
        and all(own[k] == v or _is_number_of_layer(v, own[k], i) for k, v in model.items())
        for i, own in enumerate(others, start=1)
    )


def _is_number_of_layer(first: Any, own: Any, further: int) -> bool:
    return type(first) is int and type(own) is int and own - first == further


def _facts(layer: nn.Module) -> dict[tuple[str, str], Any]:
    facts: dict[tuple[str, str], Any] = {}
    for name, module in layer.named_modules():
        facts[name, ""] = type(module)
        facts.update({(name, key): v for key, v in vars(module).items() if isinstance(v, PLAIN)})
        for key, t in {**module._parameters, **module._buffers}.items():
            facts[name, key] = None if t is None else (t.shape, t.dtype, t.requires_grad)
    return facts


def _evenly(config: dict[str, Any], depth: int) -> bool:
    """Whether no list of the configuration says something else about each layer."""
    for value in config.values():
        if isinstance(value, (list, tuple)) and len(value) == depth:
            if any(entry != value[1] for entry in value[1:-1]):
                return False
        elif hasattr(value, "to_dict") and not _evenly(vars(value), depth):
            return False
    return True


# --- A trace with a few layers


@lru_cache(maxsize=8)
def _few(
    workload: Workload, kept: int, m: int, steps: int, settings: Settings, device: Kind
) -> tuple[Tape, dict[str, int]]:
    """All passes with ``kept`` layers, marked where each begins, and the storage of each gradient."""
    model, loss_sum, follower = *_short(workload, kept, settings), StorageFollower(_device(*device))
    batches = [to_meta(workload.make_batch(m)) for _ in range(steps)]
    layers: list[nn.Module] = []
    for name in _stacks(workload)[0]:
        for i, layer in enumerate(model.get_submodule(name).children()):
            begins = partial(_mark_layer, follower, name, i)
            layer.register_forward_pre_hook(begins, with_kwargs=True)
            layers.append(layer)
    sharded = sharded_over(settings, follower, model, layers)
    follower.reside([*model.parameters(), *model.buffers()], PARAMETERS)
    with everything_open(follower, settings, follower.device):
        run_passes(model, loss_sum, batches, settings, follower, sharded)
        tape = follower.tape()
    ends = {n: follower.number_of(p.grad) for n, p in model.named_parameters() if p.grad is not None}
    return tape, ends


def _short(workload: Workload, kept: int, settings: Settings) -> tuple[nn.Module, Callable]:
    def blocks(model: nn.Module) -> list[nn.Module]:
        stacks = (model.get_submodule(name) for name in _stacks(workload)[0])
        return [block for stack in stacks for block in stack.children()]

    make = partial(copy.deepcopy, _shortened(workload, kept))
    with torch.device("meta"):
        return prepared(replace(workload, make_model=make, blocks=blocks), settings)


@lru_cache(maxsize=4)
def _shortened(workload: Workload, kept: int) -> nn.Module:
    stacks, depth = _stacks(workload)
    with torch.device("meta"):
        model = workload.make_model()
    for name in stacks:
        del model.get_submodule(name)[kept - MIDDLE : depth - MIDDLE]  # type: ignore[operator]
    return model


def _mark_layer(
    follower: StorageFollower, stack: str, layer: int, module: nn.Module, args: tuple, kwargs: dict[str, Any]
) -> None:
    """Here the layer begins, and there, in the backward pass, the one before it."""
    follower.mark(f"in\t{stack}\t{layer}")
    given = first_input(args, kwargs)
    if layer and given is not None:
        given.register_hook(lambda _: follower.mark(f"back\t{stack}\t{layer - 1}"))


def _device(name: str, attention: str) -> Device:
    return CPU() if name == "cpu" else CUDA(attention)


# --- The middle layer again and again


@dataclass(frozen=True)
class _Part:
    """Events and operators from one mark to the next: in which pass, "in" or "back", and of which layer."""

    mark: str
    way: tuple[int, str]
    layer: int  # OUTSIDE if of none
    events: range
    operators: range


def _parts(tape: Tape, stack: str) -> list[_Part]:
    edges = [*tape.marks, ("", len(tape.storage), len(tape.operators))]
    parts, number, way, layer = [], 0, "", OUTSIDE
    for (mark, event, operator), (_, next_event, next_operator) in pairwise(edges):
        what, *where = mark.split("\t")
        number += what == "forward"
        if what in ("forward", "passes done"):
            layer = OUTSIDE
        elif what == "backward":
            way, layer = "back", KEPT - 1
        elif where and where[0] == stack:
            way, layer = what, int(where[1])
        events, operators = range(event, next_event), range(operator, next_operator)
        parts.append(_Part(mark, (number, way), layer, events, operators))
    return parts


class _Repeated:
    """A tape whose stack's middle layer is there several times.

    Args:
        tape: of the passes with ``KEPT`` layers.
        stack: which list of layers.
        copies: how often the middle one is there afterwards.

    Raises:
        NotAlikeError: the middle layer does something else than its neighbours.
    """

    def __init__(self, tape: Tape, stack: str, copies: int) -> None:
        self.tape, self.copies, self.parts = tape, copies, _parts(tape, stack)
        self.storage, self.sign = tape.storage.tolist(), tape.sign.tolist()
        # A storage's layer, and its key: pass, way and rank among what is born there.
        self.born: dict[int, tuple[int, tuple]] = {}
        self.at: dict[tuple[int, tuple], int] = {}
        ranks: dict[tuple, int] = {}
        for part in self.parts:
            for event in part.events if part.layer != OUTSIDE else ():
                if self.sign[event] > 0:
                    place = part.layer, part.way
                    rank = ranks[place] = ranks.get(place, -1) + 1
                    key = part.layer, (*part.way, rank)
                    self.born[self.storage[event]], self.at[key] = key, self.storage[event]
        self._check()
        self.own = [s for s, (layer, _) in self.born.items() if layer == MIDDLE]
        size = len(tape.nbytes)
        self.copy_of = [dict(zip(self.own, self.own, strict=True))]
        for i in range(copies - 1):
            first = size + i * len(self.own)
            self.copy_of.append(dict(zip(self.own, range(first, first + len(self.own)), strict=True)))

    def _check(self) -> None:
        middle = {beyond: self._does(MIDDLE, beyond) for beyond in (-1, 1)}
        if not middle[1] or any(self._does(MIDDLE + to, to) != done for to, done in middle.items()):
            raise NotAlikeError

    def _does(self, layer: int, beyond: int) -> list[Any]:
        """All that a layer does, except which of the storages it is that it ends of the layer beyond it."""
        tape = self.tape
        done: list[Any] = []
        for part in (p for p in self.parts if p.layer == layer):
            ran = slice(part.operators.start, part.operators.stop)
            done.append((part.way, tape.operators[ran], tape.flops[ran].tolist()))
            for event in part.events:
                storage, when = self.storage[event], tape.operator[event] - ran.start
                home, key = self.born.get(storage, (OUTSIDE, ()))
                if abs(home - layer) > 1:  # neither its own nor a neighbour's: the same one for all
                    whose: tuple = OUTSIDE, storage
                else:
                    whose = home - layer, () if home - layer == beyond else key
                done.append((self.sign[event], when, tape.nbytes[storage], tape.category[storage], whose))
        return done

    def _copy(self, number: int, storage: int) -> int:
        """Which storage it is that the copy of the middle layer means."""
        home, key = self.born.get(storage, (OUTSIDE, ()))
        number += home - MIDDLE
        if home not in (MIDDLE - 1, MIDDLE, MIDDLE + 1) or not 0 <= number < self.copies:
            return storage
        return self.copy_of[number][self.at[MIDDLE, key]]

    def _times_through(self, part: _Part) -> Iterator[list[Run]]:
        """Each time through the part's operators: its events, and which storages these mean."""
        if part.layer == MIDDLE:
            for number in range(self.copies) if part.way[1] == "in" else reversed(range(self.copies)):
                yield [(part.events, partial(self._copy, number))]
        elif part.layer in (MIDDLE - 1, MIDDLE + 1):
            yield [(part.events, partial(_renamed, self.copy_of[0 if part.layer < MIDDLE else -1]))]
        else:
            yield list(self._outside(part.events))

    def _outside(self, events: range) -> Iterator[Run]:
        """What ends here of the middle layer ends once for each copy, in the order of its neighbours."""
        later_ends_first = False
        for ours, run in groupby(events, lambda event: self.storage[event] in self.copy_of[0]):
            same = list(run)
            for names in (self.copy_of[::-1] if later_ends_first else self.copy_of) if ours else [{}]:
                yield range(same[0], same[-1] + 1), partial(_renamed, names)
            later_ends_first = self.born.get(self.storage[same[-1]], (OUTSIDE,))[0] == MIDDLE + 1

    def made(self) -> Tape:
        """The tape with all copies."""
        tape, when = self.tape, self.tape.operator.tolist()
        storage, operator, source, ran = (list[int]() for _ in range(4))
        marks = []
        for part in self.parts:
            marks.append((part.mark, len(storage), len(ran)))
            for runs in self._times_through(part):
                shift = len(ran) - part.operators.start
                ran.extend(part.operators)
                for events, meant in runs:
                    source.extend(events)
                    storage.extend(meant(self.storage[event]) for event in events)
                    operator.extend(when[event] + shift for event in events)
        every = np.concatenate([np.arange(len(tape.nbytes)), np.tile(self.own, self.copies - 1)]).astype(int)
        return replace(
            tape,
            nbytes=tape.nbytes[every],
            category=tape.category[every],
            resident=tape.resident[every],
            storage=np.array(storage),
            sign=tape.sign[source],
            operator=np.array(operator),
            operators=tuple(tape.operators[i] for i in ran),
            flops=tape.flops[ran],
            marks=tuple(marks),
            scratch=self._with_copies(tape.scratch),
            tried=self._with_copies(tape.tried),
        )

    def _with_copies(self, noted: tuple[tuple[int, Any], ...]) -> tuple[tuple[int, Any], ...]:
        more = [(names[s], what) for names in self.copy_of[1:] for s, what in noted if s in names]
        return (*noted, *more)

    def all_names(self, ends: dict[str, int], stack: str) -> dict[str, int]:
        """The gradients' storages by the names that their parameters have in the whole model."""
        found = {}
        for name, storage in ends.items():
            number, _, rest = name.removeprefix(f"{stack}.").partition(".")
            if not name.startswith(f"{stack}.") or int(number) < MIDDLE:
                found[name] = storage
            elif int(number) > MIDDLE:
                found[f"{stack}.{int(number) + self.copies - 1}.{rest}"] = storage
            else:
                found |= {f"{stack}.{MIDDLE + i}.{rest}": of[storage] for i, of in enumerate(self.copy_of)}
        return found


def _renamed(names: dict[int, int], storage: int) -> int:
    return names.get(storage, storage)


def _grown(
    tape: Tape, ends: dict[str, int], stacks: tuple[str, ...], depth: int
) -> tuple[Tape, dict[str, int]]:
    """With all layers, and in the order of births."""
    for stack in stacks:
        repeated = _Repeated(tape, stack, depth - KEPT + 1)
        tape, ends = repeated.made(), repeated.all_names(ends, stack)
    return _in_order(tape, ends)


def _in_order(tape: Tape, ends: dict[str, int]) -> tuple[Tape, dict[str, int]]:
    """Inputs first, then what is born in the passes, in this order; what else was there is left out."""
    inputs = np.flatnonzero(tape.resident & (tape.category == INPUTS))
    kept = np.concatenate([inputs, tape.storage[tape.sign > 0]]).astype(int)
    number = np.full(len(tape.nbytes), -1)
    number[kept] = np.arange(len(kept))
    if (number[tape.storage] < len(inputs)).any():
        raise NotAlikeError
    return replace(
        tape,
        nbytes=tape.nbytes[kept],
        category=tape.category[kept],
        resident=tape.resident[kept],
        storage=number[tape.storage],
        marks=tuple(mark for mark in tape.marks if "\t" not in mark[0]),
        scratch=tuple(sorted(((int(number[s]), w) for s, w in tape.scratch), key=lambda entry: entry[0])),
        tried=tuple(sorted((int(number[s]), w) for s, w in tape.tried)),
    ), {name: int(number[s]) for name, s in ends.items()}


def _same(one: Tape, other: Tape) -> bool:
    """Whether two tapes say the same, the rules of their scratch apart."""
    arrays = ("nbytes", "category", "storage", "sign", "operator", "flops")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
        and (one.operators, one.marks, one.tried) == (other.operators, other.marks, other.tried)
        and [(s, why.number) for s, why in one.scratch] == [(s, why.number) for s, why in other.scratch]
    )


# --- The update


@lru_cache(maxsize=16)
def _update(
    workload: Workload, settings: Settings, device: Kind, trained: tuple[str, ...]
) -> tuple[Tape, dict[str, int]]:
    """The optimizer's update of the whole model, and each gradient's storage."""
    follower = StorageFollower(_device(*device))
    with torch.device("meta"):
        model, _ = prepared(workload, settings)
        if settings.cards > 1:
            for p in model.parameters():
                p.data = shard_of(p, settings.cards)
    follower.reside([*model.parameters(), *model.buffers()], PARAMETERS)
    optimizer = settings.make_optimizer(model.parameters(), fused=False)
    parameters = dict(model.named_parameters())
    ends = {name: torch.empty_like(parameters[name]) for name in trained}
    for name, gradient in ends.items():
        parameters[name].grad = gradient
    follower.reside(gradients(model), GRADIENTS)
    begins = {name: follower.number_of(gradient) for name, gradient in ends.items()}
    del ends, gradient  # or they would outlive the update
    with everything_open(follower, settings, follower.device):
        run_update(model, optimizer, settings, follower)
        return follower.tape(), begins


def _joined(passes: Tape, ends: dict[str, int], update: Tape, begins: dict[str, int]) -> Tape:
    """One tape of both: parameters, inputs, what the passes make, the optimizer's state, its update."""
    left = np.bincount(passes.storage, passes.sign, minlength=len(passes.nbytes))
    if set(np.flatnonzero(left)) != set(ends.values()):
        raise NotAlikeError  # of some parameters of the layers' the gradients are not known by name
    before, after = min(begins.values()), max(begins.values()) + 1
    new = np.arange(len(update.nbytes))
    new[after:] += len(passes.nbytes) - (after - before)
    for name, storage in begins.items():
        new[storage] = before + ends[name]
    ran = len(passes.operators)

    def both(name: str) -> np.ndarray:
        of_update = getattr(update, name)
        return np.concatenate([of_update[:before], getattr(passes, name), of_update[after:]])

    def noted(name: str) -> tuple[tuple[int, Any], ...]:
        of_passes = ((s + before, what) for s, what in getattr(passes, name))
        return (*of_passes, *((int(new[s]), what) for s, what in getattr(update, name)))

    tape = replace(
        passes,
        nbytes=both("nbytes"),
        category=both("category"),
        resident=both("resident"),
        storage=np.concatenate([passes.storage + before, new[update.storage]]),
        sign=np.concatenate([passes.sign, update.sign]),
        operator=np.concatenate([passes.operator, update.operator + ran]),
        operators=passes.operators + update.operators,
        flops=np.concatenate([passes.flops, update.flops]),
        marks=(*passes.marks, *((n, e + len(passes.storage), o + ran) for n, e, o in update.marks)),
        scratch=noted("scratch"),
        tried=noted("tried"),
    )
    return replace(tape, category=categories(tape))
