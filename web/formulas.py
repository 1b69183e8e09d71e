"""Formulas between ``$`` or ``$$`` as MathML, which browsers draw without a script and without a network."""

import re
from typing import Any

import mistune
from latex2mathml.converter import convert


def formula(source: str, display: str) -> str:
    """A formula in LaTeX as an element ``math``; ``display`` is ``inline`` or ``block``.

    Raises:
        ValueError: it cannot be drawn as it is meant.
    """
    try:
        said = convert(source, display=display)
    except Exception as error:  # the converter's own have no base in common
        raise ValueError(f"the formula ${source}$ cannot be drawn: {type(error).__name__}") from error
    if unknown := re.search(r"\\[a-zA-Z]*", said):  # it shows what it does not know as it is written
        raise ValueError(f"the formula ${source}$ cannot be drawn: {unknown[0]} is not known")
    if source.count("{") != source.count("}"):
        raise ValueError(f"the formula ${source}$ cannot be drawn: a brace has no partner")
    return re.sub("<mi>([MKB])</mi>", lambda found: f'<mi class="{found[1].lower()}">{found[1]}</mi>', said)


def formulas(md: mistune.Markdown) -> None:
    """A plugin of mistune's, which finds them where JupyterLab does."""
    pattern = r"(?P<dollars>\${1,2})(?!\s)(?P<inside>[^$]+)(?<!\s)(?P=dollars)"
    md.inline.register("formula", pattern, _found, before="link")
    if isinstance(md.renderer, mistune.HTMLRenderer):
        md.renderer.register("formula", lambda _, source, display: formula(source, display))


def _found(_: Any, match: re.Match[str], state: mistune.InlineState) -> int:
    display = "block" if match["dollars"] == "$$" else "inline"
    state.append_token({"type": "formula", "raw": match["inside"], "attrs": {"display": display}})
    return match.end()
