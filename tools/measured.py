"""Put what the measured tables say into their pages, after they were measured again.

python tools/measured.py
"""

import pathlib
import re

from accum_lib.check.frameworks.apart import board
from accum_lib.check.frameworks.heads import table

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"


def replaced(page: str, pattern: str, said: str) -> str:
    """The page with ``said`` where the pattern is.

    Raises:
        ValueError: it is not there, or more than once.
    """
    text, found = re.subn(pattern, lambda _: said + "\n", page, flags=re.MULTILINE)
    if found != 1:
        raise ValueError(f"the page has {found} places like {pattern!r}, not one")
    return text


def pages(docs: pathlib.Path = DOCS) -> dict[pathlib.Path, str]:
    """Each page as its table has it."""
    heads, frameworks = docs / "heads.md", docs / "frameworks.md"
    counts = table.read_csv(heads.with_suffix(".csv")).summary()
    rows = board.summary(board.read_csv(frameworks.with_suffix(".csv")))
    return {
        heads: replaced(heads.read_text(encoding="utf-8"), r"^\d+ classes take labels[\s\S]*\Z", counts),
        frameworks: replaced(frameworks.read_text(encoding="utf-8"), r"^\| framework \|.*\n(\|.*\n)+", rows),
    }


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
