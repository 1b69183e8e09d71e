"""What the loops of others ask for besides: a criterion, a device, a scaler, a logger, a configuration.

Each is the plainest thing that works on any machine and leaves the updates as they are.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from accum_lib.check.case import rows_of
from accum_lib.check.loop import NAMES
from accum_lib.extras import need
from accum_lib.vectors import IGNORE_INDEX


class Loader(list[Any]):
    """An epoch of micro-batches as a list, with what loops read from a ``DataLoader``."""

    def __init__(self, batches: Sequence[Any]) -> None:
        super().__init__(batches)
        self.dataset = range(sum(rows_of(batch) for batch in batches))  # for len(loader.dataset)
        self.batch_size = rows_of(batches[0])
        self.sampler = self.batch_sampler = Quiet()
        self.drop_last, self.num_workers, self.pin_memory = False, 0, False


SECTIONS = {"train", "training", "trainer", "optim", "optimization", "solver", "hparams", "params"}


class Arguments(SimpleNamespace):
    """A configuration: ``args.accum_iter``, ``args["accum_iter"]``, ``cfg.TRAIN.ACCUMULATION_STEPS``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name.lower() not in {*vars(self), *SECTIONS}:
            raise AttributeError(
                f"the configuration that the check gives has no {name!r}: check a function around the loop "
                "that passes one of your own"
            )
        return vars(self).get(name.lower(), self)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __contains__(self, name: str) -> bool:
        return name in vars(self)

    def get(self, name: str, other: Any = None) -> Any:
        """What has this name, or the other."""
        return getattr(self, name, other)


class Quiet:
    """Takes every call and does nothing, as a logger that nobody reads; ``set_epoch`` of a sampler, too."""

    def __getattr__(self, name: str) -> "Quiet":
        if name.startswith("__"):  # copying and pickling ask for these
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> "Quiet":
        return self

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def surroundings_of(offers: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """What may be asked for by name, beside the offers that a check depends on.

    Args:
        offers: what the checker gives, such as ``accumulation_steps``; a configuration has each number of
            them, by all of its usual names.
        epoch: the number of this epoch, from 0.
    """
    device = torch.device("cpu")
    plain = {
        name: value
        for offer, value in {**offers, "device": device, "epoch": epoch}.items()
        if isinstance(value, int | float | torch.device) or offer == "max_grad_norm"
        for name in NAMES[offer]
    }
    return {
        "criterion": nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX),
        "device": device,
        "scaler": torch.amp.GradScaler("cpu", enabled=False),
        "logger": Quiet(),
        "epoch": epoch,
        "arguments": Arguments(**plain, fp16=False, bf16=False, amp=False, print_freq=1, log_interval=1),
    }


def fresh_accelerator(accumulation_steps: int = 1) -> Any:
    """A new Accelerator; its state is kept by the process, so what an earlier one left is cleared."""
    need("an Accelerator", "frameworks", "accelerate")
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return Accelerator(cpu=True, gradient_accumulation_steps=accumulation_steps)


@contextmanager
def quietly() -> Iterator[None]:
    """No banner, no advice and no warnings of the frameworks': they would drown what is said."""
    names = ("transformers", "lightning.pytorch", "lightning.fabric", "lightning")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
