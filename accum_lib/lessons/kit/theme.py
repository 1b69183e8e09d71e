"""The look that all figures share: colours that colour-blind readers can tell apart, and axes.

Colours are Okabe and Ito's palette (https://jfly.uni-koeln.de/color). No meaning rests on colour alone:
a series also has a dash or a marker of its own.

A picture as plain data: Plotly traces and layout, and the same in words.

Explorers switch between hundreds of pictures of one shape, and building a validated Plotly figure takes
milliseconds each; so drawing functions return this light record, and ``figure()`` makes the figure.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accum_lib.lessons.kit.letters import in_title

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
    "#767676",
)
LEGEND = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "top"}
NONE = "rgba(0,0,0,0)"  # see-through


def faint(colour: str) -> str:
    """A third of a colour of the form ``#rrggbb``; Plotly 6 knows no ``#rrggbbaa``."""
    red, green, blue = bytes.fromhex(colour[1:])
    return f"rgba({red},{green},{blue},0.31)"


def axis(title: str, domain: tuple[float, float], **more: Any) -> dict[str, Any]:
    """An axis with a title (give the unit) over part of the picture, from 0 to 1."""
    return {
        "title": {"text": in_title(title), "standoff": 8},
        "domain": list(domain),
        "linecolor": GREY,
        "gridcolor": "#e5e5e5",
        "zerolinecolor": "#bbbbbb",
        "ticks": "outside",
        **more,
    }


def layout(height: int, top: int = 40, **more: Any) -> dict[str, Any]:
    """The layout every figure starts from; ``height`` and the margin above the panels in pixels.

    Nothing in it moves the margins (no automatic ones, and the legend is inside the plotting area):
    Plotly would draw everything twice, and a slider would feel slow.
    """
    return {
        "height": height,
        "margin": {"l": 60, "r": 16, "t": top, "b": 48},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#212121"},
        "legend": LEGEND,
        "hovermode": "closest",
        **more,
    }


def heading(text: str, x: float, y: float = 1.0) -> dict[str, Any]:
    """A panel's heading, centred at ``x`` and just above ``y``, both from 0 to 1."""
    return {
        "text": f"<b>{text}</b>",
        "x": x,
        "y": y,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "center",
        "yanchor": "bottom",
        "showarrow": False,
    }


def line(
    x: Any,
    y: Any,
    panel: str,
    name: str,
    colour: str,
    dash: str,
    mode: str = "lines",
    symbol: str = "circle",
    size: int = 7,
) -> dict[str, Any]:
    """A line, or markers, in a panel ("" is the first); a series without a name stays out of the legend."""
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": mode,
        "x": np.asarray(x, dtype=float),
        "y": np.asarray(y, dtype=float),
        "xaxis": f"x{panel}",
        "yaxis": f"y{panel}",
        "name": name,
        "showlegend": bool(name),
        "line": {"color": colour, "dash": dash, "width": 2},
    }
    if "markers" in mode:
        trace["marker"] = {"symbol": symbol, "size": size, "color": colour}
    return trace


if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Picture:
    """Traces and layout as Plotly's own dictionaries, and a summary for those who cannot see them."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    summary: str

    def figure(self) -> "go.Figure":
        """The Plotly figure, with the summary in ``layout.meta``.

        Raises:
            ValueError: Plotly does not know a property.
        """
        import plotly.graph_objects as go  # explorers do not need it, and it takes a while to import

        return go.Figure(self.data, {**self.layout, "meta": {"summary": self.summary}})
