"""The same picture as a still PNG, for viewers that run nothing (a saved notebook on the web, a print).

Matplotlib draws the few kinds of trace that our pictures use; a kind it does not know is an error, not
a gap.
"""

import base64
import html
import io
import logging
import re
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.display import display

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.words import language, speaking

DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "x": "X", "star": "*",
    "circle-open": "o", "line-ew-open": "_",
}  # fmt: skip
PIXELS_PER_INCH = 100
FONTS = {  # that have the letters of a language, for each of the usual systems
    "zh": (
        "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", "Hiragino Sans GB",
        "Heiti SC", "Microsoft YaHei", "SimHei", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    ),
}  # fmt: skip
WIDTH = 960


def fonts(language: str) -> list[str]:
    """The installed fonts with the letters of a language, besides those that Matplotlib brings."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [name for name in FONTS.get(language, ()) if name in installed]


def can_write(language: str) -> bool:
    """Whether labels in this language come out as letters here, and not as empty boxes."""
    return language not in FONTS or bool(fonts(language))


def png(picture: Picture) -> bytes:
    """Draw a ``Picture`` as a PNG, ``WIDTH`` pixels wide and as high as its layout says.

    Raises:
        ValueError: a trace is of a kind that cannot be drawn here.
    """
    from matplotlib import rc_context

    every = [name for language in FONTS for name in fonts(language)[:1]]
    finder = logging.getLogger("matplotlib.font_manager")
    level = finder.level
    finder.setLevel(logging.ERROR)  # or a reader would see a warning of a font that has one weight only
    try:
        with rc_context({"font.family": ["DejaVu Sans", *every]}):  # the first that has a letter draws it
            return _png(picture)
    finally:
        finder.setLevel(level)


def _png(picture: Picture) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = picture.layout["height"]
    figure = Figure(figsize=(WIDTH / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
    axes = {name: _axes(figure, picture.layout, name) for name in _panels(picture)}
    below: dict[str, Any] = {}  # the last trace of each panel, down to which the next one may be filled
    for trace in picture.data:
        panel = trace.get("xaxis", "x")[1:]
        if trace.get("visible", True) is True:
            _fill(axes[panel], trace, below.get(panel))
            _draw(axes[panel], trace)
        below[panel] = trace
    for note in picture.layout.get("annotations", []):
        if note.get("xref") == "paper":
            x, y = _inside(picture.layout, note["x"], note["y"])
            figure.text(x, y, _plain(note["text"]), ha="center", va="bottom", fontsize=9, weight="bold")
    handles = {t.get_label(): t for a in axes.values() for t in a.get_legend_handles_labels()[0]}
    if handles and picture.layout.get("showlegend", True):
        figure.legend(handles.values(), handles.keys(), loc="upper left", ncols=4, fontsize=8, frameon=False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _panels(picture: Picture) -> list[str]:
    return sorted({trace.get("xaxis", "x")[1:] for trace in picture.data})


def _inside(layout: dict[str, Any], x: float, y: float) -> tuple[float, float]:
    """From Plotly's plotting area, 0 to 1, to the whole figure with its margins."""
    left = max(0.07, layout.get("margin", {}).get("l", 0) / WIDTH)
    return left + (0.98 - left) * x, 0.13 + 0.72 * y


