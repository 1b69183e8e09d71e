"""The arguments of ``python -m accum_lib train``, in the order in which one decides."""

import argparse
import csv
from pathlib import Path
from typing import Any


def add_arguments(parser: Any) -> None:
    """Add all of them, in four groups."""
    _add_what(parser.add_argument_group("what is trained, and on what"))
    _add_update(parser.add_argument_group("an update"))
    _add_training(parser.add_argument_group("the training"))
    _add_run(parser.add_argument_group("the run"))


def _folder(text: str) -> Path:
    """An empty one, as of a variable that is not set, would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty: name a folder")
    return Path(text)


def _list(text: str) -> list[str]:
    """As in a CSV: a class with a comma in its name stands in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def _add_what(group: Any) -> None:
    add = group.add_argument
    add(
        "--model",
        default="tiny",
        metavar="NAME",
        help="tiny, base or large: RoBERTa, untrained; minilm: all-MiniLM-L6-v2, 84 MB fetched once; or a "
        "folder or a name on the hub (tiny)",
    )
    add(
        "--task",
        default="classification",
        choices=("classification", "mlm"),
        help="classify texts, or guess hidden tokens (classification)",
    )
    add(
        "--data",
        default="docstrings",
        metavar="SOURCE",
        help="docstrings; reuters-r8: 38 MB fetched once; glue:TASK such as glue:sst2; or a .csv, .tsv, "
        ".jsonl or .parquet file (docstrings)",
    )
    for role, what in (
        ("text", "the texts"), ("pair", "second texts, if there are any"), ("label", "the classes")
    ):  # fmt: skip
        add(f"--{role}-column", default=role, metavar="NAME", help=f"of the file, for {what} ({role})")
    add(
        "--labels",
        type=_list,
        metavar="A,B,...",
        help="the classes, as the file spells them, if it takes them for scores or placeholders",
    )
    add("--held-out", metavar="FILE", help="another such file to measure on (a fifth of the first)")
    add("--max-held-out", type=int, metavar="N", help="evaluate on N held-out examples, drawn once (all)")
    add(
        "--max-tokens",
        type=int,
        metavar="T",
        help="truncate texts to N tokens (128, or what the model reads)",
    )
    add("--dropout", type=float, metavar="P", help="probability everywhere (the model's own, usually 0.1)")


def _add_update(group: Any) -> None:
    add = group.add_argument
    add("-M", "--micro-batch-size", type=int, metavar="M", help="examples in one forward pass (8)")
    add("-K", "--accumulation-steps", type=int, metavar="K", help="micro-batches in one update")
    add("-B", "--effective-batch-size", type=int, metavar="B", help="examples in one update, M K (32)")
    add(
        "--by-tokens",
        action="store_true",
        help="fill each pass up to M times the longest text's tokens, not up to M texts: fewer passes, "
        "the same updates",
    )
    add("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="by autocast (fp32)")
    add("--checkpointing", action="store_true", help="recompute activations: less memory, more time")
    add("--compile", action="store_true", help="use torch.compile; it takes a minute to begin")
    add(
        "--max-grad-norm",
        type=float,
        default=1.0,
        metavar="X",
        help="clip the whole window's gradient to this norm; 0 does not clip (1.0)",
    )


def _add_training(group: Any) -> None:
    add = group.add_argument
    add("--epochs", type=int, default=4, help="passes over the data (4)")
    add("--max-updates", type=int, metavar="U", help="stop after U updates, windows left out included")
    add(
        "--learning-rate",
        type=float,
        metavar="X",
        help="the highest one (tiny 1e-3, else 1e-4; 2e-5 for checkpoints)",
    )
    add("--weight-decay", type=float, default=0.1, metavar="X", help="not of biases and LayerNorm (0.1)")
    add("--warmup", type=float, default=0.06, metavar="X", help="part of all updates (0.06)")
    add(
        "--length-pool",
        type=int,
        default=1,
        metavar="W",
        help="sort examples by length within W windows; 0 does not; 1 changes no update (1)",
    )
    add("--seed", type=int, default=0, help="of weights, order, dropout and masks (0)")
    add(
        "--on-non-finite",
        default="stop",
        choices=("stop", "skip"),
        help="what to do if a loss is NaN: stop, or leave the window out (stop)",
    )
    add("--max-skips", type=int, default=3, metavar="N", help="with skip, at most N in a row (3)")


def _add_run(group: Any) -> None:
    add = group.add_argument
    add(
        "--output",
        required=True,
        type=_folder,
        metavar="FOLDER",
        help="for checkpoints, log and the final model",
    )
    add(
        "--resume",
        action="store_true",
        help="go on from the newest whole checkpoint in the output folder, "
        "with the same arguments; -M, -K and --by-tokens may change if B stays, and so may --checkpointing",
    )
    add("--dry-run", action="store_true", help="print plan, memory, disk and time, and train nothing")
    add("--device", choices=("cpu", "cuda"), help="(a GPU if there is one)")
    add("--evaluate-every", type=int, metavar="U", help="updates between evaluations (an epoch)")
    add("--save-every", type=int, metavar="U", help="updates between checkpoints (an epoch)")
    add(
        "--noise-scale",
        action="store_true",
        help="estimate the gradient noise scale (examples are not sorted)",
    )
    add("--tensorboard", action="store_true", help="write for TensorBoard, too")
    add("--quiet", action="store_true", help="no progress bar")
