"""Where data come from: a name or a path, read by the module that knows it."""

import os
from typing import Any

from accum_lib.training.data import TextData


def is_file(source: str | os.PathLike[str]) -> bool:
    """Whether ``load_data`` reads a file for this source."""
    name = os.fspath(source)
    return name != "docstrings" and not name.startswith("glue:")


def load_data(source: str | os.PathLike[str] = "docstrings", **settings: Any) -> TextData:
    """Load a data set by its name or path.

    Args:
        source: "docstrings" (real text that ships with what is installed, no network), "glue:<task>"
            such as "glue:sst2" (through the ``datasets`` package), or a path to a CSV, TSV, JSONL or
            Parquet file.
        **settings: passed on to ``load_docstrings``, ``load_glue`` or ``load_file``.

    Raises:
        ValueError: the source is none of these, or its contents are malformed.
        FileNotFoundError, IsADirectoryError: the path leads to no file.
        ConnectionError: a hub data set can be reached neither on the network nor in the local cache.
    """
    name = os.fspath(source)
    if name == "docstrings":
        from accum_lib.training.data.docstrings import load_docstrings

        return load_docstrings(**settings)
    if name.startswith("glue:"):
        from accum_lib.training.data.glue import load_glue

        return load_glue(name.removeprefix("glue:"), **settings)
    from accum_lib.training.data.files import load_file

    if not os.path.exists(name) and not os.path.splitext(name)[1]:
        raise ValueError(
            f"no data source {name!r}: give 'docstrings', 'glue:<task>' such as 'glue:sst2', or the path "
            "of a .csv, .tsv, .jsonl or .parquet file"
        )
    return load_file(name, **settings)
