"""An explorer over a grid of settings: every setting is computed once, then switched in the browser.

A round trip to the kernel takes two to three tenths of a second, too slow for a hand on a slider. So
the kernel computes all settings when the explorer is made, and sends the numbers once; from then on
the browser alone redraws (``static/grid.js``). The picture is shown before the rest is computed, the
computation can be interrupted, and an error is shown in words.
"""

import gzip
import hashlib
import itertools
import operator
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import plotly
import traitlets
from IPython.display import display

from accum_lib.lessons.kit.still import still
from accum_lib.lessons.kit.theme import Picture
from accum_lib.machine import one_thread
from accum_lib.words import N_, _

STATIC = pathlib.Path(__file__).parent / "static"
LEAN = "ACCUM_LEAN_GRID"  # set: compute only settings in which at most one control is moved, for quick tests
Settings = dict[str, Any]
Key = tuple[int, ...]  # each control's position
WORDS = {  # what the browser says by itself
    "play": N_("Play"),
    "pause": N_("Pause"),
    "settings": N_("Settings"),
    "rest": N_("Compute the rest"),
    "missing": N_("This setting is not computed yet."),
    "failed": N_("The picture could not be drawn:"),
}


@dataclass(frozen=True)
class Control:
    """One thing the reader can vary.

    Attributes:
        name: the setting's name, as ``picture_of`` takes it.
        label: the text beside the control, with its symbol.
        values: what it can be, in the order of the slider.
        start: the value it has at first.
        labels: the values in words; None writes them as they are. They and ``label`` are English, marked
            with ``N_``, and translated when an explorer is made.
        kind: "slider", or "choice" for a few named alternatives.
        play_ms: give it a play button that moves on at this interval, in milliseconds; 0 for none.
        axis: an axis of the picture, such as "xaxis2", along which a slider's values can be dragged, too.
        places: (x, y) of each value in that axis's panel, where it is dragged: one of a pair is None where it
            is on the axis itself. None takes the values, on the axis. Places of several columns come in rows.
    """

    name: str
    label: str
    values: Sequence[Any]
    start: Any
    labels: Sequence[str] | None = None
    kind: str = "slider"
    play_ms: int = 0
    axis: str = ""
    places: Sequence[tuple[float | None, float | None]] | None = None

    def __post_init__(self) -> None:
        if self.start not in self.values:
            raise ValueError(f"{self.name} starts at {self.start!r}, which is not one of {list(self.values)}")
        if self.places is not None and len(self.places) != len(self.values):
            raise ValueError(
                f"{self.name} has {len(self.places)} places for {len(self.values)} values; give one for each"
            )

    def as_json(self) -> dict[str, Any]:
        """What the browser needs to know."""
        labels = [_(text) for text in self.labels or map(str, self.values)]
        return {
            "name": self.name,
            "label": _(self.label),
            "labels": labels,
            "kind": self.kind,
            "play_ms": self.play_ms,
        } | ({"axis": self.axis, "places": self.places or self._on_the_axis()} if self.axis else {})

    def _on_the_axis(self) -> list[tuple[float | None, float | None]]:
        across = self.axis.startswith("x")
        return [(float(v), None) if across else (None, float(v)) for v in self.values]


@dataclass(frozen=True)
class Marks:
    """Things in the picture that the reader marks before a control reveals which of them are right to mark.

    Attributes:
        label: the text beside the buttons, one for each thing.
        names: what is on the buttons.
        right: for each whether it should be marked.
        trace: which trace has a marker for each; a click on it is a mark, too.
        reveal: the name of the control that reveals at every position but its first.
        said: the sentence then, with {marked}, {hits}, {all} and {missed}: those marked without need.
    """

    label: str
    names: Sequence[str]
    right: Sequence[bool]
    trace: int
    reveal: str
    said: str


class PlotlyModule(anywidget.AnyWidget):
    """The installed package's own plotly.js, sent to the browser once and compressed."""

    _esm = "export default { render() {} };"
    source = traitlets.Bytes().tag(sync=True)


