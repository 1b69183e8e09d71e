"""What makes three frameworks exact: their own loop, with each loss sum over the whole window's count.

    Trainer(model, args, compute_loss_func=trainer_loss(model), ...)        # Transformers
    for result in accelerate_updates(accelerator, model, ...): ...          # Accelerate
    class Mine(WindowTraining, lightning.LightningModule): ...              # Lightning

Each leaves the gradient that one big batch gives: with ragged batches, in a short last window, over several
processes with uneven shards. ``accum scoreboard`` measures the frameworks with and without them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import Count, LossSum, WindowResult, accumulate, apply_update, windows
from accum_lib.distributed import DistributedRanks
from accum_lib.extras import need
from accum_lib.ranks import ALONE
from accum_lib.vectors import IGNORE_INDEX

# With this Transformers it was seen that the Trainer counts a causal model's labels shifted.
COUNTS_SHIFTED = (5, 23)
# What a class's name does not say, as measured (docs/heads.md): whether its loss shifts labels.
AS_THEY_ARE = frozenset({
    "BartForCausalLM", "BigBirdPegasusForCausalLM", "BlenderbotForCausalLM", "BlenderbotSmallForCausalLM",
    "CpmAntForCausalLM", "FlaubertWithLMHeadModel", "MBartForCausalLM", "MarianForCausalLM",
    "MvpForCausalLM", "PLBartForCausalLM", "PegasusForCausalLM", "TrOCRForCausalLM", "WhisperForCausalLM",
    "XLMWithLMHeadModel", "XLNetLMHeadModel",
})  # fmt: skip
SHIFTED = frozenset({
    "BertGenerationDecoder", "EvollaForProteinText2Text", "GPT2DoubleHeadsModel",
    "IdeficsForVisionText2Text", "ImageGPTForCausalImageModeling", "NemotronH_Omni_Reasoning_V3",
    "OpenAIGPTDoubleHeadsModel", "ReformerModelWithLMHead",
})  # fmt: skip
NOT_EXACT = (  # endings of names whose loss is another one than their logits tell
    "ForXVector",
    "ProphetNetForCausalLM",
    "ProphetNetForConditionalGeneration",
)


def trainer_loss(model: nn.Module) -> Callable[..., Tensor]:
    """The Trainer's ``compute_loss_func`` for this model: a sum over what the Trainer counted per window.

    Make it before the Trainer, of the same model: a causal model is told that its loss shifts labels, so that
    the Trainer counts them shifted. Losses that a head adds (of a router, say) are left out. Over several
    processes leave ``average_tokens_across_devices`` on, and let ``evened`` fill up a data set that does not
    divide: the Trainer repeats examples to do so.

    Args:
        model: a head of Transformers that takes ``labels``, and has logits for each.

    Raises:
        ImportError: Transformers is missing, or older than the one with which a causal model was exact.
    """
    need("accum_lib.exact.trainer_loss", "train", "transformers")
    name, config = type(model).__name__, getattr(model, "config", None)
    if name.endswith(NOT_EXACT):
        raise ValueError(
            f"{name} has another loss than its logits tell, so trainer_loss is not exact with it"
        )
    shifts = _is_causal(name) and not getattr(config, "is_encoder_decoder", False)
    if shifts or name in AS_THEY_ARE:
        _check_version(name)
        counted_as = "ForCausalLM" if shifts else "ForMaskedLM"  # all that the Trainer looks at
        setattr(model, "loss_type", counted_as)  # noqa: B010, a module's type has no such attribute
    problem = getattr(config, "problem_type", None)

    def loss(outputs: Any, labels: Tensor | None, num_items_in_batch: Any = None) -> Tensor:
        if labels is None or num_items_in_batch is None:
            raise ValueError(
                f"the Trainer counted no labels for {name}: trainer_loss is for heads that take 'labels'; "
                "with a head that takes other targets use accum_lib.accumulate"
            )
        if torch.is_tensor(num_items_in_batch) and num_items_in_batch.ndim:
            raise ValueError(
                "the Trainer splits each batch over several GPUs of one process, where trainer_loss is not "
                "exact: start a process for each with torchrun"
            )
        logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
        if not torch.is_tensor(logits):
            raise ValueError(
                f"{name} gives no logits, so trainer_loss is not exact with it: write its loss sum"
            )
        return _summed(logits, labels, shifts, problem, name) / num_items_in_batch

    return loss


def _is_causal(name: str) -> bool:
    plain = name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))
    return name in SHIFTED or (plain and name not in AS_THEY_ARE)


def _check_version(name: str) -> None:
    import transformers

    there = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if there < COUNTS_SHIFTED:
        oldest = ".".join(map(str, COUNTS_SHIFTED))
        raise ImportError(
            f"trainer_loss is not known to be exact for {name} with transformers {transformers.__version__}, "
            f"whose Trainer may count labels unshifted: it needs {oldest} or newer"
        )


def _summed(logits: Tensor, labels: Tensor, shifts: bool, problem: str | None, name: str) -> Tensor:
    """The summed loss of labels that fit the logits, in float32 or wider."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if labels.is_floating_point():
        if logits.ndim == labels.ndim + 1 and logits.shape[-1] == 1:
            logits = logits.squeeze(-1)
        if logits.shape == labels.shape and problem in ("regression", "multi_label_classification"):
            if problem == "regression":
                return F.mse_loss(logits, labels.to(logits), reduction="sum")
            return F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="sum")
    elif logits.shape[:-1] == labels.shape:
        if shifts:
            logits, labels = logits[:, :-1], labels[:, 1:]
        return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
    raise ValueError(
        f"{name} has logits of shape {tuple(logits.shape)} for labels of shape {tuple(labels.shape)} "
        f"({labels.dtype}, problem_type {problem!r}), so trainer_loss is not exact: write its loss sum"
    )


