"""The same windows over several processes: data parallelism with accumulation, on torch.distributed.

Every process holds a copy of the model (``DistributedDataParallel``) or a shard of it (FSDP2's
``fully_shard``) and its own part of every window. What makes one process exact makes several exact, too: the
window's count is summed over **all processes** before its first backward pass, and every loss is divided by
that one total. Shards may be ragged or uneven, and a process may have no micro-batch at all::

    with process_group():                                        # torchrun has started this process
        model = DistributedDataParallel(make_model())
        ranks = DistributedRanks(model)
        for window in ranks.windows(loader, accumulation_steps=4):  # this process's part; maybe empty
            result = accumulate(model, window, loss_sum, count, ranks=ranks)
            apply_update(model, optimizer, max_grad_norm=1.0)

Gradients are averaged by DDP's or FSDP2's own reducer, in the last pass of
a window. Two or three messages of a few bytes besides agree on the window and add up its loss.

An error in one process (an exception, a loss that is NaN, a kill) ends all of them. A NaN is found by all at
the same place. After anything else the process ends, and the others fail: at once where the connection
closes (gloo), else when the group's timeout has passed. Nothing here catches that.

References: Li et al. (2020), PyTorch Distributed, arXiv 2006.15704, section 3.2.4 (``no_sync``).
"""

import io
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from accum_lib._guards import OpaqueGraphError, leaves
from accum_lib.accumulate import NonFiniteElsewhereError, windows
from accum_lib.machine import copies
from accum_lib.ranks import Ranks, WeightedBatch

NOTE = (
    "Another process of the group has failed, or did not answer within the timeout. Its own message, above "
    "or in its log, says why; this one had to stop with it."
)

STORE = "ACCUM_PROCESS_GROUP_FILE"  # of the environment: where the processes of ``launch`` meet
LEFT_OVER = [
    getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name)
]  # not on Windows


