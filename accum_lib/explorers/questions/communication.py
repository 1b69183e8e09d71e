"""What notebook 08 asks: bytes per example against K, with and without ``no_sync``; and at a fixed batch."""

import numpy as np

from accum_lib.explorers.prediction import Prediction
from accum_lib.lenses.communication import Lab

OPTIONS = ["4 and 16 times fewer", "2 and 4 times fewer", "the same", "4 and 16 times more"]
RATIOS = np.array([1 / 16, 1 / 4, 1, 16])


def bytes_in_every_pass(lab: Lab) -> Prediction:
    """How the bytes for each example change from K = 1 to 4 and 16 if every pass sends them."""
    return _bytes_per_example(
        lab,
        True,
        "communication.bytes_in_every_pass",
        f"{lab.world_size} processes, M = 32, gradients averaged in every pass (plain DDP). From K = 1 to "
        "K = 4 and K = 16, the bytes that are sent for each example are …",
    )


def bytes_in_the_last_pass(lab: Lab) -> Prediction:
    """The same if only a window's last pass sends them."""
    return _bytes_per_example(
        lab,
        False,
        "communication.bytes_in_the_last_pass",
        f"{lab.world_size} processes, M = 32, gradients averaged in the window's last pass only (no_sync "
        "before). From K = 1 to K = 4 and K = 16, the bytes that are sent for each example are …",
    )


def _bytes_per_example(lab: Lab, every_micro_batch: bool, name: str, question: str) -> Prediction:

    def answer() -> tuple[int, str]:
        found = [lab.at(k, every_micro_batch) for k in (1, 4, 16)]
        ratio = found[2].bytes_per_example / found[0].bytes_per_example
        right = int(np.abs(np.log(RATIOS / ratio)).argmin())
        said = ", ".join(f"{t.bytes_per_example / 1e3:.1f} kB at K = {t.accumulation_steps}" for t in found)
        return right, (
            f"Counted by DDP's communication hook: {said}. An update hands over "
            f"{found[0].bytes / 1e6:.2f} MB at K = 1 and {found[2].bytes / 1e6:.2f} MB at K = 16."
        )

    return Prediction(question, OPTIONS, answer, name)


def fixed_batch(lab: Lab) -> Prediction:
    """What becomes of a whole training's traffic at fixed B and as many updates, if K grows and M shrinks."""

    def answer() -> tuple[int, str]:
        one, four = lab.at(1, False), lab.at(4, False)
        ratio = four.bytes / one.bytes
        right = int(np.abs(np.log(np.array([0.25, 1, 4]) / ratio)).argmin())
        return right, (
            f"Each update averages one set of gradients, whatever K is: {one.bytes / 1e6:.2f} MB at K = 1, "
            f"{four.bytes / 1e6:.2f} MB at K = 4. As many updates, as many bytes. Only a larger batch with "
            "fewer updates sends less."
        )

    return Prediction(
        "the effective batch B and the number of updates stay. K goes from 1 to 4, M becomes a quarter. With "
        "averaging in the last pass, the whole training sends …",
        ["a quarter of the bytes", "the same bytes", "four times the bytes"],
        answer,
    )
