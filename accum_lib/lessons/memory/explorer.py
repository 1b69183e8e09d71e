"""The explorers of notebook 04: where the bytes of an update go, and which M and K a card takes."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.progress import ROOT
from accum_lib.lessons.kit.still import show_still, wrapped
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.memory import figure
from accum_lib.machine import GIB
from accum_lib.memory.cards import find_card
from accum_lib.memory.planner import MARGIN, plan
from accum_lib.memory.prediction import predict
from accum_lib.memory.records import Peaks
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload, named
from accum_lib.words import N_, _

SIZES = (2, 4, 8, 16, 32, 64)
TOKENS = (128, 512)
GRID = Path(__file__).with_name("memory_grid.json")  # what a GPU measured, committed
OWN = ROOT / "build" / "gpu"  # where "make gpu" writes the reader's own
MOMENTS = 90  # of the timeline: enough for its teeth, few enough to redraw while a hand moves
MakeWorkload = Callable[[int], Workload]

CONTROLS = [
    Control("m", N_("Micro-batch size M"), SIZES, 16, axis="xaxis2"),
    Control("k", N_("Accumulation steps K"), (1, 2, 4, 8), 2),
    Control("tokens", N_("Tokens T:"), TOKENS, 128, kind="choice"),
    Control("precision", N_("Precision:"), ("fp32", "bf16"), "fp32", kind="choice"),
    Control("optimizer", N_("Optimizer:"), ("adamw", "sgd"), "adamw", ("AdamW", "SGD"), "choice"),
    Control("checkpointing", N_("Checkpointing:"), (False, True), False, (N_("off"), N_("on")), "choice"),
]

CARDS = ("RTX 4060", "RTX 3060", "RTX 3090", "A100 40GB", "A100 80GB")
CARD_WORDS = ("RTX 4060, 8 GB", "RTX 3060, 12 GB", "RTX 3090, 24 GB", "A100, 40 GB", "A100, 80 GB")
LINES = [(None, find_card(card).limit_bytes(MARGIN) / GIB) for card in CARDS]  # where each is drawn
PLAN_CONTROLS = [
    Control("card", N_("Card"), CARDS, "RTX 4060", CARD_WORDS, axis="yaxis", places=LINES),
    Control("batch", N_("Effective batch B"), (8, 32, 128, 512, 2048), 128),
    Control("tokens", N_("Tokens T:"), TOKENS, 512, kind="choice"),
]


@cache
def roberta_base(tokens: int) -> Workload:
    """Sequence classification with RoBERTa-base, with dropout as it is trained."""
    return named("roberta-base", "classification", tokens)


def memory_explorer(workload_of: MakeWorkload = roberta_base, sizes: Sequence[int] = SIZES) -> GridExplorer:
    """The timeline of one update by category, and the peak against M, for every M, K, T and way to train."""

    @cache
    def peaks(settings: Settings, tokens: int) -> Peaks:
        return predict(workload_of(tokens), settings, hopper=False).peaks(sizes, (1, 2))

    def picture_of(
        m: int, k: int, tokens: int, precision: str, optimizer: str, checkpointing: bool
    ) -> Picture:
        settings = Settings(optimizer, precision=precision, checkpointing=checkpointing)
        timeline = predict(workload_of(tokens), settings, hopper=False).timeline(m, k, MOMENTS)
        return figure.picture(timeline, peaks(settings, tokens))

    return GridExplorer(CONTROLS, picture_of)


def planner_explorer(workload_of: MakeWorkload = roberta_base) -> GridExplorer:
    """Which M and K, with or without checkpointing, in float32 or bfloat16, on which card."""

    def picture_of(card: str, batch: int, tokens: int) -> Picture:
        return figure.plan_picture(plan(workload_of(tokens), card, batch))

    return GridExplorer(PLAN_CONTROLS, picture_of)


def show_memory_grid() -> None:
    """Predicted memory beside the memory that a GPU measured; not measured here, since it takes minutes."""
    show_file(own_or(GRID), _show_grid)


def _show_grid(record: Mapping[str, Any]) -> None:
    print(measured_on(record))
    for row in (r for r in record["cells"] if "failure" in r):
        print(wrapped(f"{row['model']}, M = {row['micro_batch_size']}: {row['failure']}", "    "))
    show_still(partial(figure.gpu_picture, record["cells"]))


def show_file(path: Path, show: Callable[[Mapping[str, Any]], None]) -> None:
    """Show the results in a file; one of another shape, such as an older script's, in a sentence."""
    try:
        show(json.loads(path.read_text()))
    except Exception as error:  # of many kinds: something is missing in it, or of another type, or endless
        print(
            _(
                "{file} does not have the shape of a GPU's results ({error}). Write it again with make gpu, "
                "or delete it.",
                file=path.name,
                error=f"{type(error).__name__}: {error}",
            )
        )


def own_or(committed: Path) -> Path:
    """What ``make gpu`` has written on this machine in place of what is committed."""
    own = OWN / committed.name
    return own if own.exists() else committed


def measured_on(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    return _(
        "Measured on {date}: {device}, PyTorch {torch}.",
        date=record["date"],
        device=machine["device"],
        torch=machine["torch"],
    )
