"""Predicted and measured peaks of a GPU, over the tokens of a micro-batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from accum_lib.figures import theme
from accum_lib.figures.picture import Picture
from accum_lib.records.memory import GIB
from accum_lib.words import _

STEPS = 2  # K of what is drawn; a larger one changes nothing that could be seen
NAMES = ("requested", "allocated", "reserved")
LOOKS = {  # by model and precision
    ("roberta-large", "fp32"): (theme.VERMILION, "solid", "diamond"),
    ("roberta-large", "bf16"): (theme.ORANGE, "dash", "square"),
    ("roberta-base", "fp32"): (theme.BLUE, "dashdot", "circle"),
    ("roberta-base", "bf16"): (theme.SKY, "dot", "triangle-up"),
}
WIDE, TOP = (0.0, 1.0), (0.0, 0.86)


def picture(rows: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the peak of what is allocated: predictions as lines, measurements as markers.

    T = 128 and T = 512 lie on one another, for the same M T takes the same bytes.

    Args:
        rows: the cells of ``tests/gpu/memory_grid.py``; those that failed are left out.
    """
    rows = [row for row in rows if "failure" not in row]
    data = []
    for (model, precision), (colour, dash, symbol) in LOOKS.items():
        mine = {
            row["tokens"] * row["micro_batch_size"]: row
            for row in rows
            if (row["model"], row["precision"], row["accumulation_steps"]) == (model, precision, STEPS)
        }
        x = sorted(mine)
        lines, marks = ([mine[t][f"{kind}_allocated"] / GIB for t in x] for kind in ("predicted", "measured"))
        data.append(theme.line(x, lines, "", "", colour, dash))
        data.append(theme.line(x, marks, "", f"{model}, {precision}", colour, dash, "markers", symbol, 9))
    ticks = sorted({row["tokens"] * row["micro_batch_size"] for row in rows})
    layout = theme.layout(
        height=400,
        top=8,
        xaxis=theme.axis(
            _("tokens in a micro-batch, M T"), WIDE, type="log",
            tickvals=ticks, ticktext=[f"{t:,}" for t in ticks],
        ),
        yaxis=theme.axis(
            _("peak, GiB: predicted (line), measured (mark)"), TOP, type="log",
            tickvals=[2, 4, 8, 16, 32, 64], ticktext=["2", "4", "8", "16", "32", "64"],
        ),
    )  # fmt: skip
    return Picture(data, layout, summary(rows))


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many settings are right to the byte, and the largest errors, in words."""
    exact = sum(row["predicted_requested"] == row["measured_requested"] for row in rows)
    worst = [max(abs(row[f"error_{name}"]) for row in rows) for name in NAMES]
    return _(
        "{number} settings of RoBERTa. Requested bytes: {exact} predicted to the byte, the worst off by "
        "{requested:.2%}; allocated off by {allocated:.2%} at most, reserved by {reserved:.1%}.",
        number=len(rows),
        exact=exact,
        requested=worst[0],
        allocated=worst[1],
        reserved=worst[2],
    )
