"""What this machine is, and what of this project it can run.

Memory is what this process may use: on Binder and in containers the control group's limit, not the
host's memory.
"""

import ctypes
import multiprocessing
import os
import pathlib
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext

import torch

from accum_lib.extras import need
from accum_lib.words import _

GIB = 2**30
CACHE = "ACCUM_CACHE"  # of the environment: another folder than the user's cache
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# AdamW in float32 keeps the weight, its gradient and two moments of each parameter: 4 x 4 bytes.
BYTES_PER_PARAMETER = 16
ROBERTA_BASE_PARAMETERS = 124_647_170
INTERPRETER_BYTES = 0.6 * GIB  # Python with torch and Transformers loaded
# Each takes seconds to load; an optimizer loads the first one when it is made.
HEAVY = (
    "torch._dynamo",
    *(f"transformers.models.{name}.modeling_{name}" for name in ("roberta", "distilbert", "gpt2", "t5")),
)


@dataclass(frozen=True)
class Machine:
    """Cores, memory in bytes (in all and free, within the limit that applies), GPU and its bytes or None."""

    cores: int
    memory_bytes: int
    free_bytes: int
    gpu: str | None
    gpu_bytes: int | None
    python: str
    torch: str


def this_machine() -> Machine:
    """Look at the machine that runs this."""
    need("a look at this machine", "memory", "psutil")
    import psutil

    memory = psutil.virtual_memory()
    total = min(memory.total, _control_group_limit())
    used = psutil.Process().memory_info().rss
    free = min(memory.available, total - used if total < memory.total else memory.available)
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=total,
        free_bytes=free,
        gpu=gpu.name if gpu else None,
        gpu_bytes=gpu.total_memory if gpu else None,
        python=platform.python_version(),
        torch=torch.__version__,
    )


def capabilities(machine: Machine) -> list[tuple[str, bool, str]]:
    """What can run here: (what, whether, why), by a prediction from sizes and not by trying."""
    needed = ROBERTA_BASE_PARAMETERS * BYTES_PER_PARAMETER + INTERPRETER_BYTES
    notebooks_fit = machine.memory_bytes >= 1.5 * GIB
    base_fits = machine.free_bytes >= needed
    return [
        (
            _("all notebooks with their default settings"),
            notebooks_fit,
            _(
                "each stays under 1.5 GiB; this machine has {memory:.1f} GiB",
                memory=machine.memory_bytes / GIB,
            ),
        ),
        (
            _("one update of full-size RoBERTa with AdamW, on the CPU"),
            base_fits,
            _(
                "predicted to need at least {needed:.1f} GiB; {free:.1f} GiB are free",
                needed=needed / GIB,
                free=machine.free_bytes / GIB,
            ),
        ),
        (
            _("sections for a GPU"),
            machine.gpu is not None,
            _("found {gpu}, {memory:.0f} GiB", gpu=machine.gpu, memory=(machine.gpu_bytes or 0) / GIB)
            if machine.gpu
            else _("no GPU was found"),
        ),
    ]


def report() -> str:
    """The machine and what it can run, as text."""
    machine = this_machine()
    lines = [
        _(
            "Python {python}, PyTorch {torch}, {cores} cores, {memory:.1f} GiB of memory, GPU: {gpu}",
            python=machine.python,
            torch=machine.torch,
            cores=machine.cores,
            memory=machine.memory_bytes / GIB,
            gpu=machine.gpu or _("none"),
        )
    ]
    lines += [
        _("{can}  {what}: {why}", can=_("yes") if can else _("no "), what=what, why=why)
        for what, can, why in capabilities(machine)
    ]
    return "\n".join(lines)


def _control_group_limit() -> float:
    for path in CGROUP_LIMITS:
        try:
            return int(pathlib.Path(path).read_text())
        except (OSError, ValueError):  # no such file, or "max": no limit here
            continue
    return float("inf")


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, PyTorch computes on one thread, which also makes sums come out the same each time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Freed memory goes back to the system, so that a process holds what its tensors need and no more. glibc maps
# large blocks one by one and unmaps them when they are freed; but each time it raises its idea of "large", up
# to 32 MiB, and keeps what is smaller. A RoBERTa-base has its gradients in that range: its process then holds
# hundreds of megabytes that no tensor uses, and a prediction would be too low. Smaller blocks are in heaps,
# one for each thread, which shrink from their ends only: what was freed in between stays until it is trimmed.
# Sources: mallopt(3), M_MMAP_THRESHOLD (a threshold that is set is not raised any more); malloc_trim(3).
M_MMAP_THRESHOLD = -3  # glibc's number for it, malloc.h
LARGE_BYTES = 2**17
_giving_back = False


def give_freed_blocks_back(large_bytes: int = LARGE_BYTES) -> bool:
    """Let blocks from ``large_bytes`` on be unmapped when they are freed; it holds for the whole process.

    Mapping a block again costs time, so this is for models whose memory is worth it.

    Returns:
        Whether the C library took the setting; others than glibc have other ways.
    """
    global _giving_back
    try:
        _giving_back = bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, large_bytes))
    except (AttributeError, OSError, TypeError):
        _giving_back = False
    return _giving_back


def trim_heaps() -> None:
    """Give the free parts of the heaps back, too, if blocks are given back at all. It takes milliseconds."""
    if _giving_back:
        ctypes.CDLL(None).malloc_trim(0)


def copies(*modules: str) -> BaseContext:
    """A context of ``multiprocessing`` whose processes begin with these modules loaded, by their names.

    They are copies of one process that has loaded PyTorch, has run nothing and has not touched a GPU: each
    takes a second to start, and not ten. Where the system cannot copy a process, as Windows, each loads all.
    What is heavy and loaded here is loaded there, too. The first call of a process decides; what a later one
    names is loaded in each copy.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in HEAVY if name in sys.modules] + list(modules))
    return context


def cache_folder() -> pathlib.Path:
    """Where what is fetched is kept, as the system has it; ``ACCUM_CACHE`` names another folder."""
    if there := os.environ.get(CACHE):
        return pathlib.Path(there)
    home = pathlib.Path.home()
    if sys.platform == "win32":
        local = pathlib.Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
        return local / "accum_lib" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "accum_lib"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "accum_lib"