def _axes(figure: Any, layout: dict[str, Any], name: str) -> Any:
    from matplotlib.ticker import NullLocator

    x, y = layout[f"xaxis{name}"], layout[f"yaxis{name}"]
    (left, bottom), (right, top) = (_inside(layout, x["domain"][i], y["domain"][i]) for i in (0, 1))
    axes = figure.add_axes((left, bottom, right - left, top - bottom))
    axes.set_xlabel(_plain(x["title"]["text"]), fontsize=9)
    axes.set_ylabel(_plain(y["title"]["text"]), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.set_axisbelow(True)
    for side, spec, set_scale, set_limits in (
        ("x", x, axes.set_xscale, axes.set_xlim),
        ("y", y, axes.set_yscale, axes.set_ylim),
    ):
        log = spec.get("type") == "log"
        if log:
            set_scale("log")
        if "range" in spec:
            set_limits(*(10.0**v if log else v for v in spec["range"]))
        if spec.get("showgrid", True):
            axes.grid(color="#e5e5e5", axis=side)
        if not spec.get("showticklabels", True):
            getattr(axes, f"set_{side}ticks")([])
        if "ticktext" in spec:
            getattr(axes, f"set_{side}ticks")(spec["tickvals"], [_plain(t) for t in spec["ticktext"]])
            getattr(axes, f"{side}axis").set_minor_locator(NullLocator())
    return axes


def _draw(axes: Any, trace: dict[str, Any]) -> None:
    label = trace.get("name") if trace.get("showlegend", True) else None
    kind = trace["type"]
    if kind == "bar":
        axes.bar(trace["x"], trace["y"], label=label, **_bar(trace))
    elif kind == "scatter" and isinstance(trace.get("marker", {}).get("size"), list):
        axes.scatter(trace["x"], trace["y"], label=label, **_circles(trace["marker"]))
    elif kind == "scatter":
        axes.plot(trace["x"], trace["y"], label=label, **_line(trace))
        for x, y, text in zip(trace["x"], trace["y"], trace.get("text", ()), strict=False):
            middle = trace.get("textposition", "middle center") == "middle center"
            axes.text(x, y, _plain(text), ha="center" if middle else "left", va="center", fontsize=7)
    else:
        raise ValueError(f"a still picture cannot show a trace of type {kind!r}; it knows bar and scatter")


def _fill(axes: Any, trace: dict[str, Any], below: dict[str, Any] | None) -> None:
    if "fill" in trace:
        bottom = below["y"] if below is not None and trace["fill"] == "tonexty" else 0
        axes.fill_between(
            trace["x"], bottom, trace["y"], color=trace["line"]["color"], alpha=0.5, linewidth=0
        )


def _bar(trace: dict[str, Any]) -> dict[str, Any]:
    marker, edge = trace.get("marker", {}), trace.get("marker", {}).get("line", {})
    return {
        "bottom": trace.get("base"),
        "width": trace.get("width", 0.8),
        "color": "none" if marker.get("color") == theme.NONE else marker.get("color"),
        "edgecolor": edge.get("color"),
        "linewidth": edge.get("width", 0),
    }


def _line(trace: dict[str, Any]) -> dict[str, Any]:
    mode, line, marker = trace.get("mode", "lines"), trace.get("line", {}), trace.get("marker", {})
    symbol, most = marker.get("symbol", "circle"), marker.get("maxdisplayed", 0)
    return {
        "markevery": -(-len(trace["x"]) // most) if most else 1,
        "linestyle": DASHES[line.get("dash", "solid")] if "lines" in mode else "none",
        "linewidth": line.get("width", 2) * 0.7,
        "marker": MARKERS[symbol] if "markers" in mode else None,
        "markersize": marker.get("size", 6) * 0.7,
        "fillstyle": "none" if symbol.endswith("open") or marker.get("color") == "white" else "full",
        "color": line.get("color") or marker.get("color"),
        "alpha": marker.get("opacity", 1.0),
    }


def _circles(marker: dict[str, Any]) -> dict[str, Any]:
    """Markers of different sizes, which Matplotlib gives as areas."""
    opened = marker["symbol"].endswith("open")
    return {
        "s": [(0.6 * size) ** 2 for size in marker["size"]],
        "facecolors": "none" if opened else marker["color"],
        "edgecolors": marker["color"],
        "alpha": marker.get("opacity", 1.0),
    }


def _plain(text: str) -> str:
    """Without the tags that Plotly knows; a line break stays."""
    return re.sub(r"</?(?:b|i)\b[^>]*>", "", text.replace("<br>", "\n"))


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
