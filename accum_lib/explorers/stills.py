"""A picture for viewers that run nothing, with its text for those who can't see it."""

import base64
import html
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.display import display

from accum_lib.figures.picture import Picture
from accum_lib.figures.still import can_write, png
from accum_lib.words import language, speaking


def still(draw: Callable[[], Picture]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata of a cell's output, by MIME type.

    A font for the letters of a language may be missing here. Then the labels inside the still picture are
    English (the picture is drawn once more), and its text is not.
    """
    picture = shown = draw()
    if not can_write(language()):
        with speaking("en"):
            shown = draw()
    data = {"image/png": base64.b64encode(png(shown)).decode(), "text/plain": picture.summary}
    return data, {"image/png": {"alt": picture.summary}}


def show_still(draw: Callable[[], Picture]) -> None:
    """Display a picture that has nothing to set; as HTML, since JupyterLab gives a plain PNG no words."""
    data, metadata = still(draw)
    words, image = html.escape(data["text/plain"]), data["image/png"]
    data["text/html"] = f'<img alt="{words}" style="max-width: 100%" src="data:image/png;base64,{image}">'
    display(data, metadata=metadata, raw=True)
    print(wrapped(data["text/plain"]))


def wrapped(text: str, indent: str = "") -> str:
    """A text as lines that a notebook need not break; from the second one on they may be indented."""
    return textwrap.fill(text, 96 if language() == "en" else 48, subsequent_indent=indent)  # wide letters
