"""Loss curves of one B cut in several ways, and how far they are apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.roberta.record import FixedBatch
from accum_lib.machine import GIB
from accum_lib.training.records import Evaluation, UpdateRecord
from accum_lib.words import _, listed

LEFT, RIGHT = (0.0, 0.44), (0.56, 1.0)
TOP = (0.0, 0.84)
FLOOR, CEILING = 1e-7, 3.0  # of the axis of differences: losses in float32 hardly differ by less but by 0


def picture(runs: FixedBatch, steps: int) -> Picture:
    """Draw the run with ``steps`` = K beside that of one big batch.

    Args:
        runs: of one problem.
        steps: one of its K's.
    """
    at = runs.steps.index(steps)
    updates = np.arange(1, runs.losses.shape[1] + 1)
    big, chosen = runs.losses[0], runs.losses[at]
    data = [
        theme.line(
            updates, big, "", _("one big batch, K = 1"), theme.BLACK, "solid", "markers", "circle-open", 11
        ),
        theme.line(updates, runs.again, "", _("once more, K = 1"), theme.GREY, "dot"),
        theme.line(updates, chosen, "", _("accumulated, this K"), theme.BLUE, "solid", "lines+markers"),
        _apart(updates, runs.again, big, "", theme.GREY, "dot", "circle"),
        _apart(updates, chosen, big, "", theme.BLUE, "solid", "circle"),
    ]
    high, low = max(big.max(), runs.losses.max()), min(big.min(), runs.losses.min())
    margin = 0.1 * (high - low)
    ends = [0, len(updates) + 1]
    layout = theme.layout(
        height=400,
        top=8,
        xaxis=theme.axis(_("optimizer updates"), LEFT, range=ends),
        yaxis=theme.axis(
            _("mean loss of the window"), TOP, range=[float(low - margin), float(high + margin)]
        ),
        xaxis2=theme.axis(_("optimizer updates"), RIGHT, anchor="y2", range=ends),
        yaxis2=theme.axis(
            _("loss, apart from K = 1"), TOP, anchor="x2", type="log", exponentformat="power", dtick=2,
            range=[float(np.log10(FLOOR)) - 0.3, float(np.log10(CEILING))],
        ),
    )  # fmt: skip
    return Picture(data, layout, summary(runs, steps))


def summary(runs: FixedBatch, steps: int) -> str:
    """The comparison in words, with its numbers."""
    at = runs.steps.index(steps)
    m = runs.batch_size // steps
    apart = float(np.abs(runs.losses[at] - runs.losses[0]).max())
    what = _(
        "{name} ({parameters:,} weights), B = {b}: M = {m}, K = {steps}.",
        name=_(runs.name),
        parameters=runs.parameters,
        b=runs.batch_size,
        m=m,
        steps=steps,
    )
    if steps == 1:
        return _("{what} This is the one big batch itself; move K.", what=what)
    end = _(
        "the final weights differ by {distance:.1g} of the way that they went", distance=runs.distances[at]
    )
    if runs.distance_again > 0:
        return _(
            "{what} Dropout draws other masks in each pass: losses are up to {apart:.1g} apart, {end}. One "
            "big batch trained once more with other masks ends {distance_again:.1g} apart from itself.",
            what=what,
            apart=apart,
            end=end,
            distance_again=runs.distance_again,
        )
    if runs.batch_norm:
        return _(
            "{what} BatchNorm sees M examples, not B: losses are up to {apart:.1g} apart, {end}.",
            what=what,
            apart=apart,
            end=end,
        )
    return _(
        "{what} Its losses are never further than {apart:.1g} from the big batch's; {end}.",
        what=what,
        apart=apart,
        end=end,
    )


def _apart(
    x: np.ndarray, y: np.ndarray, other: np.ndarray, name: str, colour: str, dash: str, symbol: str
) -> dict[str, Any]:
    difference = np.clip(np.abs(y - other), FLOOR, None)
    return theme.line(x, difference, "2", name, colour, dash, "lines+markers", symbol, 6)


def training_picture(
    updates: Sequence[UpdateRecord], evaluations: Sequence[Evaluation], majority: float
) -> Picture:
    """Loss against updates; held-out accuracy beside what the most frequent label would reach.

    Args:
        updates: of the run.
        evaluations: at least one.
        majority: the share of the most frequent label in the held-out data.
    """
    steps = [u.update for u in updates]
    losses = [u.loss for u in updates]
    measured = [e.update for e in evaluations]
    ends = [0, steps[-1] * 1.02]
    held_out = [e.loss for e in evaluations]
    accuracy = [100 * e.accuracy for e in evaluations]
    data = [
        theme.line(steps, losses, "", _("training, a window's mean"), theme.BLUE, "solid"),
        theme.line(
            measured, held_out, "", _("held out"), theme.ORANGE, "solid", "lines+markers", "diamond", 10
        ),
        theme.line(
            measured, accuracy, "2", _("right answers"), theme.GREEN, "solid", "lines+markers", "square", 10
        ),
        theme.line(ends, np.full(2, 100 * majority), "2", _("most frequent label alone"), theme.GREY, "dash"),
    ]
    layout = theme.layout(
        height=360,
        top=8,
        xaxis=theme.axis(_("optimizer updates"), LEFT, range=ends),
        yaxis=theme.axis(_("loss, nats"), TOP, range=[0, 1.1 * max(losses)]),
        xaxis2=theme.axis(_("optimizer updates"), RIGHT, anchor="y2", range=ends),
        yaxis2=theme.axis(_("held-out accuracy, %"), TOP, anchor="x2", range=[0, 100]),
    )
    return Picture(data, layout, training_summary(updates, evaluations, majority))


def training_summary(
    updates: Sequence[UpdateRecord], evaluations: Sequence[Evaluation], majority: float
) -> str:
    """The run in words."""
    first, last, end = updates[0], updates[-1], evaluations[-1]
    return _(
        "{update} updates, M = {m}, K = {k}: the loss went from {first:.2f} to {last:.2f}. Held out: "
        "{accuracy:.0%} of {count} are right; the most frequent label alone would be right in "
        "{majority:.0%}.",
        update=last.update,
        m=first.micro_batch_size,
        k=first.accumulation_steps,
        first=first.loss,
        last=last.loss,
        accuracy=end.accuracy,
        count=end.count,
        majority=majority,
    )


THROUGHPUT_TOP = (0.0, 0.82)
LOOKS = (
    (theme.BLUE, "solid", "circle"),
    (theme.ORANGE, "dash", "square"),
    (theme.GREEN, "dot", "diamond"),
    (theme.VERMILION, "dashdot", "x"),
)


def throughput_picture(rows: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the rows of one model, precision and B, as ``benchmarks/gpu/roberta_lab.py`` writes them.

    Args:
        rows: with "loop", "accumulation_steps", "samples_per_second" and "peak_bytes" (None on a CPU); of
            four loops at most.

    Raises:
        ValueError: there are more loops than looks to tell them apart.
    """
    loops = list(dict.fromkeys(row["loop"] for row in rows))
    if len(loops) > len(LOOKS):
        raise ValueError(f"{len(loops)} loops are too many for one picture, which has {len(LOOKS)} looks")
    data = []
    for loop, (colour, dash, symbol) in zip(loops, LOOKS, strict=False):
        mine = sorted((r for r in rows if r["loop"] == loop), key=lambda r: r["accumulation_steps"])
        steps = [r["accumulation_steps"] for r in mine]
        look = (colour, dash, "lines+markers", symbol)
        data.append(theme.line(steps, [r["samples_per_second"] for r in mine], "", loop, *look))
        data.append(theme.line(steps, [(r["peak_bytes"] or 0) / GIB for r in mine], "2", "", *look))
    fastest = max(r["samples_per_second"] for r in rows)
    steps = sorted({r["accumulation_steps"] for r in rows})
    ticks = {"type": "log", "tickvals": steps, "ticktext": [str(k) for k in steps]}
    layout = theme.layout(
        height=360,
        top=8,
        xaxis=theme.axis(_("accumulation steps K, at fixed B"), LEFT, **ticks),
        yaxis=theme.axis(_("samples per second"), THROUGHPUT_TOP, range=[0, 1.2 * fastest]),
        xaxis2=theme.axis(_("accumulation steps K, at fixed B"), RIGHT, anchor="y2", **ticks),
        yaxis2=theme.axis(
            _("peak memory, GiB"), THROUGHPUT_TOP, anchor="x2",
            range=[0, 1.2 * max((r["peak_bytes"] or 0) for r in rows) / GIB or 1.0],
        ),
    )  # fmt: skip
    return Picture(data, layout, throughput_summary(rows))


def throughput_summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The fastest setting of each loop, in words."""
    first = rows[0]
    batch = first["micro_batch_size"] * first["accumulation_steps"]
    best: dict[str, str] = {}  # the fastest loop first
    for row in sorted(rows, key=lambda r: -r["samples_per_second"]):
        if row["loop"] not in best:
            best[row["loop"]] = (
                f"{row['loop']} {row['samples_per_second']:.0f} (K = {row['accumulation_steps']})"
            )
    what = f"{first['model']}, {first['precision']}, T = {first['tokens']}, B = {batch}"
    return _("{what}: most samples per second: {best}.", what=what, best=listed(list(best.values())))
