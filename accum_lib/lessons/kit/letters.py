"""The course's letters ``M``, ``K`` and ``B`` as mathematics, in one colour each; and the way back."""

import re

LETTERS = {"M": "#b45309", "K": "#0b62b0", "B": "#7338a0"}  # as in static/letters.css; legible on white
_LETTER = re.compile(r"\b[MKB]\b(?!['’])", re.ASCII)
_FORMULA = re.compile(r"(?:[\d =·/(),⌈⌉²α.]|\b[MKBN]\b)*", re.ASCII)
_MARKED = re.compile(r'<span class="symbols">.*?</span>|<var[^>]*>.</var>')  # what ``formula`` makes


def in_title(title: str) -> str:
    """A title for Plotly with its letters in italics, each in its colour."""
    return _LETTER.sub(lambda found: f'<i style="color:{LETTERS[found[0]]}">{found[0]}</i>', title)


def marked(html: str) -> str:
    """The same with its letters marked: static/letters.css gives them their colours."""
    return _LETTER.sub(lambda found: f'<var class="{found[0].lower()}">{found[0]}</var>', html)


def formula(code: str) -> str | None:
    """What stands in code marks, ``B = M·K``, as HTML with its letters marked; None if it is no formula."""
    if not _FORMULA.fullmatch(code) or not re.search("[MKBN]", code):
        return None
    html = marked(code).replace("N", "<var>N</var>")
    return html if len(code) == 1 else f'<span class="symbols">{html}</span>'


def unmarked(text: str) -> str:
    """Markdown whose formulas ``formula`` has marked, with code marks in their place again."""
    return _MARKED.sub(lambda found: f"`{re.sub('<[^>]*>', '', found[0])}`", text)
