"""A notebook's prose, piece by piece: what a translator sees, and a cell assembled from translations.

A piece is a block of Markdown between blank lines: a heading, a paragraph, a list, a table. Lines that were
only wrapped are joined, so that rewrapping a paragraph does not touch its translation. Code stays.
"""

import re
from collections.abc import Iterator, Mapping

ITEM = re.compile(r"\s*([-*] |\d+\. |\||#|<)")  # a line that begins with one of these is a piece of its own
# code, formulas, targets of links, tags
NOT_PROSE = re.compile(r"`[^`]*`|\${1,2}[^$]*\${1,2}|\]\([^)]*\)|<[^>]*>|https?://\S+")
LINK = re.compile(r"\]\(([^)]+)\)")


def blocks(markdown: str) -> Iterator[str]:
    """The cell's blocks; a fenced piece of code is one, blank lines and all."""
    lines: list[str] = []
    fenced = False
    for line in [*markdown.splitlines(), ""]:
        fence = line.lstrip().startswith("```")
        ends = not fenced and (fence or not line.strip())
        if ends and lines:
            yield "\n".join(lines)
            lines = []
        if fenced or line.strip():
            lines.append(line)
        if fence:
            fenced = not fenced
            if not fenced:
                yield "\n".join(lines)
                lines = []
    if lines:
        yield "\n".join(lines)


def message(block: str) -> str | None:
    """What there is to translate in a block; None for code, and where no word is left beside it."""
    if block.lstrip().startswith("```") or not re.search(r"[A-Za-z]{2,}", NOT_PROSE.sub("", block)):
        return None
    return unwrapped(block)


def unwrapped(block: str) -> str:
    """The block with lines that were only wrapped joined again."""
    joined: list[str] = []
    for line in block.splitlines():
        quoted = line.startswith("> ") and joined and joined[-1].startswith("> ")
        if joined and (quoted or not (ITEM.match(line) or line.startswith(">"))):
            joined[-1] += " " + line.removeprefix("> ").strip()
        else:
            joined.append(line.rstrip())
    return "\n".join(joined)


def translated(markdown: str, catalogue: Mapping[str, str]) -> str:
    """The cell in another language; a block without translation stays English."""
    return "\n\n".join(catalogue.get(message(block) or "") or block for block in blocks(markdown))


def relinked(markdown: str) -> str:
    """The cell in a subfolder: other notebooks are beside it there, too, and other files one level up."""
    return LINK.sub(
        lambda found: found[0] if _stays(found[1]) else f"](../{found[1]})",
        markdown,
    )


def _stays(target: str) -> bool:
    return target.endswith(".ipynb") or target.startswith(("#", "http:", "https:", "mailto:"))