def evened(examples: Sequence[Any], multiple: int) -> list[Any]:
    """The examples, and copies of the last one in which no label counts, up to a multiple.

    Args:
        examples: mappings with ``labels`` of whole numbers; ready micro-batches, too.
        multiple: the number of processes times M.
    """
    last = dict(examples[-1])
    last["labels"] = torch.full_like(torch.as_tensor(last["labels"]), IGNORE_INDEX)
    return [*examples, *[last] * (-len(examples) % multiple)]


def accelerate_updates(
    accelerator: Any,
    model: Any,
    optimizer: Any,
    batches: Iterable[Any],
    accumulation_steps: int,
    loss_sum: LossSum,
    count: Count,
    *,
    max_grad_norm: float | None = None,
    scheduler: Any = None,
) -> Iterator[WindowResult]:
    """Accelerate: one optimizer update for each window of this process's micro-batches, and what it was.

    Args:
        accelerator: with ``gradient_accumulation_steps`` 1, since K is given here.
        model, optimizer: as ``accelerator.prepare`` returns them.
        batches: of this process; there may be fewer than elsewhere.
        accumulation_steps: K of each process.
        loss_sum, count, max_grad_norm: as ``accum_lib.accumulate`` has them.
        scheduler: not prepared: it is advanced once for each update.

    Raises:
        ValueError: Accelerate divides by a K of its own, or repeats examples so that shards are even.
    """
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"the Accelerator has gradient_accumulation_steps={accelerator.gradient_accumulation_steps}, "
            "with which accelerate_updates is not exact: leave it out, K is an argument here"
        )
    several = accelerator.num_processes > 1
    if several and accelerator.even_batches and hasattr(batches, "rng_types"):  # a loader that was prepared
        raise ValueError(
            "the prepared loader repeats examples where shards are uneven: give the Accelerator "
            "dataloader_config=DataLoaderConfiguration(even_batches=False)"
        )
    ranks = DistributedRanks(model) if several else ALONE
    grouped = ranks.windows if isinstance(ranks, DistributedRanks) else windows
    for window in grouped(batches, accumulation_steps):
        result = accumulate(model, window, loss_sum, count, scaler=accelerator.scaler, ranks=ranks)
        plain = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper unscales and skips, too
        apply_update(
            model, plain, max_grad_norm=max_grad_norm, scheduler=scheduler, loss=result.loss,
            scaler=accelerator.scaler,
        )  # fmt: skip
        yield result


class WindowTraining:
    """A mixin before ``LightningModule``: Lightning's batch is a whole window, and its update is exact.

    Give ``loss_sum(model, batch)`` and ``count(batch)`` as methods, in place of ``training_step``, and a
    loader of windows: ``DataLoader(data, batch_size=M * K, collate_fn=in_micro_batches(M))``.
    ``max_grad_norm`` stands for Lightning's ``gradient_clip_val``.

    Raises:
        ValueError: in training: float16 with a loss scale.
    """

    max_grad_norm: float | None = None
    automatic_optimization = False
    loss_sum: Callable[[Any, Any], Tensor]
    count: Count

    def training_step(self, window: Sequence[Any], _: int) -> None:
        """One update; a scheduler is advanced with it."""
        this: Any = self
        if getattr(this.trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                "WindowTraining is not exact with precision='16-mixed': take 'bf16-mixed' or '32'"
            )
        wrapped = this.trainer.strategy.model
        several = this.trainer.world_size > 1
        ranks = DistributedRanks(wrapped) if several else ALONE
        result = accumulate(wrapped if several else self, window, this.loss_sum, this.count, ranks=ranks)  # type: ignore[arg-type]
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(this.parameters(), self.max_grad_norm)
        optimizer = this.optimizers()
        optimizer.step()
        optimizer.zero_grad()
        found = this.lr_schedulers()
        for scheduler in found if isinstance(found, list) else [found] if found else []:
            scheduler.step()
        this.log("train_loss", result.loss, prog_bar=True)


def in_micro_batches(
    micro_batch_size: int, collate: Callable[[list[Any]], Any] | None = None
) -> Callable[[list[Any]], list[Any]]:
    """A ``collate_fn``: of the examples of one update, a window of micro-batches of M, the last shorter.

    Args:
        micro_batch_size: M.
        collate: makes a micro-batch of M examples; None takes PyTorch's own.
    """
    from torch.utils.data import default_collate

    made = collate or default_collate
    return lambda examples: [made(part) for part in windows(examples, micro_batch_size)]
