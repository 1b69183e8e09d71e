"""The explorers of notebook 03: gradients under M, K and the way of sampling; the races."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import ipywidgets
from IPython.display import display

from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.variance import figure, race_figure
from accum_lib.lessons.variance.measure import SAMPLINGS, VarianceLab
from accum_lib.lessons.variance.record import Races
from accum_lib.lessons.variance.targets import race_all, to_target
from accum_lib.words import N_, _

WORDS = (
    N_("shuffled, without replacement"),
    N_("with replacement"),
    N_("in file order"),
    N_("sorted by class"),
)
CONTROLS = [
    Control("micro_batch_size", N_("Micro-batch size M"), (1, 2, 4, 8, 16, 32), 8),
    Control("accumulation_steps", N_("Accumulation steps K"), (1, 2, 4, 8, 16), 4),
    Control("sampling", N_("Examples come:"), SAMPLINGS, "shuffled", WORDS, "choice"),
]


def variance_explorer(lab: VarianceLab | None = None) -> GridExplorer:
    """Mini-batch gradients around the full gradient, under M, K and four ways of sampling."""
    lab = lab or VarianceLab()

    def picture_of(micro_batch_size: int, accumulation_steps: int, sampling: str) -> Picture:
        batches = lab.batches(micro_batch_size * accumulation_steps, sampling)
        curve = lab.curve(sampling)
        return figure.picture(batches, curve, accumulation_steps, lab.full_entry, lab.entry_variance)

    return GridExplorer(CONTROLS, picture_of)


SHARES = tuple(2.0**-i for i in range(7))


def guess_explorer(lab: VarianceLab | None = None) -> GridExplorer:
    """The reader drags the end of a line to where the variance is expected, then has the curve shown."""
    curve = (lab or VarianceLab()).curve("shuffled")
    words = ["1", *(f"1/{1 / share:.0f}" for share in SHARES[1:])]
    controls = [
        Control(
            "share", N_("Your guess at K = 16"), SHARES, 1.0, words,
            axis="xaxis", places=figure.guess_places(curve, SHARES),
        ),
        Control("shown", N_("The curve:"), (False, True), False, (N_("hidden"), N_("shown")), "choice"),
    ]  # fmt: skip
    return GridExplorer(controls, lambda share, shown: figure.guess_picture(curve, share, shown))


TARGETS = (1.5, 1.0, 0.8, 0.6, 0.5)
RATES = (None, 0.1, 0.4, 1.6)
RACE_CONTROLS = [
    Control("target", N_("Target: held-out loss"), TARGETS, 0.6, axis="yaxis"),
    Control(
        "rate",
        N_("Learning rate:"),
        RATES,
        None,
        (N_("the fastest for each B"), "0.1", "0.4", "1.6"),
        "choice",
    ),
]


class Timed(Protocol):
    """What a run returns: anything that knows the seconds it took."""

    @property
    def seconds(self) -> float: ...


Raced = TypeVar("Raced", bound=Timed)
RACE_AGAIN = N_("Stopped. Run this cell to race again; the cells below need the races.")
GO_ON = N_("Stopped. Run this cell again to go on; the cells below need the races.")


class RaceTrack(Generic[Raced]):
    """Run the races under a progress bar. An interrupt of the kernel (■) stops them.

    Args:
        run: ``run(tell)``, as ``race_all``.
        stopped: the text after a stop, marked with ``N_``.

    Attributes:
        races: what was raced; None until the races are through, and after a stop.
    """

    def __init__(
        self,
        run: Callable[[Callable[[float], None]], Raced] = race_all,  # type: ignore[assignment]
        stopped: str = RACE_AGAIN,
    ) -> None:
        self._run, self._stopped = run, stopped
        self.races: Raced | None = None
        self.bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "300px"})
        self.status = ipywidgets.HTML()
        self.widget = ipywidgets.HBox([self.bar, self.status])

    def show(self) -> "Raced | None":
        """Display the bar, race, and return what was raced; None if the reader has stopped it."""
        data = self.widget._repr_mimebundle_() or {}
        display({**data, "text/plain": _("The races run here, with a progress bar.")}, raw=True)
        return self.run()

    def run(self) -> "Raced | None":
        """Race; an interrupt ends it at once, and nothing half-done is kept."""
        self.races = None
        self._say(_("Racing … (interrupt the kernel, ■, to stop)"))
        try:
            races = self.races = self._run(self._tell)
        except KeyboardInterrupt:
            self._say(_(self._stopped))
        else:
            self._say(_("Done in {seconds:.0f} s.", seconds=races.seconds))
        return self.races

    def _tell(self, share: float) -> None:
        self.bar.value = share

    def _say(self, words: str) -> None:
        self.status.value = f"<span role='status'>{words}</span>"


def races_explorer(races: Races | None = None) -> GridExplorer:
    """Which batch size reaches a held-out loss with fewest updates, and which with fewest examples.

    Raises:
        ValueError: the races were stopped.
    """
    races = races or race_all()

    def picture_of(target: float, rate: float | None) -> Picture:
        return race_figure.picture(races.plain, to_target(races.plain, target, rate), races.noise, rate)

    return GridExplorer(RACE_CONTROLS, picture_of)
