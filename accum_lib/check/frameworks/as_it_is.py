"""A Trainer that somebody has set up, as it is: on its own model, data, loss and number of steps.

What is taken away is only what hides the arithmetic: dropout, shuffling, and the files that it would write.
"""

import contextlib
import copy
import inspect
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from torch import Tensor, nn

from accum_lib.accumulate import Count
from accum_lib.check.case import Case
from accum_lib.check.loop import Loop, wishes_of
from accum_lib.check.strangers import quietly
from accum_lib.losses import check_count, count_next_tokens, count_samples, count_tokens, sum_of_mean
from accum_lib.vectors import IGNORE_INDEX
from accum_lib.words import _

Batches = Sequence[Any]
EPOCHS = 2


@dataclass(frozen=True)
class SetUp:
    """What one call of ``make_trainer`` gives, whichever framework's it is.

    Attributes:
        model: that is trained.
        batches: its training data, micro-batch after micro-batch.
        accumulation_steps: K.
        max_grad_norm: to which it clips; None if it does not.
        mean_loss: of a model and a micro-batch, as the framework computes it.
        fit: trains a model on these micro-batches for some epochs.
    """

    model: nn.Module
    batches: Callable[[], Any]
    accumulation_steps: int
    max_grad_norm: float | None
    mean_loss: Callable[[Any, Any], Tensor]
    fit: Callable[[nn.Module, Batches, int], None]


def loop_and_case(make: Callable[[], Any]) -> tuple[Loop, Case | None]:
    """The loop to check and the case to check it on; no case for a function, which takes the standard ones.

    Args:
        make: makes the same trainer each time that it is called.

    Raises:
        TypeError: it gives something else.
        ValueError: its loss is a mean of nothing that is known here.
    """
    made = _silently(make)
    if inspect.isfunction(made) or inspect.ismethod(made):
        return _with_a_loader(made), None
    first = _set_up(made)
    k = first.accumulation_steps
    batches = _silently(lambda: list(islice(first.batches(), 2 * k + 1)))  # two windows and one more
    _without_dropout(first.model)
    count = _count_of(first, batches)
    case = Case(
        name=_("its own model and first {number} micro-batches, without dropout", number=len(batches)),
        make_model=lambda: copy.deepcopy(first.model),
        batches=batches,
        accumulation_steps=k,
        loss_sum=sum_of_mean(first.mean_loss, count),
        count=count,
        epochs=EPOCHS,
        max_grad_norm=first.max_grad_norm,
    )

    def loop(model: nn.Module, batches: Batches, epochs: int) -> None:
        again = _set_up(_silently(make))
        _silently(lambda: again.fit(model, batches, epochs))

    return _placed_in(make, loop, inspect.signature(loop)), case


