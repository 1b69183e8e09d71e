"""The Transformers ``Trainer``, on micro-batches that are already collated."""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from accum_lib.check.loop import Loop

LossFunction = Callable[[Any, torch.Tensor, Any], torch.Tensor]


def trainer_loop(make_loss: Callable[[nn.Module], LossFunction] | None = None) -> Loop:
    """A loop that hands everything to ``Trainer.train()``.

    Args:
        make_loss: makes the Trainer's ``compute_loss_func`` for the model: ``accum_lib.exact.trainer_loss``.
            None takes the model's own loss, as the Trainer does by default.
    """

    def loop(
        model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int,
        epochs: int, scheduler: Any,
    ) -> None:  # fmt: skip
        from torch.utils.data import SequentialSampler
        from transformers import Trainer, TrainingArguments
        from transformers.trainer_callback import PrinterCallback

        class InOrder(Trainer):
            def _get_train_sampler(self, *_: Any) -> SequentialSampler:
                return SequentialSampler(batches)

        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder, per_device_train_batch_size=1, num_train_epochs=epochs,
                gradient_accumulation_steps=accumulation_steps, max_grad_norm=0.0, use_cpu=True,
                save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
                dataloader_pin_memory=False, remove_unused_columns=False,
            )  # fmt: skip
            trainer = InOrder(
                model=model, args=arguments, train_dataset=list(batches),
                data_collator=lambda items: items[0], optimizers=(optimizer, scheduler),
                compute_loss_func=make_loss(model) if make_loss else None,
            )  # fmt: skip
            trainer.remove_callback(PrinterCallback)
            trainer.train()

    return loop
