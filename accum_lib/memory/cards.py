"""Common GPUs: how much a process can allocate on each, and how fast it multiplies by its data sheet.

Totals are what PyTorch reports as a card's capacity (``torch.cuda.get_device_properties``, or the error when
memory runs out), which is less than what is on the box. They differ by about a percent between drivers and
with error correction, so the lower one is given. Arithmetic is the data sheet's for dense matrix products.
"""

import re
from dataclasses import dataclass, replace

import torch

from accum_lib.machine import GIB
from accum_lib.words import _

CONTEXT_BYTES = GIB // 2  # CUDA's context and loaded kernels; nothing of it is PyTorch's
UNKNOWN_PART = 0.9  # of a nominal gigabyte (as GiB), where no card of the table is that large
HOPPER = 9  # the compute capability from which on cuBLAS has a larger workspace
AMPERE = 8  # from which on products in bfloat16 are in hardware


@dataclass(frozen=True)
class Card:
    """One GPU.

    Attributes:
        name: as one says it.
        gigabytes: as it is sold.
        total_bytes: capacity as PyTorch reports it.
        tflops: 10^12 operations per second in float32 (on CUDA cores: PyTorch's default), or None.
        half: the 16-bit type that its matrix units take with a float32 sum: "bf16", or "fp16" before Ampere.
        half_tflops: in that type, or None.
        hopper: compute capability 9.0 or higher.
        device: "cuda"; or "cpu" for a part of this machine's own memory (``processor``).
    """

    name: str
    gigabytes: int
    total_bytes: int
    tflops: float | None = None
    half: str = "bf16"
    half_tflops: float | None = None
    hopper: bool = False
    device: str = "cuda"

    @property
    def usable_bytes(self) -> int:
        """What PyTorch's allocator can get: the capacity without CUDA's own context."""
        return self.total_bytes - (CONTEXT_BYTES if self.device == "cuda" else 0)

    def limit_bytes(self, margin: float) -> int:
        """The most of it that leaves a part free: ``margin``, from 0 to below 1."""
        return int(self.usable_bytes * (1 - margin))


def _card(
    name: str, gigabytes: int, total_gib: float, tflops: float, half_tflops: float, half: str = "bf16",
    hopper: bool = False,
) -> Card:  # fmt: skip
    return Card(name, gigabytes, int(total_gib * GIB), tflops, half, half_tflops, hopper)


CARDS = (
    _card("RTX 4060", 8, 7.60, 15.1, 30.2),
    _card("RTX 3080", 10, 9.78, 29.8, 59.5),
    _card("RTX 2080 Ti", 11, 10.75, 13.4, 53.8, half="fp16"),
    _card("RTX 3060", 12, 11.63, 12.7, 25.6),
    _card("T4", 16, 14.56, 8.1, 65, half="fp16"),
    _card("V100 16GB", 16, 15.77, 15.7, 125, half="fp16"),
    _card("RTX 4080", 16, 15.59, 48.7, 97.5),
    _card("RTX 3090", 24, 23.68, 35.6, 71),
    _card("RTX 4090", 24, 23.51, 82.6, 165),
    _card("A10G", 24, 22.06, 31.5, 70),
    _card("L4", 24, 22.03, 30.3, 121),
    _card("A30", 24, 23.50, 10.3, 165),
    _card("V100 32GB", 32, 31.73, 15.7, 125, half="fp16"),
    _card("RTX 5090", 32, 31.34, 104.8, 209.5),
    _card("A100 40GB", 40, 39.39, 19.5, 312),
    _card("A40", 48, 44.34, 37.4, 149.7),
    _card("RTX A6000", 48, 47.41, 38.7, 154.8),
    _card("L40S", 48, 44.40, 91.6, 362),
    _card("A100 80GB", 80, 79.10, 19.5, 312),
    _card("H100", 80, 79.09, 66.9, 989, hopper=True),
    _card("H200", 141, 139.70, 66.9, 989, hopper=True),
)


def find_card(name: str) -> Card:
    """The card of that name; or of that size: "16GB" is the leanest of all that are sold with 16 GB.

    Args:
        name: "RTX 4090", "a100-80gb", "16GB", "15.5GiB" (exactly so much), or "here" for the GPU that is
            in this machine.

    Raises:
        ValueError: there is no such card, or the name fits several.
    """
    wanted = _plain(name)
    if wanted == "here":
        return present_card()
    size = re.fullmatch(r"(\d+(?:\.\d+)?)(gb|gib|g)?", name.strip().lower().replace(" ", ""))
    if size:
        return _of_size(name, float(size[1]), exact=size[2] == "gib")
    found = [c for c in CARDS if _plain(c.name) == wanted]
    found = found or [c for c in CARDS if _without_size(c) == wanted]
    found = found or [c for c in CARDS if wanted == f"{_without_size(c)}{c.gigabytes}gb"]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{name!r} may be {' or '.join(c.name for c in found)}: say which")
    raise ValueError(
        _(
            "no card {name!r} is known. There are {cards}; or give its size, such as '16GB' (or '15.5GiB' "
            "for exactly so much), or 'here' for the one in this machine",
            name=name,
            cards=", ".join(c.name for c in CARDS),
        )
    )


def present_card() -> Card:
    """The GPU in this machine, with what is free on it now.

    Raises:
        ValueError: there is none.
    """
    if not torch.cuda.is_available():
        raise ValueError("PyTorch finds no GPU in this machine: name a card, such as 'T4', or a size: '16GB'")
    facts = torch.cuda.get_device_properties(0)
    known = [c for c in CARDS if _without_size(c) in _plain(facts.name)]
    like = max(known, key=lambda c: len(c.name), default=Card("", 0, 0))
    return Card(
        name=facts.name,
        gigabytes=round(facts.total_memory / 1e9),
        total_bytes=torch.cuda.mem_get_info(0)[0] + CONTEXT_BYTES,  # the context is there: it was asked
        tflops=like.tflops,
        half="bf16" if facts.major >= AMPERE else "fp16",
        half_tflops=like.half_tflops,
        hopper=facts.major >= HOPPER,
    )


def processor(name: str, total_bytes: int) -> Card:
    """This machine's processor, held to so much memory for tensors: a card for what runs here."""
    if total_bytes < 1:
        raise ValueError(f"give the processor 1 byte or more for tensors; got {total_bytes}")
    return Card(name, round(total_bytes / 1e9), total_bytes, device="cpu")


LARGEST_GB = 100_000  # more is a slip of the hand


def _of_size(name: str, number: float, exact: bool) -> Card:
    if not 1 <= number <= LARGEST_GB:
        raise ValueError(f"a card has 1 GB or more, and {LARGEST_GB:,} GB at most; got {name[:40]!r}")
    if exact:
        return Card(name, round(number), int(number * GIB))
    sold = [c for c in CARDS if c.gigabytes == number]
    if sold:
        leanest = min(sold, key=lambda c: c.total_bytes)
        return replace(leanest, name=f"any card of {number:g} GB (as {leanest.name})")
    return Card(f"a card of {number:g} GB", round(number), int(UNKNOWN_PART * number * GIB))


def _plain(name: str) -> str:
    """Only letters and digits, in lower case, without the maker's words."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"nvidia|geforce|tesla|quadro", "", letters)


def _without_size(card: Card) -> str:
    return _plain(re.sub(r" \d+GB$", "", card.name))


UTILISATION = 0.4  # of the data sheet's arithmetic that training reaches, roughly


LAUNCH_SECONDS = 1e-5  # until one operator's kernel has been started; small ones take no less