class DistributedRanks(Ranks):
    """The processes of ``torch.distributed``'s default group, for ``accumulate(..., ranks=ranks)``.

    Args:
        model: a ``DistributedDataParallel``, or what ``fully_shard`` was applied to.
        every_micro_batch: average the gradients in every pass and not only in the last. The result is the
            same, for K times the traffic. FSDP2 then need not keep gradients of the whole, unsharded model
            from pass to pass: memory against traffic.

    Raises:
        RuntimeError: there is no process group.
        TypeError: the model's gradients would not be averaged.
        ValueError: a static graph, without ``every_micro_batch``.
    """

    def __init__(self, model: Any, *, every_micro_batch: bool = False) -> None:
        if not dist.is_initialized():
            raise RuntimeError("there is no process group: go inside 'with process_group():', under torchrun")
        if not (isinstance(model, DistributedDataParallel) or _is_sharded(model)):
            raise TypeError(
                f"a {type(model).__name__} does not average its gradients over processes: wrap it in "
                "DistributedDataParallel, or apply fully_shard to it"
            )
        if getattr(model, "static_graph", False) and not every_micro_batch:  # PyTorch's issue 187732
            raise ValueError(
                "DistributedDataParallel(static_graph=True) cannot leave out the averaging of a pass: give "
                "DistributedRanks every_micro_batch=True, or leave static_graph out"
            )
        self.model, self.every_micro_batch = model, every_micro_batch
        self.world_size = dist.get_world_size()
        # Where every pass communicates, all processes must make the same number of passes. FSDP2 gathers
        # parameters in each; DDP communicates only where it averages, so one pass of each process is enough.
        self._in_step = every_micro_batch or _is_sharded(model)
        self._device = _device()
        # DDP waits for every one of these, unless it searches the graph itself.
        searches = _is_sharded(model) or model.find_unused_parameters
        self._awaited = [] if searches else [p for p in model.parameters() if p.requires_grad]
        self._averaging_now, self._unused = False, set[int]()
        self._hooks: list[RemovableHandle] = []  # in a pass whose graph is hidden: what is still missing
        self._missing: set[Tensor] = set()

    def windows(
        self, batches: Iterable[Any], accumulation_steps: int | Callable[[int], int]
    ) -> Iterator[list[Any]]:
        """As ``accumulate.windows``, of this process's shard; once this shard is exhausted, empty lists until
        every shard is, since an update needs every process.

        Args:
            batches: this process's micro-batches; there may be fewer than elsewhere, or none.
            accumulation_steps: K of each process; the window has up to ``world_size`` times as many.

        Raises:
            TypeError, ValueError: as ``windows``; also if no process has any micro-batch.
        """
        stream, nothing = iter(batches), object()
        first = next(stream, nothing)
        mine = windows([] if first is nothing else chain([first], stream), accumulation_steps)
        if first is nothing:
            mine = iter(())  # windows would complain, but others may have some
        updates = 0
        while True:
            window = next(mine, [])
            if self.add(len(window)) == 0:
                break
            yield window
            updates += 1
            del window  # or this window would stay alive while the next one is drawn
        if updates == 0:
            raise ValueError(
                f"no micro-batches in any of the {self.world_size} processes: the data are empty"
            )

    def agree(
        self, mine: list[WeightedBatch], count: float, micro_batches: int
    ) -> tuple[list[WeightedBatch], float, int]:
        """Add stand-ins where this process has too few passes; sum the counts.

        A process without a micro-batch must take part all the same, or the others hang. It runs a
        **stand-in**: a micro-batch with weight 0, so its gradient is exactly 0. Its own last one will do; a
        process that has none gets another's. It costs no time, since the process would have waited; but
        a stand-in moves BatchNorm's statistics, as any forward pass does.

        Why not otherwise? A pass over zeros, made of the parameters alone, would be cheaper, and enough for
        DDP; but FSDP2 gathers parameters in each layer's forward pass, and waits there, too. DDP's own
        ``join`` broadcasts the whole model when it ends, which would be in every window.
        """
        self._unused = set()
        table = self._gather([count, len(mine), micro_batches])
        counts, passes, numbers = table.unbind(1)
        passes_needed = int(passes.max()) if self._in_step else min(1, int(passes.max()))
        stand_in = mine[-1].batch if mine else None
        if passes_needed and (passes == 0).any():
            stand_in = self._broadcast_batch(stand_in, source=int(passes.nonzero()[0]))
        extra = [WeightedBatch(0, stand_in, weight=0.0)] * (passes_needed - len(mine))
        return mine + extra, float(counts.sum()), int(numbers.sum())

    @contextmanager
    def synchronized(self, last: bool) -> Iterator[None]:
        """DDP averages outside ``no_sync`` only; FSDP2 has a flag for it."""
        self._averaging_now = last or self.every_micro_batch
        try:
            with _naming_the_others(), self._averaging(self._averaging_now):
                yield
        finally:
            hooks, self._hooks = self._hooks, []
            for hook in hooks:
                hook.remove()
        if hooks and self._missing:
            names = [name for name, p in self.model.module.named_parameters() if p in self._missing]
            raise RuntimeError(
                f"DistributedDataParallel waits for {', '.join(names)}, which this pass did not use, and "
                "checkpointing with use_reentrant=True hid that: give it use_reentrant=False. The parameters "
                "and the gradients are as they were before this window"
            )

    def complete(self, loss: Tensor) -> Tensor:
        """Add 0 times each parameter that DDP waits for and this pass does not use.

        Without ``find_unused_parameters`` DDP averages no gradient of such a bucket. It complains in the next
        forward pass only, when the processes have gone on with different parameters.
        """
        if not (self._awaited and self._averaging_now):
            return loss
        try:
            reached = {id(p) for p in leaves(loss, all_of_them=True)}
        except OpaqueGraphError:  # then nothing is known before the pass, but after it
            self._missing = set(self._awaited)
            self._hooks = [p.register_post_accumulate_grad_hook(self._missing.discard) for p in self._awaited]
            return loss
        absent = [i for i, p in enumerate(self._awaited) if id(p) not in reached]
        self._unused = {i for i in absent if self._awaited[i].grad is None or i in self._unused}
        for i in absent:
            loss = loss + 0.0 * self._awaited[i].flatten()[0].to(loss)
        return loss

    def add(self, value: float) -> float:
        """The sum over all processes, in float64."""
        return self._add([value])[0]

    def finish(self, loss_sum: float) -> float:
        """As ``add``; a parameter that no process has used is left without a gradient, as in one process."""
        used = [float(i not in self._unused) for i in range(len(self._awaited))]
        total, *uses = self._add([loss_sum, *used])
        for p, processes in zip(self._awaited, uses, strict=True):
            if processes == 0:
                p.grad = None
        return total

    def _add(self, values: list[float]) -> list[float]:
        numbers = torch.tensor(values, dtype=torch.float64, device=self._device)
        with _naming_the_others():
            dist.all_reduce(numbers)
        return numbers.tolist()

    def _averaging(self, average: bool) -> AbstractContextManager[None]:
        if _is_sharded(self.model):
            self.model.set_requires_gradient_sync(average)
            return nullcontext()
        return nullcontext() if average else self.model.no_sync()

    def _gather(self, row: Sequence[float]) -> Tensor:
        """Every process's row, on the CPU: shape (world_size, numbers), float64."""
        mine = torch.tensor(row, dtype=torch.float64, device=self._device)
        rows = [torch.empty_like(mine) for _ in range(self.world_size)]
        with _naming_the_others():
            dist.all_gather(rows, mine)
        return torch.stack(rows).cpu()

    def _broadcast_batch(self, batch: Any, source: int) -> Any:
        """``batch``; where it is None, the source's, on this process's device. All processes call this."""
        buffer = io.BytesIO()
        if dist.get_rank() == source:
            torch.save(batch, buffer)  # unlike pickle, torch.load can then choose the device
        payload = [buffer.getvalue()]
        with _naming_the_others():
            # Unpickled here and below, and a pickle may run code: the processes of a group trust each other.
            dist.broadcast_object_list(payload, src=source, device=self._device)
        if batch is not None:
            return batch
        where = next(self.model.parameters()).device
        return torch.load(io.BytesIO(payload[0]), map_location=where, weights_only=False)


