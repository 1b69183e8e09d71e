"""The catalogue: each fault with its right and its wrong loop, where it shows, and the project that had it.

The sources are public issues and pull requests; the year is that of the report. Being named here is no blame:
these are careful projects, and they found the faults themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from accum_lib.check import Case
from accum_lib.check.case import COUNTS, token_case
from accum_lib.check.faults import loops, models, recent
from accum_lib.check.loop import Loop
from accum_lib.words import N_, _


@dataclass(frozen=True)
class Fault:
    """One way in which it goes wrong.

    Attributes:
        code: as the checker names it.
        heading, title: in a few words; the title is in the language that is spoken.
        wrong, right: the loops; they differ in a line or two.
        case: something to try them on in which it shows.
        story, what: what happens, and why it goes unnoticed; the latter in the language that is spoken.
        source: where it has happened.
        mended: for a limit of the model: the case in which it is gone; else the same as ``case``.
    """

    code: str
    heading: str
    wrong: Loop
    right: Loop
    case: Callable[[], Case]
    story: str
    source: str
    mended: Callable[[], Case] | None = None

    @property
    def title(self) -> str:
        return _(self.heading)

    @property
    def what(self) -> str:
        return _(self.story)


def ragged() -> Case:
    """Micro-batches that count 5, 1, 7, 2, ... labels, K = 3, and a trailing window of two."""
    return token_case(COUNTS, 3, _("ragged labels, trailing window"))


def ragged_clipped() -> Case:
    """The same, with a gradient that is meant to be clipped to a norm of 0.1, once per update."""
    return token_case(COUNTS, 3, _("ragged labels, clipped"), max_grad_norm=0.1)


FAULTS = [
    Fault(
        "no_division", N_("Nothing divides by K"), loops.no_division, loops.right, ragged,
        N_("Each micro-batch's mean gradient is added up: the update is up to K times too long. Adam hides "
           "it, since it divides by the gradient's own size."),
        "openai/guided-diffusion issue 111 (2023); NVIDIA DeepLearningExamples issue 713 (2020)",
    ),
    Fault(
        "mean_of_means", N_("A mean of means"), loops.mean_of_means, loops.right, ragged,
        N_("Micro-batches weigh alike, however many tokens each of them counts, so tokens of short "
           "sequences weigh more. The loss falls as it should."),
        "Transformers pull request 34191 (2024); torchtune 1875 (2024); mlx-lm 1413 (2026)",
    ),
    Fault(
        "divided_twice", N_("Divided by K twice"), loops.divided_twice, loops.right, ragged,
        N_("The loop divides, and the framework's backward divides once more: the update is K times too "
           "short."),
        "Accelerate issue 3533 (2025)",
    ),
    Fault(
        "wrong_denominator", N_("Divided by another count"), loops.wrong_denominator, loops.right, ragged,
        N_("The divisor counts something else than the sum's terms: padding, sentences, or labels that a "
           "causal model shifts away. The error can be as small as one token in a sequence."),
        "OpenNMT-py pull request 526 (2018); Transformers pull request 46204 (2026)",
    ),
    Fault(
        "tail_divided_by_k", N_("The short window is divided by K"),
        loops.tail_divided_by_k, loops.right, ragged,
        N_("The last window of an epoch has r < K micro-batches and is still divided by K: an update that "
           "is K/r times too short, once per epoch."),
        "Lightning issue 19987 (2024); Transformers issue 38837 (2025)",
    ),
    Fault(
        "dropped_tail", N_("The short window is dropped"), loops.dropped_tail, loops.right, ragged,
        N_("The last r micro-batches of each epoch are computed and thrown away. An epoch shorter than K "
           "trains nothing at all."),
        "NeMo Automodel pull request 2257 (2026); Transformers issue 2995 (2020)",
    ),
    Fault(
        "leaked_tail", N_("The short window leaks into the next epoch"),
        loops.leaked_tail, loops.right, ragged,
        N_("The gradient of the last r micro-batches is not cleared, so the next epoch's first update "
           "contains it."),
        "torchtune pull request 2745 (2025)",
    ),
    Fault(
        "off_by_one", N_("i % K == 0"), loops.off_by_one, loops.right, ragged,
        N_("The first update comes after one micro-batch, and every window is shifted by one."),
        "The Annotated Transformer (2018); yolov5, as quoted in its issue 1630 (2020)",
    ),
    Fault(
        "cleared_mid_window", N_("Cleared within the window"), loops.cleared_mid_window, loops.right, ragged,
        N_("The buffer is cleared before each micro-batch: only the last of a window counts. Compute for "
           "K, learn from 1."),
        "Accelerate issue 1299 (2023); torchtitan pull request 3575 (2026)",
    ),
    Fault(
        "stepped_per_micro_batch", N_("Nothing is accumulated"), loops.stepped_per_micro_batch,
        loops.right, ragged,
        N_("K is set, but never reaches the loop: the optimizer moves after every micro-batch."),
        "Diffusers pull request 308 (2022)",
    ),
    Fault(
        "clipped_per_micro_batch", N_("Clipped after each micro-batch"), loops.clipped_per_micro_batch,
        loops.clipped_once, ragged_clipped,
        N_("The partial sum is clipped again and again, so early micro-batches weigh less than late ones."),
        "Transformers issues 986 and 1563 (2019); Lingua pull request 59 (2024); Keras issue 19990 (2024)",
    ),
    Fault(
        "scheduler_per_micro_batch", N_("The scheduler ticks per micro-batch"),
        loops.scheduler_per_micro_batch,
        loops.scheduler_per_update, ragged,
        N_("Warm-up and decay run K times too fast. Every gradient is right."),
        "Accelerate issue 963 (2023)",
    ),
    Fault(
        "ema_per_micro_batch", N_("The average is updated per micro-batch"), loops.ema_per_micro_batch,
        loops.ema_per_update, ragged,
        N_("The moving average of the weights sees the same weights K times, so it forgets K times as "
           "fast."),
        "F5-TTS issue 631 (2024)",
    ),
    Fault(
        "last_loss_logged", N_("The last micro-batch's loss is logged"), loops.last_loss_logged,
        loops.window_loss_logged, ragged,
        N_("Training is right, but the curve shows M examples and not B: it is noisier, and it can "
           "mislead."),
        "AllenNLP pull request 4706 (2020)",
    ),
    Fault(
        "low_precision_buffer", N_("The buffer is coarse"), loops.low_precision_buffer, loops.right, ragged,
        N_("Gradients are added up in bfloat16, whose 8 bits lose small contributions to a large sum."),
        "DeepSpeed issues 1800 (2022) and 2768 (2023)",
    ),
]  # fmt: skip

# Each needs a model and data of its own, so these are not among the loops that are tried on one scene.
RECENT = [
    Fault(
        "skipped_in_divisor", N_("A skipped micro-batch stays in the divisor"),
        recent.skipped_in_divisor, recent.skipped_everywhere, recent.damaged_case,
        N_("A micro-batch whose loss is NaN is left out of the sum, and its labels are still counted: the "
           "update is too short, the more is skipped the shorter."),
        "prime-rl pull request 1961 (2026)",
    ),
    Fault(
        "sequence_denominator", N_("Each sequence's mean, where tokens should weigh alike"),
        recent.sequence_denominator, recent.token_denominator, recent.policy_case,
        N_("A policy's gradient is averaged within each sequence first, so tokens of long answers weigh "
           "less. Both means are in use; a loop has to make the one that its loss says, over the whole "
           "window."),
        "TRL pull request 2881 (2025); open-instruct pull request 1161 (2025)",
    ),
    Fault(
        "auxiliary_per_micro_batch", N_("The auxiliary loss is added per micro-batch"),
        recent.auxiliary_per_micro_batch, recent.auxiliary_divided, recent.mixture_case,
        N_("The main loss is divided by what counts in the window, and the router's balance or z-loss is "
           "added whole in each micro-batch: its coefficient is K times as large as it says."),
        "NeMo Automodel pull request 3359 (2026)",
    ),
]  # fmt: skip

LIMITS = [
    Fault(
        "batch_norm", N_("BatchNorm sees M, not B"), loops.right, loops.right,
        lambda: models.norm_case("digits CNN with BatchNorm", nn.BatchNorm2d),
        N_("Each micro-batch is normalised by its own mean and variance. GroupNorm (Wu and He 2018, arXiv "
           "1803.08494), or BatchNorm with its statistics held fixed, does not look at the batch."),
        "yolov5 issue 1630 (2020); PyTorch issue 46516 (2020)",
        lambda: models.norm_case("digits CNN with GroupNorm", lambda channels: nn.GroupNorm(4, channels)),
    ),
    Fault(
        "batch_dependent", N_("In-batch negatives"), models.accumulated_contrastive, models.gradient_cache,
        models.contrastive_case,
        N_("A contrastive loss compares each example with all others of its batch: with M, not with B. A "
           "gradient cache computes the big batch's gradient exactly."),
        "sentence-transformers pull request 1822 (2023)",
    ),
    Fault(
        "random_masks", N_("Dropout draws new masks"),
        loops.right, loops.right, lambda: models.dropout_case(0.2),
        N_("Each micro-batch has masks of its own, as the rows of a big batch have. In expectation nothing "
           "changes; bit by bit nothing can be compared."),
        N_("by design: Srivastava et al. (2014), Dropout"),
        lambda: models.dropout_case(0.0),
    ),
]  # fmt: skip
