"""Two published claims: the final held-out loss against the batch size, for three recipes each."""

from typing import Any

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.variance.race_figure import HIGHEST, STYLES, loss_axis, strokes
from accum_lib.lessons.variance.record import Race
from accum_lib.words import _, listed


def picture(recipes: dict[str, tuple[Race, ...]], rate: int | None) -> Picture:
    """Draw the final held-out loss against B for three recipes; strokes show the spread of the seeds.

    Args:
        recipes: for each recipe, in words, a race for each batch size.
        rate: which of each race's rates; None: the one that is best at the end.
    """
    data: list[dict[str, Any]] = []
    for (name, races), (colour, dash, symbol) in zip(recipes.items(), STYLES[1:], strict=False):
        sizes = [race.batch_size for race in races]
        ends = [_end(race, rate) for race in races]
        data.append(strokes(sizes, ends, "", colour))
        means = [float(e.mean()) for e in ends]
        data.append(theme.line(sizes, means, "", _(name), colour, dash, "lines+markers", symbol, 9))
    ticks = sorted({race.batch_size for races in recipes.values() for race in races})
    examples = next(iter(recipes.values()))[-1].examples[-1]
    layout = theme.layout(
        height=330,
        top=8,
        xaxis=theme.axis(_("effective batch size B, examples"), (0.0, 1.0), type="log",
                         range=[float(np.log10(ticks[0])) - 0.1, float(np.log10(ticks[-1])) + 0.1],
                         tickvals=ticks, ticktext=[str(t) for t in ticks]),
        yaxis=loss_axis((0.0, 0.84), "x"),
    )  # fmt: skip
    return Picture(data, layout, summary(recipes, rate, int(examples)))


def summary(recipes: dict[str, tuple[Race, ...]], rate: int | None, examples: int) -> str:
    """The final losses in words."""
    words = []
    for name, races in recipes.items():
        ends = listed([_("{loss:.2f} at B = {b}", loss=_end(r, rate).mean(), b=r.batch_size) for r in races])
        words.append(_("{name}: {ends}", name=_(name), ends=ends))
    at = _("each at its best rate, ") if rate is None else ""
    return _(
        "Held-out loss after about {examples:,} examples, {at}mean of the seeds. {recipes}.",
        examples=examples,
        at=at,
        recipes=_(". ").join(words),
    )


def _end(race: Race, rate: int | None) -> np.ndarray:
    """The final losses of the seeds, at one rate or at the best."""
    return np.minimum(race.losses[-1, race.best if rate is None else rate], HIGHEST)
