"""FSDP2 in a trace: what one of N cards gathers, and when, and which shard of every gradient it keeps.

Followed is ``torch.distributed.fsdp.fully_shard`` with its defaults, on each of the repeated layers and on
the model (Zhao et al. 2023, arXiv 2304.11277; the order of requests is that of its _fsdp_param_group.py). A
*unit* is a layer with its parameters. The root is what is left, embedding and head among it; it stays
gathered from the start of a pass to its end. The gradients are averaged in every pass.

A gather asks twice for a unit: for what the collective writes, all shards in one piece, and for the whole
parameters. In a forward pass the piece goes when the next unit's is there; in a backward pass when it has
been copied, while the next one is asked for already. Averaging asks for one piece more, which goes with the
next one's. Autocast's 16-bit copies are kept for the backward pass and are not sharded: bf16 weights are.
"""

from collections import Counter
from collections.abc import Iterable
from functools import partial
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import UntraceableError
from accum_lib.memory.trace.shapes import tensors_in
from accum_lib.memory.trace.storages import COPIES, GRADIENTS, PARAMETERS, StorageFollower

ELEMENTWISE = ("sgd", "momentum", "adamw")  # each number's state is as large as the number


def shard_of(p: Tensor, cards: int) -> Tensor:
    """The largest shard of a parameter: FSDP2 cuts its first dimension, and the first card has the most.

    Raises:
        UntraceableError: the parameter has no dimension.
    """
    if not p.dim():
        raise UntraceableError(
            "FSDP2 shards no parameter without a dimension: give it the shape (1,), or plan for one card"
        )
    return torch.empty((ceil(p.shape[0] / cards), *p.shape[1:]), dtype=p.dtype, device=p.device)


def first_input(args: tuple, kwargs: dict[str, Any]) -> Tensor | None:
    """A layer's first input that gets a gradient: when it is there, the layer's backward pass is done."""
    given = next((t for t in tensors_in([*args, *kwargs.values()]) if t.dtype.is_floating_point), None)
    return given if given is not None and given.requires_grad else None


def sharded_over(
    settings: Settings, follower: StorageFollower, model: nn.Module, layers: list[nn.Module]
) -> "Sharded | None":
    """What shards the model in its trace; None for one card.

    Raises:
        UntraceableError: FSDP2 does not shard it, or what it does with this optimizer is not known here.
    """
    if settings.cards == 1:
        return None
    if settings.optimizer not in ELEMENTWISE or not settings.set_to_none:
        raise UntraceableError(
            f"what {settings.optimizer} keeps of a shard is not known here: over several cards take "
            f"{', '.join(ELEMENTWISE)}, with gradients that are set to None"
        )
    if settings.chunked:
        raise UntraceableError(
            "a loss in chunks runs the head apart from the model, where FSDP2 has not gathered its weights: "
            "plan for one card, or for the usual loss"
        )
    return Sharded(follower, model, layers, settings.cards)


class _Unit:
    """Parameters that are gathered together, in bytes of all cards' shards, and what is there of them."""

    def __init__(self, parameters: Iterable[nn.Parameter], cards: int) -> None:
        self.parameters = list(parameters)
        self.padded = {p: cards * prod(shard_of(p, cards).shape) * p.element_size() for p in self.parameters}
        self.piece: list[int] = []  # what the collective wrote
        self.whole: list[int] = []


