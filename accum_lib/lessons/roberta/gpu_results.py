"""What a GPU adds to notebook 06: what ``make gpu`` found on this machine, else what is committed."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from accum_lib.lessons.kit.progress import ROOT
from accum_lib.lessons.kit.still import show_still, wrapped
from accum_lib.lessons.memory.explorer import measured_on, own_or, show_file
from accum_lib.lessons.roberta.figure import throughput_picture as picture
from accum_lib.lessons.roberta.figure import throughput_summary as summary
from accum_lib.machine import GIB
from accum_lib.words import N_, _

SCRIPT = ROOT / "benchmarks" / "gpu" / "roberta_lab.py"  # only in a clone
COMMITTED = Path(__file__).with_name("roberta_lab.json")
SECONDS = 240  # in a notebook; the whole takes up to nine minutes
NONE = N_("""\
This machine has no GPU, and no results of one have been committed: this has not run on a GPU yet,
so there is nothing to show. On a machine with one:

    python benchmarks/gpu/roberta_lab.py""")

LINES = {  # what each part found, in a sentence
    "equality": N_(
        "{model}, {precision}: the gradient of {accumulation_steps} micro-batches differs from that of one "
        "big batch by {relative_error:.1e}, relative; the big batch's from itself by {once_more:.1e}."
    ),
    "recovery": N_(
        "{model}, {precision}: memory ran out, M was halved to {halved_to}, and the gradient differs by "
        "{relative_error:.1e} from that of a small M."
    ),
    "processes": N_(
        "{kind} over {backend}, world_size = {world_size}, averaging in {passes}: the gradient differs from "
        "one big batch in float64 by {relative_error:.1e}."
    ),
    "noise": N_(
        "{model}: the noise scale is {exact:.0f} from every example's gradient; {estimate:.0f} from "
        "{windows} watched windows, from {low:.0f} to {high} with {confidence:.0%} confidence. Watching "
        "every window took {every_1:.1%} more time, one in four {every_4:.1%}."
    ),
    "training": N_(
        "{command}: the peak is {peak_gib} GiB, predicted were {predicted_gib}; the loss went from "
        "{first_loss:.2f} to {last_loss:.2f}."
    ),
    "big batch": N_(
        "{sequences:,} sequences of {tokens} tokens, {precision}, M = {micro_batch_size}, "
        "K = {accumulation_steps}: {seconds:.1f} s (by the data sheet {by_data_sheet} s), a peak of "
        "{peak_gib} GiB, predicted were {predicted_gib}."
    ),
}
RESUMED = N_(
    "lost after half of its updates and resumed, it ends with parameters that differ by "
    "{resumed_relative_difference:.1e}."
)
HALVED = N_("the planned M = {planned_micro_batch_size} ran out of memory, and was halved to {halved_to}.")
TITLES = {
    "equality": N_("equality"), "recovery": N_("recovery"), "processes": N_("processes"),
    "noise": N_("noise scale"), "training": N_("training"), "big batch": N_("big batch"),
}  # fmt: skip


def show_gpu_results() -> None:
    """The reader's own results; else run the script on the GPU that is here; else show what is committed."""
    found = own_or(COMMITTED)
    if torch.cuda.is_available() and found == COMMITTED and SCRIPT.exists():
        show(measured())
    elif found.exists():
        show_file(found, show)
    else:
        print(_(NONE))


def measured() -> dict[str, Any]:
    """The script's results, from a process of its own that gives the GPU's memory back.

    Raises:
        RuntimeError: the script could not be run at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "results.json")
        command = [sys.executable, str(SCRIPT), "--seconds", str(SECONDS), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if not out.exists():
            raise RuntimeError(f"{SCRIPT.name} could not be run: {done.stderr[-500:]}")
        return json.loads(out.read_text())


def show(record: Mapping[str, Any]) -> None:
    """Where and when it was measured, each part in a line, and a picture of the speeds of each model."""
    parts = record["parts"]
    print(measured_on(record))
    for name, title in TITLES.items():
        for row in parts.get(name, []):
            for sentence in _sentences(name, row):
                print(wrapped(f"{_(title)}: {sentence}", "    "))
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in parts.get("speed", []):
        if "failure" in row:
            print(
                _(
                    "speed: {model}, {precision}, M = {m}: {failure}",
                    model=row["model"],
                    precision=row["precision"],
                    m=row["micro_batch_size"],
                    failure=row["failure"],
                )
            )
        else:
            groups.setdefault((row["model"], row["precision"]), []).append(row)
    for rows in groups.values():
        if len({row["accumulation_steps"] for row in rows}) > 1:
            show_still(partial(picture, rows))
        else:
            print(summary(rows))


def _sentences(name: str, row: Mapping[str, Any]) -> Iterator[str]:
    """What one row of a part found, or why it failed."""
    values = _in_words(row)
    yield row.get("failure") or _(LINES[name], **values)
    if "planned_micro_batch_size" in row and row["halved_to"]:
        yield _(HALVED, **values)
    if "resumed_relative_difference" in row:
        yield _(RESUMED, **values)


def _in_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values, with bytes in GiB, lists in a row, and what is infinite or not known as a sign."""
    values: dict[str, Any] = {name: "-" if value is None else value for name, value in row.items()}
    values |= row.get("seconds_over_plain", {})
    values |= {name: values[name] - 1 for name in ("every_1", "every_4") if name in values}
    if "halved_to" in row:
        values["halved_to"] = ", ".join(map(str, row["halved_to"])) or "-"
    if "every_micro_batch" in row:
        values["passes"] = _("every pass") if row["every_micro_batch"] else _("the last pass")
    if "predicted_seconds" in row:
        seconds = row["predicted_seconds"]
        values["by_data_sheet"] = "-" if seconds is None else f"{seconds:.1f}"
    if "high" in row:
        values["high"] = "∞" if row["high"] is None else f"{row['high']:.0f}"
    for words, name in (("peak_gib", "peak_bytes"), ("predicted_gib", "predicted_peak_bytes")):
        if name in row:
            values[words] = "-" if row[name] is None else f"{row[name] / GIB:.2f}"
    return values
