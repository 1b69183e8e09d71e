"""The tasks of GLUE, through the ``datasets`` package: from the hub, or from its cache on this machine.

Source: Wang et al., GLUE (arXiv 1804.07461); the hub's copy is ``nyu-mll/glue``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from accum_lib.training.data import Example, TextData

REPOSITORY = "nyu-mll/glue"
COLUMNS: dict[str, tuple[str, str | None]] = {  # task -> the columns of the text and of its partner
    "cola": ("sentence", None),
    "sst2": ("sentence", None),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}


def load_glue(task: str, num_train: int | None = None, num_held_out: int | None = None) -> TextData:
    """A GLUE task: its training part, and its validation part as held-out data (test has no labels).

    Args:
        task: one of ``COLUMNS``; of "mnli" the matched validation part is taken.
        num_train, num_held_out: keep only the first ones; None keeps all.

    Raises:
        ValueError: the task is not known, or is one that has no classes ("stsb").
        ImportError: ``datasets`` is not installed.
        ConnectionError: the data are neither on the network nor in the local cache.
    """
    if task not in COLUMNS:
        why = " (stsb is a regression, it has no classes)" if task == "stsb" else ""
        raise ValueError(f"GLUE task must be one of {', '.join(COLUMNS)}; got {task!r}{why}")
    parts = _download(task)
    held_out = parts["validation_matched" if task == "mnli" else "validation"]
    return TextData(
        name=f"GLUE {task}",
        train=_examples(parts["train"], task, num_train),
        held_out=_examples(held_out, task, num_held_out),
        labels=tuple(parts["train"].features["label"].names),
    )


def _download(task: str) -> Any:
    try:
        import datasets  # takes a second to import
    except ImportError as error:
        raise ImportError("GLUE needs the package datasets: pip install datasets==5.2.0") from error
    try:
        return datasets.load_dataset(REPOSITORY, task)
    except Exception as error:  # the hub's client raises errors of several packages
        raise ConnectionError(
            f"GLUE {task} could not be loaded from the hub ({type(error).__name__}: {error}). Offline, use "
            f"the source 'docstrings' or a file of your own; or load {REPOSITORY!r} once on a machine with a "
            "network and copy its cache (the folder that HF_HOME names)"
        ) from error


def _examples(rows: Iterable[Mapping[str, Any]], task: str, limit: int | None) -> tuple[Example, ...]:
    text, pair = COLUMNS[task]
    chosen = (row for i, row in enumerate(rows) if limit is None or i < limit)
    return tuple(Example(r[text], r[pair] if pair else None, r["label"]) for r in chosen)
