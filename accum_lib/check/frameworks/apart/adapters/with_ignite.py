"""PyTorch Ignite: ``create_supervised_trainer(..., gradient_accumulation_steps=K)``."""

from typing import Any

from adapter import Case, serve, windows
from ignite.engine import Engine, create_supervised_trainer
from torch.nn import functional as F
from torch_model import Noted, batches, window_backward


def documented(case: Case) -> dict[str, Any]:
    noted = Noted(case)
    trainer = create_supervised_trainer(
        noted.model, noted.optimizer, F.cross_entropy, gradient_accumulation_steps=case["accumulation_steps"]
    )
    trainer.run(batches(case), max_epochs=case["epochs"])
    return noted.found


def mended(case: Case) -> dict[str, Any]:
    """A window is the engine's batch; the process function adds its parts up."""
    noted = Noted(case)

    def update(engine: Engine, window: list[Any]) -> None:
        noted.model.train()
        noted.optimizer.zero_grad()
        window_backward(noted.model, window)
        noted.optimizer.step()

    Engine(update).run(windows(batches(case), case["accumulation_steps"]), max_epochs=case["epochs"])
    return noted.found


serve(documented, mended)