class Sharded:
    """A model of which every card has a shard; while it is traced, as one card sees it.

    Args:
        follower: of the trace, not open yet. Of parameters it follows the shards, and what is gathered.
        model: on meta. It has whole parameters until ``to_shards``.
        layers: those that become units, in any order; one inside another is part of it.
        cards: N.

    Raises:
        UntraceableError: there are no layers, two of them share a parameter, or it has no dimension.
    """

    def __init__(
        self, follower: StorageFollower, model: nn.Module, layers: list[nn.Module], cards: int
    ) -> None:
        if not layers:
            raise UntraceableError(
                f"{type(model).__name__} has no list of layers for FSDP2 to gather one by one: plan for "
                "one card"
            )
        inside = {part for layer in layers for part in layer.modules() if part is not layer}
        layers = [layer for layer in layers if layer not in inside]
        counted = Counter(p for layer in layers for p in layer.parameters())
        if any(times > 1 for times in counted.values()):
            raise UntraceableError("FSDP2 shards no parameter that two layers share: plan for one card")
        self.follower, self.cards = follower, cards
        self.shards = {p: shard_of(p, cards) for p in model.parameters()}
        self.whole = [p.detach() for p in self.shards]  # kept, as the follower knows them by their address
        follower.pass_over(self.whole)
        follower.reside(self.shards.values(), PARAMETERS)
        self.root = _Unit((p for p in self.shards if p not in counted), cards)
        self.order: list[_Unit] = []  # in which they ran
        self.last_piece: list[int] = []
        self.averaged: list[int] = []
        self.gradients: dict[nn.Parameter, Tensor] = {}
        for layer in layers:
            unit = _Unit(layer.parameters(), cards)
            # The first before, the second after whoever marks the layers.
            layer.register_forward_pre_hook(partial(self._watch, unit), prepend=True, with_kwargs=True)
            layer.register_forward_pre_hook(partial(self._enter, unit), with_kwargs=True)
            layer.register_forward_hook(partial(self._leave, unit))

    # --- A pass

    def begin_pass(self) -> None:
        """Before the forward pass."""
        self.order = []
        self._gather(self.root)
        self._copy_out(self.root, keep=True)

    def turn_back(self) -> None:
        """Between the forward pass and the backward pass, for which the last unit is asked for already."""
        self._end(self.last_piece)
        if self.order:
            self._gather(self.order[-1])

    def end_pass(self) -> None:
        """After the backward pass: the root's turn, and that of units which no gradient went through."""
        for unit in (*reversed(self.order), self.root):
            self._close(unit)
        self._end(self.averaged)

    def to_shards(self) -> None:
        """After the last pass: the parameters and gradients that the optimizer sees."""
        for p, shard in self.shards.items():
            p.data, p.grad = shard, self.gradients.get(p)
        self.gradients = {}

    # --- A unit's turn

    def _watch(self, unit: _Unit, layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        given = first_input(args, kwargs)
        if given is not None:
            given.register_hook(lambda _: self._close(unit))

    def _enter(self, unit: _Unit, layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self._gather(unit)
        self._end(self.last_piece)
        self._copy_out(unit, keep=True)
        given, before = first_input(args, kwargs), len(self.order) - 1
        if given is not None and before >= 0:
            given.register_hook(lambda _: self._open(before))
        self.order.append(unit)

    def _leave(self, unit: _Unit, layer: nn.Module, args: tuple, output: Any) -> None:
        self._end(unit.whole)
        given, number = first_input((output,), {}), len(self.order) - 1
        if given is not None:
            given.register_hook(lambda _: self._open(number) if number == len(self.order) - 1 else None)

    def _open(self, number: int) -> None:
        """The backward pass of the unit that ran as this one begins."""
        self._gather(self.order[number])
        self._copy_out(self.order[number], keep=False)
        if number:
            self._gather(self.order[number - 1])

    def _close(self, unit: _Unit) -> None:
        """Its backward pass is done: whole parameters go, and whole gradients become shards."""
        self._end(unit.piece)
        self._end(unit.whole)
        found = [p for p in unit.parameters if p.grad is not None]
        if not found:
            return
        self._end(self.averaged)
        self.averaged.append(self.follower.begin(sum(unit.padded[p] for p in found)))
        for p in found:
            p.grad = None
        added = sum(unit.padded[p] for p in found if p in self.gradients)
        if added:
            self.follower.end(self.follower.begin(added // self.cards))
        new = {p: torch.empty_like(self.shards[p]) for p in found if p not in self.gradients}
        self.follower.tag(new.values(), GRADIENTS)
        self.gradients |= new

    # --- What is asked for

    def _gather(self, unit: _Unit) -> None:
        if not unit.piece and not unit.whole:
            unit.piece.append(self.follower.begin(sum(unit.padded.values()), COPIES))

    def _copy_out(self, unit: _Unit, keep: bool) -> None:
        if not unit.whole:
            unit.whole += [self.follower.begin(nbytes, COPIES) for nbytes in unit.padded.values()]
        if keep:
            self.last_piece, unit.piece = unit.piece, []
        else:
            self._end(unit.piece)

    def _end(self, storages: list[int]) -> None:
        while storages:
            self.follower.end(storages.pop())
