"""Lightning's ``Trainer`` and Lightning Fabric, as their guides on gradient accumulation have them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.accumulate import Count, LossSum, windows
from accum_lib.check.loop import Loop
from accum_lib.check.strangers import quietly
from accum_lib.exact import WindowTraining

MeanLoss = Callable[[nn.Module, Any], Tensor]


def lightning_loop(mean_loss: MeanLoss) -> Loop:
    """``Trainer(accumulate_grad_batches=K)``.

    Args:
        mean_loss: ``mean_loss(model, batch)``, the micro-batch's own mean loss.
    """

    def loop(
        model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int,
        epochs: int,
    ) -> None:  # fmt: skip
        import lightning

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def training_step(self, batch: Any, _: int) -> Tensor:
                return mean_loss(self.model, batch)

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return optimizer

        _fit(Module(), batches, max_epochs=epochs, accumulate_grad_batches=accumulation_steps)

    return loop


def exact_lightning_loop(loss_sum: LossSum, count: Count) -> Loop:
    """``accum_lib.exact.WindowTraining``, with a whole window as Lightning's batch.

    Args:
        loss_sum, count: as ``accum_lib.accumulate`` takes them.
    """

    def loop(
        model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int,
        epochs: int,
    ) -> None:  # fmt: skip
        import lightning

        class Module(WindowTraining, lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, *inputs: Any, **named: Any) -> Any:
                return self.model(*inputs, **named)

            def loss_sum(self, module: nn.Module, batch: Any) -> Tensor:
                return loss_sum(module, batch)

            def count(self, batch: Any) -> float:
                return count(batch)

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return optimizer

        _fit(Module(), list(windows(batches, accumulation_steps)), max_epochs=epochs)

    return loop


def fabric_loop(mean_loss: MeanLoss) -> Loop:
    """``fabric.no_backward_sync`` with the condition that its guide has, and like it without a division.

    Args:
        mean_loss: ``mean_loss(model, batch)``, the micro-batch's own mean loss.
    """

    def loop(
        model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int
    ) -> None:
        from lightning.fabric import Fabric

        fabric = Fabric(accelerator="cpu", devices=1)
        wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
        for i, batch in enumerate(batches):
            accumulating = i % accumulation_steps != 0
            with fabric.no_backward_sync(wrapped, enabled=accumulating):
                fabric.backward(mean_loss(wrapped, batch))
            if not accumulating:
                wrapped_optimizer.step()
                wrapped_optimizer.zero_grad()

    return loop


def fabric_window_loop(loss_sum: LossSum, count: Count) -> Loop:
    """The same with windows, and each loss sum over the window's count.

    Args:
        loss_sum, count: as ``accum_lib.accumulate`` takes them.
    """

    def loop(
        model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int
    ) -> None:
        from lightning.fabric import Fabric

        fabric = Fabric(accelerator="cpu", devices=1)
        wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
        for window in windows(batches, accumulation_steps):
            total = sum(count(batch) for batch in window)
            for i, batch in enumerate(window):
                with fabric.no_backward_sync(wrapped, enabled=i + 1 < len(window)):
                    fabric.backward(loss_sum(wrapped, batch) / total)
            wrapped_optimizer.step()
            wrapped_optimizer.zero_grad()

    return loop


def _fit(module: Any, batches: Sequence[Any], **settings: Any) -> None:
    """Train on ready batches, quietly and without files."""
    import lightning
    from torch.utils.data import DataLoader

    with quietly():
        trainer = lightning.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, **settings,
        )  # fmt: skip
        loader: Any = DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]
        trainer.fit(module, loader)
