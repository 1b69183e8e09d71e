"""SpeechBrain: ``Brain.fit`` with ``grad_accumulation_factor``."""

import math
from typing import Any

import no_audio  # noqa: F401
from adapter import Case, serve, windows
from speechbrain.core import Brain
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch_model import Noted, batches, window_backward


class Documented(Brain):
    def compute_forward(self, batch: Any, stage: Any) -> Any:
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        return F.cross_entropy(predictions, batch[1])


class ByWindow(Brain):
    """Mended: a window is its batch."""

    def fit_batch(self, batch: Any) -> Any:
        mean = window_backward(self.modules.model, batch)
        self.optimizers_step()
        return mean


def documented(case: Case) -> dict[str, Any]:
    return fit(case, Documented, batches(case), case["accumulation_steps"])


def mended(case: Case) -> dict[str, Any]:
    return fit(case, ByWindow, windows(batches(case), case["accumulation_steps"]), 1)


def fit(case: Case, kind: type[Brain], data: list[Any], steps: int) -> dict[str, Any]:
    noted = Noted(case)
    options = {"device": "cpu", "grad_accumulation_factor": steps, "max_grad_norm": math.inf}
    brain = kind({"model": noted.model}, lambda _: noted.optimizer, run_opts=options)
    brain.fit(range(case["epochs"]), DataLoader(data, batch_size=None), progressbar=False)
    return noted.found


serve(documented, mended)
