"""A training run: its loss for each update, and what was held out."""

from collections.abc import Sequence

import numpy as np

from accum_lib.figures import theme
from accum_lib.figures.picture import Picture
from accum_lib.records.training import Evaluation, Update
from accum_lib.words import _

LEFT, RIGHT = (0.0, 0.44), (0.56, 1.0)
TOP = (0.0, 0.84)


def picture(updates: Sequence[Update], evaluations: Sequence[Evaluation], majority: float) -> Picture:
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
    return Picture(data, layout, summary(updates, evaluations, majority))


def summary(updates: Sequence[Update], evaluations: Sequence[Evaluation], majority: float) -> str:
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
