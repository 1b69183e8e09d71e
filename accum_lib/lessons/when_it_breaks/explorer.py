"""The explorers of notebook 05: a hunt for the fault of a loop that one cannot read, and what sees which."""

import difflib
import html
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import ipywidgets
from IPython.display import display

from accum_lib.check import check_case
from accum_lib.check.faults.catalogue import FAULTS
from accum_lib.check.loop import Loop
from accum_lib.lessons.kit.grid import Control, GridExplorer, Marks
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.when_it_breaks import figure
from accum_lib.lessons.when_it_breaks.clues import clues, mysteries, scene
from accum_lib.lessons.when_it_breaks.observe import OBSERVATIONS, SUSPECTS, line_up, sightings
from accum_lib.lessons.when_it_breaks.record import LineUp, Sightings
from accum_lib.words import N_, _, clauses

RIGHT = "right"


def clues_explorer() -> GridExplorer:
    """The clues of each mystery loop."""
    suspects = mysteries()
    numbers = tuple(range(1, len(suspects) + 1))

    def picture_of(number: int) -> Picture:
        return figure.clues_picture(clues(suspects[number - 1][1]))

    return GridExplorer([Control("number", N_("Loop number"), numbers, 1)], picture_of)


class BugHunt:
    """A hidden loop: read the clues, name the fault, then see its source.

    Attributes:
        explorer: the clues.
        guess, button, reply: the reader's side.
        named: the numbers of the loops that were named rightly.
        errors: exceptions that were shown to the reader in words.
    """

    def __init__(self) -> None:
        self.suspects = mysteries()
        self.explorer = clues_explorer()
        self.named: set[int] = set()
        self.errors: list[BaseException] = []
        titles = [(_("nothing is wrong with it"), RIGHT), *sorted((f.title, f.code) for f in FAULTS)]
        self.guess = ipywidgets.Dropdown(
            description=_("Its fault:"), options=[(_("choose …"), ""), *titles], layout={"width": "24em"}
        )
        self.button = ipywidgets.Button(description=_("Reveal"), disabled=True, button_style="primary")
        self.reply = ipywidgets.HTML()
        self.guess.observe(self._on_guess, names="value")
        self.button.on_click(self._on_click)
        self.explorer.observe(self._on_move, names="selection")

    def show(self) -> None:
        """Display the clues, the guess and the button, then fill the explorer."""
        display(self.explorer)
        display(ipywidgets.VBox([ipywidgets.HBox([self.guess, self.button]), self.reply]))
        self.explorer.fill()

    @property
    def number(self) -> int:
        """Which loop is looked at, from 1."""
        return self.explorer.settings["number"]

    def _on_guess(self, _: object) -> None:
        self.button.disabled = not self.guess.value

    def _on_move(self, _: object) -> None:
        self.guess.value, self.reply.value = "", ""

    def _on_click(self, button: object) -> None:
        try:
            self.reply.value = f"<div role='status'>{self._verdict()}</div>"
        except Exception as error:
            self.errors.append(error)
            self.reply.value = _("It could not be revealed: {error}", error=html.escape(str(error)))

    def _verdict(self) -> str:
        code, loop = self.suspects[self.number - 1]
        hit = self.guess.value == code
        if hit:
            self.named.add(self.number)
        return _(
            "<b>{verdict}</b> {story}<p>Named so far: {named} of {all}.</p>",
            verdict=_("Well seen.") if hit else _("Not that one."),
            story=story(code, loop),
            named=len(self.named),
            all=len(self.suspects),
        )


def story(code: str, loop: Loop) -> str:
    """What a loop is, as HTML: its name, what the checker says of it now, source, where it happened."""
    report = check_case(loop, scene(loop))
    fault = next((f for f in FAULTS if f.code == code), None)
    if fault is None:
        return _(
            "Nothing is wrong with this one: every update is one big batch's, up to "
            "{relative_error:.0e}.{source}",
            relative_error=report.relative_error,
            source=_code(inspect.getsource(loop).splitlines()),
        )
    said = clauses([html.escape(d.message) for d in report.diagnoses])
    return _(
        "It is <b>{title}</b> (<code>{code}</code>). {what}<p>The checker: {said}.</p>{difference}<p>Where "
        "it happened: {source}.</p>",
        title=fault.title,
        code=code,
        what=fault.what,
        said=said,
        difference=_code(difference(fault.right, loop)),
        source=_(fault.source),
    )


def difference(right: Loop, wrong: Loop) -> list[str]:
    """The right loop's lines and the wrong one's, as a diff: "-" is right, "+" is wrong, " " is common."""
    one, other = (inspect.getsource(loop).splitlines() for loop in (right, wrong))
    return [line for line in difflib.ndiff(one, other) if not line.startswith("?")]


def _code(lines: list[str]) -> str:
    colours = {"-": "#e3f2e1", "+": "#fbe3d6"}
    styled = "".join(
        f"<div style='background:{colours.get(line[:1], 'none')}'>{html.escape(line) or ' '}</div>"
        for line in lines
    )
    return f"<pre style='line-height:1.35; overflow-x:auto'>{styled}</pre>"


@contextmanager
def _bar(of: int) -> Iterator[Callable[[int, int], None]]:
    """A bar to watch while loops are trained: a function that takes (done, of how many)."""
    bar = ipywidgets.IntProgress(max=of, description=_("Training"), layout={"width": "24em"})
    display(bar)

    def progress(done: int, of: int) -> None:
        bar.value, bar.description = done, _("{done} of {of}", done=done, of=of)

    try:
        yield progress
    finally:
        bar.layout.display = "none"  # closed, it would be missed by a page that is drawn later


@cache
def all_sightings() -> Sightings:
    """Every fault under every observation, computed once: a quarter of a minute."""
    with _bar(len(FAULTS)) as progress:
        return sightings(FAULTS, progress=progress)


@cache
def sixteen_runs() -> LineUp:
    """The runs of the line-up, trained once: about seven seconds."""
    with _bar(len(SUSPECTS)) as progress:
        return line_up(progress)


def line_up_explorer(runs: Callable[[], LineUp] = sixteen_runs) -> GridExplorer:
    """Sixteen loss curves, some of broken loops: the reader marks those, then looks."""
    found = runs()
    reveal = Control(
        "shown", N_("Show:"), (False, True), False, (N_("the curves"), N_("which are broken")), "choice"
    )
    marks = Marks(
        _("Broken:"), figure.letters(found), [bool(title) for title in found.titles], figure.BOXES, "shown",
        _("You marked {marked}: {hits} of the {all} broken ones, and {missed} that are right."),
    )  # fmt: skip
    return GridExplorer([reveal], lambda shown: figure.line_up_picture(found, shown), marks)


def sightings_explorer(found: Callable[[], Sightings] = all_sightings) -> GridExplorer:
    """Which check would catch it? Faults against observations, and the values behind them."""
    control = Control("observation", N_("Look at:"), OBSERVATIONS, "loss curve", None, "choice")
    return GridExplorer([control], lambda observation: figure.sightings_picture(found(), observation))
