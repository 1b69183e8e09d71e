"""The explorers of notebook 08: what was measured between processes here, and what is predicted elsewhere."""

from accum_lib.lessons.distributed import figure
from accum_lib.lessons.distributed.measure import STEPS, Lab, measure_here
from accum_lib.lessons.distributed.networks import predict_times
from accum_lib.lessons.distributed.record import Network, ProcessWork
from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
from accum_lib.machine import ROBERTA_BASE_PARAMETERS
from accum_lib.words import N_, _

AVERAGING = Control(
    "every_micro_batch", N_("Averages are taken:"), (False, True), False,
    (N_("in the last pass (no_sync before)"), N_("in every pass")), "choice",
)  # fmt: skip
BANDWIDTHS = (1, 10, 100, 400)  # Gbit/s
LATENCY = 20e-6  # seconds, assumed: a switched network's order of magnitude
PARAMETERS = {"RoBERTa-base (125 M)": ROBERTA_BASE_PARAMETERS, N_("7 billion"): 7_000_000_000}
PREDICTED_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
BACKWARD = 2 / 3  # of a pass, if a backward pass takes twice as long as a forward pass
FORECAST_CONTROLS = [
    Control("gigabits", N_("Bandwidth, Gbit/s"), BANDWIDTHS, 10),
    Control("world_size", N_("Processes W"), (2, 8, 64, 512), 8),
    Control("pass_seconds", N_("One pass takes, s"), (0.03, 0.1, 0.3, 1.0), 0.1),
    Control("model", N_("Gradients, float32:"), tuple(PARAMETERS), "RoBERTa-base (125 M)", None, "choice"),
    Control(
        "hidden",
        N_("Overlap:"),
        (0.0, BACKWARD),
        BACKWARD,
        (N_("none"), N_("the whole backward pass")),
        "choice",
    ),
]


def traffic_explorer(lab: Lab | None = None) -> GridExplorer:
    """One update as it was measured here, K and the way of averaging; and all of them beside each other."""
    found = lab or measure_here()

    def picture_of(accumulation_steps: int, every_micro_batch: bool) -> Picture:
        chosen = found.at(accumulation_steps, every_micro_batch)
        return figure.traffic_picture(chosen, found.traffic)

    steps = Control("accumulation_steps", N_("Accumulation steps K"), STEPS, 4)
    return GridExplorer([steps, AVERAGING], picture_of)


def forecast_explorer() -> GridExplorer:
    """Seconds per example on networks and with numbers of processes that are not here. A prediction."""

    def picture_of(
        gigabits: float, world_size: int, pass_seconds: float, model: str, hidden: float
    ) -> Picture:
        network = Network(LATENCY, gigabits * 1e9 / 8)
        workload = ProcessWork(4.0 * PARAMETERS[model], 32, pass_seconds, 0.0, hidden=hidden)
        words = _(
            "{model}, {processes} processes, {gigabits} Gbit/s, M = 32 in {pass_seconds:g} s.",
            model=_(model),
            processes=world_size,
            gigabits=gigabits,
            pass_seconds=pass_seconds,
        )
        return figure.forecast_picture(predict_times(workload, network, world_size, PREDICTED_STEPS), words)

    return GridExplorer(FORECAST_CONTROLS, picture_of)