def _silently(work: Callable[[], Any]) -> Any:
    """What it returns; what frameworks print meanwhile is left out."""
    said = io.StringIO()
    with quietly(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return work()


def _placed_in(author: Callable[..., Any], loop: Loop, signature: inspect.Signature) -> Loop:
    """The loop with this signature; its lines are those of the author's file."""
    described: Any = loop
    described.__signature__, described.__wrapped__ = signature, author
    return loop


def _with_a_loader(author: Loop) -> Loop:
    """An Accelerate loop prepares a ``DataLoader``, and knows by that where an epoch ends."""
    name = next((name for name, offer in wishes_of(author).items() if offer == "batches"), "")

    def loop(*given: Any, **named: Any) -> Any:
        from torch.utils.data import DataLoader

        if name in named:
            named[name] = DataLoader(list(named[name]), batch_size=None)  # type: ignore[arg-type]
        return author(*given, **named)

    return _placed_in(author, loop, inspect.signature(author))


def _set_up(made: Any) -> SetUp:
    several = list(made) if isinstance(made, tuple | list) else [made]
    kinds = {base.__name__ for one in several for base in type(one).__mro__}
    if "LightningModule" in kinds and "Trainer" in kinds:
        return _of_lightning(several)
    if len(several) == 1 and "Trainer" in kinds and hasattr(made, "args"):
        return _of_transformers(made)
    raise TypeError(
        _(
            "make_trainer must return a Transformers Trainer, a pair of a Lightning module and its Trainer "
            "(and perhaps its training batches), or a function, the loop; it returned {made:.60}",
            made=repr(made),
        )
    )


def _of_transformers(trainer: Any) -> SetUp:
    from torch.utils.data import SequentialSampler

    arguments = trainer.args

    def fit(model: nn.Module, batches: Batches, epochs: int) -> None:
        trainer.model = trainer.model_wrapped = model
        for name, value in dict(
            num_train_epochs=epochs, max_steps=-1, per_device_train_batch_size=1, remove_unused_columns=False,
            save_strategy="no", eval_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
            load_best_model_at_end=False, dataloader_num_workers=0, dataloader_drop_last=False,
        ).items():  # fmt: skip
            object.__setattr__(arguments, name, value)
        trainer.train_dataset, trainer.data_collator = list(batches), lambda items: items[0]
        trainer._train_batch_size = 1
        trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
        with tempfile.TemporaryDirectory() as folder:
            object.__setattr__(arguments, "output_dir", folder)
            trainer.train()

    def mean_loss(model: Any, batch: Any) -> Tensor:
        given = dict(batch)
        number = None if trainer.compute_loss_func is None else (given["labels"] != IGNORE_INDEX).sum()
        return trainer.compute_loss(model, given, num_items_in_batch=number)

    return SetUp(
        trainer.model,
        lambda: iter(trainer.get_train_dataloader()),
        arguments.gradient_accumulation_steps,
        arguments.max_grad_norm or None,
        mean_loss,
        fit,
    )


def _of_lightning(made: list[Any]) -> SetUp:
    names = [{base.__name__ for base in type(one).__mro__} for one in made]
    module = next(one for one, kinds in zip(made, names, strict=True) if "LightningModule" in kinds)
    trainer = next(one for one, kinds in zip(made, names, strict=True) if "Trainer" in kinds)
    others = [one for one in made if one is not module and one is not trainer]
    if not module.automatic_optimization:
        raise ValueError(
            _(
                "the Lightning module steps by itself (automatic_optimization is False), so its "
                "training_step is a loop, and gives no loss to compare with: check a function that does what "
                "it does"
            )
        )
    source = others[0] if others else module

    def batches() -> Any:
        if not hasattr(source, "train_dataloader"):
            return iter(source)
        if source is not module:
            source.setup("fit")
        return iter(source.train_dataloader())

    def mean_loss(model: Any, batch: Any) -> Tensor:
        with quietly():  # it logs, and there is no trainer
            answer = model.training_step(batch, 0)
        return answer["loss"] if isinstance(answer, dict) else answer

    def fit(model: nn.Module, batches: Batches, epochs: int) -> None:
        from torch.utils.data import DataLoader

        trainer.fit_loop.max_epochs, trainer.limit_val_batches = epochs, 0
        trainer.fit_loop.epoch_loop.max_steps, trainer.logger = -1, None
        trainer.callbacks = [one for one in trainer.callbacks if "Checkpoint" not in type(one).__name__]
        loader: Any = DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]
        trainer.fit(model, loader)

    clip = trainer.gradient_clip_val if trainer.gradient_clip_algorithm != "value" else None
    return SetUp(module, batches, trainer.accumulate_grad_batches, clip or None, mean_loss, fit)


def _without_dropout(model: nn.Module) -> None:
    """Set every probability of dropout to 0, in modules and in what attention reads."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and (
                (name == "p" and "Drop" in type(module).__name__) or "drop" in name
            ):
                setattr(module, name, 0.0)


def _count_of(made: SetUp, batches: Batches) -> Count:
    """What the loss is a mean over: the first one that fits."""
    for count in (count_samples, count_tokens, count_next_tokens):
        with contextlib.suppress(ValueError, IndexError, TypeError):
            _silently(partial(check_count, made.model, made.mean_loss, count, batches))
            return count
    raise ValueError(
        _(
            "the loss is no mean over samples, labels that are not -100, or next tokens: write a Case with "
            "your loss as a sum and its count, and check a loop around the trainer with --case"
        )
    )
