"""What several processes send each other while they make updates, and what that is predicted to cost."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Span:
    """Something that took a while, in seconds since the update began.

    Attributes:
        kind: "forward", "backward" or "all-reduce".
        start, stop: seconds.
        bytes: of the gradients that were all-reduced; 0 for computing.
    """

    kind: str
    start: float
    stop: float
    bytes: int = 0


@dataclass(frozen=True)
class Traffic:
    """One setting, measured: what a process handed to all-reduce in an update, and how long it all took.

    Attributes:
        world_size: processes.
        micro_batch_size: M, examples of one pass of one process.
        accumulation_steps: K of each process.
        every_micro_batch: gradients were averaged in every pass; else in the last pass of a window.
        calls, bytes: all-reduces of gradients, and their bytes, in one update of one process.
        seconds: of one update: passes, averaging and optimizer; the median over updates.
        communicating: seconds in which an all-reduce was under way.
        exposed: of these, the seconds after the last gradient was computed, when nothing else was left to do.
        timeline: the spans of the update nearest the median, of process 0.
    """

    world_size: int
    micro_batch_size: int
    accumulation_steps: int
    every_micro_batch: bool
    calls: int
    bytes: int
    seconds: float
    communicating: float
    exposed: float
    timeline: tuple[Span, ...]

    @property
    def examples(self) -> int:
        """In one update, over all processes."""
        return self.world_size * self.micro_batch_size * self.accumulation_steps

    @property
    def bytes_per_example(self) -> float:
        """Bytes that all processes hand to all-reduce for each example they see."""
        return self.world_size * self.bytes / self.examples

    @property
    def overlap(self) -> float:
        """Share of the communication during which gradients were still being computed, from 0 to 1."""
        return 1 - self.exposed / self.communicating if self.communicating else 0.0


@dataclass(frozen=True)
class Sharded:
    """One window under FSDP2.

    Attributes:
        every_micro_batch: gradients were averaged in every pass.
        gathers: all-gathers of parameters.
        scatters: reduce-scatters of gradients.
        kept_bytes: of gradients that a process holds between two passes.
        whole_bytes: of all gradients of the whole model.
    """

    every_micro_batch: bool
    gathers: int
    scatters: int
    kept_bytes: int
    whole_bytes: int


@dataclass(frozen=True)
class Network:
    """What connects the processes.

    Attributes:
        latency: seconds until a message of no bytes has arrived.
        bandwidth: bytes per second, in each direction, of each process.
    """

    latency: float
    bandwidth: float

    def all_reduce_seconds(self, payload: float, world_size: int, calls: int = 1) -> float:
        """A ring all-reduce: 2 (W - 1) steps of 1 / W of the bytes each (Patarasuk and Yuan 2009)."""
        steps = 2 * (world_size - 1)
        return steps * (calls * self.latency + payload / world_size / self.bandwidth)


@dataclass(frozen=True)
class ProcessWork:
    """What one process does in an update, apart from communication.

    Attributes:
        gradient_bytes: of all gradients.
        micro_batch_size: M.
        pass_seconds: of one micro-batch's forward and backward pass.
        update_seconds: of what happens once in an update (the optimizer, agreeing on the window).
        calls: all-reduces of one averaging (DDP's buckets).
        hidden: the part of a pass behind which communication can hide, from 0 to 1.
    """

    gradient_bytes: float
    micro_batch_size: int
    pass_seconds: float
    update_seconds: float
    calls: int = 1
    hidden: float = 0.0

    def averaging_seconds(self, network: Network, world_size: int) -> float:
        """What one averaging adds to the time of a pass. **A prediction.**"""
        needed = network.all_reduce_seconds(self.gradient_bytes, world_size, self.calls)
        return max(0.0, needed - self.hidden * self.pass_seconds)

    def update_time(self, network: Network, world_size: int, steps: int, every_micro_batch: bool) -> float:
        """Seconds of an update with K = ``steps``. **A prediction.**"""
        averagings = steps if every_micro_batch else 1
        waiting = averagings * self.averaging_seconds(network, world_size)
        return steps * self.pass_seconds + self.update_seconds + waiting


@dataclass(frozen=True)
class Forecast:
    """Predicted seconds per example of one process, over K; **no measurement**.

    Attributes:
        steps: (K,) accumulation steps.
        deferred, every: (K,) seconds per example, averaging in the last pass, or in every pass.
        alone: (K,) without any communication: the limit that accumulation can reach.
        bytes_deferred, bytes_every: (K,) bytes that a process hands to all-reduce per example of its own.
        enough: the smallest K from which waiting costs less than ``tolerance``; None if none of them does.
        tolerance: relative to no communication.
    """

    steps: np.ndarray
    deferred: np.ndarray
    every: np.ndarray
    alone: np.ndarray
    bytes_deferred: np.ndarray
    bytes_every: np.ndarray
    enough: int | None
    tolerance: float
