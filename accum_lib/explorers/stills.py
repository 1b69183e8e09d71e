"""A picture for viewers that run nothing, with its text for those who can't see it."""

import base64
import html
import textwrap
from typing import Any

from IPython.display import display

from accum_lib.figures.picture import Picture
from accum_lib.figures.still import png


def still(picture: Picture) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata of a cell's output, by MIME type."""
    image = base64.b64encode(png(picture)).decode()
    data = {"image/png": image, "text/plain": picture.summary}
    return data, {"image/png": {"alt": picture.summary}}


def show_still(picture: Picture) -> None:
    """Display a picture that has nothing to set; as HTML, since JupyterLab gives a plain PNG no words."""
    data, metadata = still(picture)
    words, image = html.escape(picture.summary), data["image/png"]
    data["text/html"] = f'<img alt="{words}" style="max-width: 100%" src="data:image/png;base64,{image}">'
    display(data, metadata=metadata, raw=True)
    print(textwrap.fill(picture.summary, 96))
