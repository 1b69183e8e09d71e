"""MMEngine: ``OptimWrapper(accumulative_counts=K)`` in the loop of its guide, with the iterations' number."""

from typing import Any

from adapter import Case, serve, windows
from mmengine.optim import OptimWrapper
from torch.nn import functional as F
from torch_model import Noted, batches, window_backward


def documented(case: Case) -> dict[str, Any]:
    """``initialize_count_status`` tells it how many iterations there are, as MMEngine's own loops do."""
    noted, data = Noted(case), batches(case)
    wrapper = OptimWrapper(noted.optimizer, accumulative_counts=case["accumulation_steps"])
    wrapper.initialize_count_status(noted.model, 0, case["epochs"] * len(data))
    for _ in range(case["epochs"]):
        for x, y in data:
            with wrapper.optim_context(noted.model):
                loss = F.cross_entropy(noted.model(x), y)
            wrapper.update_params(loss)
    return noted.found


def mended(case: Case) -> dict[str, Any]:
    """Windows by hand: ``backward`` of each loss sum over the window's rows, then ``step``."""
    noted = Noted(case)
    wrapper = OptimWrapper(noted.optimizer)
    for _ in range(case["epochs"]):
        for window in windows(batches(case), case["accumulation_steps"]):
            window_backward(noted.model, window, wrapper.backward)
            wrapper.step()
            wrapper.zero_grad()
    return noted.found


serve(documented, mended)