@cache
def plotly_module() -> PlotlyModule:
    """The one copy of plotly.js that all explorers of this kernel share."""
    script = pathlib.Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return PlotlyModule(source=gzip.compress(script.read_bytes(), compresslevel=1))


class GridExplorer(anywidget.AnyWidget):
    """Controls above a figure; the browser switches between pictures that the kernel has computed.

    Args:
        controls: what the reader can vary.
        picture_of: ``picture_of(**settings)`` computes one setting's ``Picture``. All of them have the
            same traces in the same order; only traces and layout that differ are sent for each setting.
        marks: what the reader can mark in the picture; kept in the page alone.

    The attribute ``errors`` holds every exception that was shown to the reader, so that a test can fail
    on it: Jupyter swallows exceptions in callbacks.
    """

    _esm = STATIC / "grid.js"
    _css = "".join((STATIC / name).read_text("utf-8") for name in ("letters.css", "grid.css"))
    controls: traitlets.List = traitlets.List().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)
    figure = traitlets.Dict().tag(sync=True)
    cells = traitlets.Dict().tag(sync=True)
    numbers = traitlets.Bytes().tag(sync=True)
    selection = traitlets.Dict().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    complete = traitlets.Bool(False).tag(sync=True)
    computing = traitlets.Bool(False).tag(sync=True)
    plotly = traitlets.Instance(ipywidgets.Widget).tag(sync=True, **ipywidgets.widget_serialization)

    def __init__(
        self, controls: Sequence[Control], picture_of: Callable[..., Picture], marks: Marks | None = None
    ) -> None:
        self._controls = list(controls)
        self._picture_of = picture_of
        start = {c.name: list(c.values).index(c.start) for c in self._controls}
        self._grid = list(itertools.product(*(range(len(c.values)) for c in self._controls)))
        if os.environ.get(LEAN):
            self._grid = [k for k in self._grid if sum(map(operator.ne, k, start.values())) < 2]
        with one_thread():
            self._packer = _Packer(picture_of(**{c.name: c.start for c in self._controls}))
        self.errors: list[BaseException] = []
        super().__init__(
            controls=[c.as_json() for c in self._controls],
            words={name: _(text) for name, text in WORDS.items()},
            figure=self._packer.base | ({"marks": asdict(marks)} if marks else {}),
            selection=start,
            plotly=plotly_module(),
        )
        self._packer.add(tuple(start.values()), self._packer.picture)
        self._publish()
        self.on_msg(self._on_message)

    @property
    def settings(self) -> Settings:
        """What the controls are at, by name."""
        return {c.name: c.values[self.selection[c.name]] for c in self._controls}

    def choose(self, **settings: Any) -> None:
        """Move controls from code: ``explorer.choose(accumulation_steps=4)``.

        Raises:
            ValueError: there is no such control, or it does not have that value.
        """
        picked = dict(self.selection)
        for name, value in settings.items():
            control = next((c for c in self._controls if c.name == name), None)
            if control is None:
                raise ValueError(f"no control {name!r}; there are {[c.name for c in self._controls]}")
            if value not in control.values:
                raise ValueError(f"{name} can be one of {list(control.values)}; got {value!r}")
            picked[name] = list(control.values).index(value)
        self.selection = picked

    def picture(self) -> Picture:
        """The picture of the present settings, computed again."""
        with one_thread():  # as the others were: on two threads sums round in another order
            return self._picture_of(**self.settings)

    def show(self) -> None:
        """Display the explorer at its first setting, then compute all the others."""
        display(self)
        self.fill()

    def fill(self) -> None:
        """Compute every setting that is missing. An interrupt ends it; call it again to continue.

        A setting that raises says so in words where its picture would be; the others still work.
        """
        self.computing = True
        try:
            with one_thread():
                self._fill()
        except KeyboardInterrupt:
            self.status = _(
                "Stopped: {there} of {all} settings can be explored.",
                there=len(self._packer),
                all=len(self._grid),
            )
        else:
            self.status = (
                _("{failed} settings could not be computed.", failed=len(self.errors)) if self.errors else ""
            )
        finally:
            self.computing = False
            self._publish()

    def _fill(self) -> None:
        missing = [key for key in self._grid if key not in self._packer]
        reported = time.monotonic()
        for done, key in enumerate(missing):
            if time.monotonic() - reported > 0.25:
                reported = time.monotonic()
                self.status = _(
                    "Computing every setting: {done} of {missing} (interrupt the kernel to stop)",
                    done=done,
                    missing=len(missing),
                )
            self._compute(key)

    def _compute(self, key: Key) -> None:
        values = {c.name: c.values[i] for c, i in zip(self._controls, key, strict=True)}
        try:
            self._packer.add(key, self._picture_of(**values))
        except Exception as error:
            self.errors.append(error)
            self._packer.add_error(key, _("This setting could not be computed: {error}", error=error))

    def _publish(self) -> None:
        with self.hold_sync():
            self.numbers = self._packer.numbers()
            self.cells = dict(self._packer.cells)
            self.complete = len(self._packer) == len(self._grid)

    def _on_message(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        if content.get("type") == "fill":
            self.fill()
        elif content.get("type") == "plotly":  # the host of the front end did not find the shared copy
            self.send({"type": "plotly"}, buffers=[plotly_module().source])

    def _repr_mimebundle_(self, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live widget, and beside it a still picture with its text for viewers that run nothing."""
        data, metadata = super()._repr_mimebundle_(**more) or ({}, {})
        stand_in, described = still(self.picture)
        return {**data, **stand_in}, {**metadata, **described}


class _Packer:
    """Pictures of one shape: one run of numbers, and for each setting what differs from the first."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.base = {
            "data": [{k: _as_json(v) for k, v in trace.items()} for trace in picture.data],
            "layout": picture.layout,
            "config": {"displayModeBar": False, "responsive": False},
        }
        self.cells: dict[str, Any] = {}
        self._arrays: list[np.ndarray] = []
        self._starts: dict[bytes, int] = {}  # where an array that several settings share already is
        self._length = 0

    def __contains__(self, key: Key) -> bool:
        return _name(key) in self.cells

    def __len__(self) -> int:
        return len(self.cells)

    def numbers(self) -> bytes:
        return np.concatenate(self._arrays).astype("<f8").tobytes() if self._arrays else b""

    def add(self, key: Key, picture: Picture) -> None:
        if len(picture.data) != len(self.picture.data):
            raise ValueError(
                f"{len(picture.data)} traces where the first picture has {len(self.picture.data)}"
            )
        arrays, changes = [], []
        for index, (trace, first) in enumerate(zip(picture.data, self.picture.data, strict=True)):
            series = {k: v for k, v in trace.items() if _is_series(v)}
            arrays += [[index, k, self._start(v), len(v)] for k, v in series.items()]
            changed = {k: v for k, v in trace.items() if k not in series and v is not first.get(k)}
            changed = {k: _as_json(v) for k, v in changed.items() if not _same(v, first.get(k))}
            if changed:
                changes.append([index, changed])
        layout = {k: v for k, v in picture.layout.items() if v != self.picture.layout.get(k)}
        self.cells[_name(key)] = {
            "arrays": arrays,
            "changes": changes,
            "layout": layout,
            "summary": picture.summary,
        }

    def add_error(self, key: Key, message: str) -> None:
        self.cells[_name(key)] = {"error": message}

    def _start(self, series: np.ndarray) -> int:
        digest = hashlib.sha256(series.astype("<f8").tobytes()).digest()
        if digest not in self._starts:
            self._starts[digest] = self._length
            self._arrays.append(series)
            self._length += len(series)
        return self._starts[digest]


def _name(key: Key) -> str:
    return ",".join(str(index) for index in key)


def _is_series(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "fiu"


def _same(value: Any, other: Any) -> bool:
    return not isinstance(value, np.ndarray) and value == other


def _as_json(value: Any) -> Any:
    if _is_series(value):
        return []  # comes with each setting, as numbers: JSON cannot say NaN
    return value.tolist() if isinstance(value, np.ndarray) else value
