"""Every head over several processes: each with a time limit, in a process of its own, in a file to resume."""

import ast
import fnmatch
import json
import multiprocessing
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from typing import Any

from accum_lib.check.frameworks.heads.measure import HeadRow, measure

LIMIT_SECONDS = 60.0
Head = tuple[str, str]  # the class, and its model's folder


def heads(only: str = "*") -> list[Head]:
    """Every class of the installed Transformers whose ``forward`` takes ``labels``, read in its sources.

    Args:
        only: a pattern of class names or folders, such as ``Bert*`` or ``whisper``.

    Raises:
        ValueError: there is none.
    """
    every = _every()
    chosen = [(n, m) for n, m in every if fnmatch.fnmatchcase(n, only) or fnmatch.fnmatchcase(m, only)]
    if not chosen:
        raise ValueError(f"--only {only!r} names none of the {len(every)} heads: try 'Bert*' or 'whisper'")
    return chosen


@cache
def _every() -> list[Head]:
    found_package = find_spec("transformers")
    assert found_package is not None
    assert found_package.origin is not None
    root = pathlib.Path(found_package.origin).parent
    generic = set(_takes_labels(root / "modeling_layers.py"))
    files = sorted(root.glob("models/*/modeling_*.py"))
    return [
        (name, f.parent.name if f.stem == f"modeling_{f.parent.name}" else f"{f.parent.name}.{f.stem}")
        for f in files
        for name in _takes_labels(f, generic)
    ]


def _takes_labels(file: pathlib.Path, generic: set[str] | None = None) -> list[str]:
    """The classes of a file with ``labels`` in their own ``forward``, or in that of a generic base."""
    found = []
    for each in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(each, ast.ClassDef):
            continue
        forward = next((n for n in each.body if isinstance(n, ast.FunctionDef) and n.name == "forward"), None)
        if forward is None:
            takes = not (generic or set()).isdisjoint(ast.unparse(base) for base in each.bases)
        else:
            takes = "labels" in [a.arg for a in forward.args.args + forward.args.kwonlyargs]
        if takes:
            found.append(each.name)
    return found


def measured(
    chosen: Sequence[Head],
    resume: pathlib.Path | None = None,
    processes: int = 2,
    limit: float = LIMIT_SECONDS,
) -> Iterator[HeadRow]:
    """Rows as they are found; what the file to resume has is not measured again.

    Args:
        chosen: from ``heads``.
        resume: JSON lines, which are added to.
        processes: at the same time.
        limit: seconds for one head.
    """
    known = {(row.head, row.model_type): row for row in read(resume)} if resume and resume.exists() else {}
    yield from (known[head] for head in chosen if head in known)
    for row in _pool([head for head in chosen if head not in known], processes, limit):
        if resume:
            with resume.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row.as_dict()) + "\n")
        yield row


def read(file: pathlib.Path) -> list[HeadRow]:
    """The rows of a file of JSON lines; a last line that was cut off is left out."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(HeadRow(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):
            continue
    return rows


def _pool(todo: Sequence[Head], processes: int, limit: float) -> Iterator[HeadRow]:
    """Each head in a copy of this process: a crash, or the time limit, costs that head alone."""
    if todo:
        _load()
    context: Any = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    waiting = list(reversed(todo))
    running: dict[Connection, tuple[Head, Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            head = waiting.pop()
            ours, theirs = context.Pipe(duplex=False)
            child = context.Process(target=_one, args=(*head, theirs), daemon=True)
            child.start()
            theirs.close()
            running[ours] = (head, child, time.monotonic())
        ready: list[Any] = wait(list(running), timeout=0.5)
        for pipe, (head, child, started) in list(running.items()):
            late = time.monotonic() - started > limit
            if pipe not in ready and not late:
                continue
            try:
                row = pipe.recv() if pipe in ready else HeadRow(*head, reason=f"not done after {limit:.0f} s")
            except EOFError:
                child.join()
                row = HeadRow(*head, reason=f"its process ended with status {child.exitcode}")
            child.kill()
            child.join()
            del running[pipe]
            yield row


def _load() -> None:
    """What every child needs, once."""
    import gc

    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    _ = transformers.Trainer, transformers.TrainingArguments
    gc.freeze()  # the Trainer collects garbage, and need not look at a million objects of packages


def _one(head: str, model_type: str, pipe: Connection) -> None:
    import warnings

    _load()
    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        pipe.send(measure(head, model_type))
