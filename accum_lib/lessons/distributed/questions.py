"""What notebook 08 asks: bytes per example against K, with and without ``no_sync``; and at a fixed batch."""

from collections.abc import Sequence

import numpy as np

from accum_lib.lessons.distributed.measure import Lab
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.words import N_, _, listed

OPTIONS = [N_("4 and 16 times fewer"), N_("2 and 4 times fewer"), N_("the same"), N_("4 and 16 times more")]
RATIOS = np.array([1 / 16, 1 / 4, 1, 16])


def bytes_in_every_pass(lab: Lab) -> Quiz:
    """How the bytes for each example change from K = 1 to 4 and 16 if every pass sends them."""
    return _bytes_per_example(
        lab,
        True,
        "communication.bytes_in_every_pass",
        _(
            "{processes} processes, M = 32, gradients averaged in every pass (plain DDP). From K = 1 to "
            "K = 4 and K = 16, the bytes that are sent for each example are …",
            processes=lab.world_size,
        ),
        (
            _("That is what no_sync gives. Here every pass sends its gradients, for its M examples."),
            _("No root here: a pass sends one set of gradients for M examples, whatever K is."),
            "",
            _("Per update, yes: K passes send K times as much. But the update has K times as many examples."),
        ),
    )


def bytes_in_the_last_pass(lab: Lab) -> Quiz:
    """The same if only a window's last pass sends them."""
    return _bytes_per_example(
        lab,
        False,
        "communication.bytes_in_the_last_pass",
        _(
            "{processes} processes, M = 32, gradients averaged in the window's last pass only (no_sync "
            "before). From K = 1 to K = 4 and K = 16, the bytes that are sent for each example are …",
            processes=lab.world_size,
        ),
        (
            "",
            _("No root here: K times as many examples share one set of gradients."),
            _("That is plain DDP, which sends in every pass."),
            _("An update sends as much as with K = 1, and it has K times as many examples."),
        ),
    )


def _bytes_per_example(
    lab: Lab, every_micro_batch: bool, name: str, question: str, reasons: Sequence[str]
) -> Quiz:
    def answer() -> tuple[int, str]:
        found = [lab.at(k, every_micro_batch) for k in (1, 4, 16)]
        ratio = found[2].bytes_per_example / found[0].bytes_per_example
        right = int(np.abs(np.log(RATIOS / ratio)).argmin())
        said = listed(
            [
                _(
                    "{kilobytes:.1f} kB at K = {k}",
                    kilobytes=t.bytes_per_example / 1e3,
                    k=t.accumulation_steps,
                )
                for t in found
            ]
        )
        return right, (
            _(
                "Counted by DDP's communication hook: {said}. An update hands over {one:.2f} MB at K = 1 "
                "and {sixteen:.2f} MB at K = 16.",
                said=said,
                one=found[0].bytes / 1e6,
                sixteen=found[2].bytes / 1e6,
            )
        )

    return Quiz(question, dict(zip(map(_, OPTIONS), reasons, strict=True)), answer, name)


def fixed_batch(lab: Lab) -> Quiz:
    """What becomes of a whole training's traffic at fixed B and as many updates, if K grows and M shrinks."""

    def answer() -> tuple[int, str]:
        one, four = lab.at(1, False), lab.at(4, False)
        ratio = four.bytes / one.bytes
        right = int(np.abs(np.log(np.array([0.25, 1, 4]) / ratio)).argmin())
        return right, (
            _(
                "Each update averages one set of gradients, whatever K is: {one:.2f} MB at K = 1, "
                "{four:.2f} MB at K = 4. As many updates, as many bytes. Only a larger batch with fewer "
                "updates sends less.",
                one=one.bytes / 1e6,
                four=four.bytes / 1e6,
            )
        )

    return Quiz(
        _(
            "the effective batch B and the number of updates stay. K goes from 1 to 4, M becomes a quarter. "
            "With averaging in the last pass, the whole training sends …"
        ),
        {
            _("a quarter of the bytes"): _(
                "An update has as many examples as before, and there are as many updates."
            ),
            _("the same bytes"): "",
            _("four times the bytes"): _(
                "Averaging in every pass would send that. Here all passes but the last send nothing."
            ),
        },
        answer,
        name="communication.fixed_batch",
    )