@contextmanager
def process_group(timeout_seconds: float = 120, device: str | None = None) -> Iterator[None]:
    """Join the group that torchrun (or ``launch``) has announced.

    Args:
        timeout_seconds: how long to wait for another process before giving up.
        device: "cuda" takes NCCL and a GPU for each process, "cpu" takes gloo; None takes "cuda" if PyTorch
            finds a GPU.

    Raises:
        ValueError: this process has no GPU of its own.
    """
    on_gpu = torch.cuda.is_available() if device is None else device == "cuda"
    if on_gpu:
        mine, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if there == 0:
            raise ValueError(
                "device 'cuda' takes a GPU, and PyTorch finds none here: leave it out, or take 'cpu'"
            )
        if mine >= there:
            raise ValueError(
                f"process {mine} of this machine has no GPU of its own, for PyTorch finds {there}: start at "
                f"most {there} processes, or let them use the CPU (device='cpu', --device cpu)"
            )
        torch.cuda.set_device(mine)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=timedelta(seconds=timeout_seconds), **_meeting_point()
    )
    yield
    # After an error the process ends, which closes the connections, and the others notice. To close them here
    # would let the others' messages come before the one that says why.
    dist.destroy_process_group()


def _meeting_point() -> dict[str, Any]:
    """The file that ``launch`` named; nothing under torchrun, which has a server."""
    if STORE not in os.environ:
        return {}
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return {"store": dist.FileStore(os.environ[STORE], size), "rank": rank, "world_size": size}


def launch(function: Callable[..., Any], world_size: int, *arguments: Any) -> list[Any]:
    """Call ``function(*arguments)`` in new processes of this machine. It works from a notebook, too.

    They find each other through a file in a folder that this user alone can read, and talk over the loopback
    interface. torchrun's own meeting point is a server on every interface that asks for no password, and
    what it holds is unpickled: whoever reaches it can run code here.

    Args:
        function: of a module that can be imported, not of a notebook's cell: new processes import it. It
            joins the others by ``with process_group():``.
        world_size: how many processes.

    Returns:
        What each process returned, by rank.

    Raises:
        torch.distributed.elastic.multiprocessing.errors.ChildFailedError: one failed; it names the first
            to fail and why. The others have been ended.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes  # takes a while

    with tempfile.TemporaryDirectory(prefix="accum_launch_") as folder, _own_signal_handlers():
        started = start_processes(
            function.__name__, _call, {rank: (function, *arguments) for rank in range(world_size)},
            {rank: _environment(rank, world_size, folder) for rank in range(world_size)},
            DefaultLogsSpecs(log_dir=folder),
            start_method=copies("torch._dynamo", __name__, function.__module__).get_start_method(),
        )  # fmt: skip
        try:
            done = started.wait(period=0.1)
        finally:
            started.close()
    assert done is not None  # it waits for ever
    if done.failures:
        raise ChildFailedError(function.__name__, done.failures)
    return [done.return_values[rank] for rank in range(world_size)]


def _environment(rank: int, world_size: int, folder: str) -> dict[str, str]:
    """What torchrun would tell a process, but for the address of its server; and where to listen."""
    number, size = str(rank), str(world_size)
    found = {**os.environ, "RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    found[STORE] = os.path.join(folder, "store")
    for name in ("lo", "lo0"):  # a machine's own name may not resolve, and others could connect
        if name in [each for _, each in socket.if_nameindex()]:
            found |= {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
    return found


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Restore them afterwards: with the launcher's own, a notebook could not be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, *LEFT_OVER)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@record  # so that the launcher can say what went wrong
def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    torch.set_num_threads(1)  # as torchrun does: the processes share the cores
    try:
        return function(*arguments)
    except (RuntimeError, NonFiniteElsewhereError) as error:
        if isinstance(error, NonFiniteElsewhereError) or NOTE in getattr(error, "__notes__", []):
            time.sleep(0.5)  # the launcher names whoever ends first, and that shall be the one at fault
        raise


@contextmanager
def _naming_the_others() -> Iterator[None]:
    """Add a note that says what a failed collective means, and re-raise."""
    try:
        yield
    except RuntimeError as error:
        # gloo raises plain RuntimeErrors, with these words; NCCL raises a class of its own
        theirs = isinstance(error, dist.DistError) or "gloo" in str(error) or "Timed out" in str(error)
        if theirs and NOTE not in getattr(error, "__notes__", []):
            error.add_note(NOTE)
        raise


def _is_sharded(model: nn.Module) -> bool:
    """Whether ``fully_shard`` was applied. FSDP2 takes seconds to import; a sharded model has imported it."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


def _device() -> torch.device:
    """Where tensors must be for the default group to send them."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if "nccl" in dist.get_backend()
        else torch.device("cpu")
    )
