"""What notebook 04 asks: K doubles at fixed M; M halves at fixed B; a second micro-batch."""

from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.memory.explorer import roberta_base
from accum_lib.machine import GIB
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload
from accum_lib.words import _

SAME = 0.01  # relative: the bytes of a few token ids are not what is asked


def doubled_steps(workload: Workload | None = None, micro_batch_size: int = 16) -> Quiz:
    """What becomes of the peak if K goes from 2 to 4 and M stays."""

    def answer() -> tuple[int, str]:
        found = predict(workload or roberta_base(128), Settings(), hopper=False)
        one, two, four = (found.peak_bytes(micro_batch_size, k) for k in (1, 2, 4))
        right = 2 if abs(four / two - 1) < SAME else 0 if four > 1.9 * two else 1 if four > two else 3
        return right, (
            _(
                "Predicted for M = {m}: {two:.2f} GiB with K = 2, {four:.2f} GiB with K = 4 (and {one:.2f} "
                "GiB with K = 1). Each micro-batch's graph is freed before the next one begins, and all of "
                "them add to the same gradients.",
                m=micro_batch_size,
                two=two / GIB,
                four=four / GIB,
                one=one / GIB,
            )
        )

    return Quiz(
        _(
            "RoBERTa-base, M = {m}. K goes from 2 to 4, so an update sees twice as many examples. The peak "
            "of memory …",
            m=micro_batch_size,
        ),
        {
            _("doubles"): _(
                "An example takes up memory only while its micro-batch passes, and the micro-batches pass "
                "one after another."
            ),
            _("grows by one more set of gradients"): _(
                "The step from K = 1 to K = 2 costs that. From then on all micro-batches add to the same "
                "buffer."
            ),
            _("stays the same"): "",
            _("falls"): _("Nothing gets smaller: M has stayed, and with it the activations."),
        },
        answer,
        name="memory.doubled_steps",
    )


def halved_micro_batch(workload: Workload | None = None, effective_batch_size: int = 32) -> Quiz:
    """What becomes of the peak if B stays, M halves and K goes from 1 to 2."""
    half = effective_batch_size // 2

    def answer() -> tuple[int, str]:
        found = predict(workload or roberta_base(128), Settings(), hopper=False)
        before, after = found.peak_bytes(2 * half, 1), found.peak_bytes(half, 2)
        ratio = after / before
        right = 2 if abs(ratio - 1) < SAME else 3 if ratio > 1 else 1 if ratio > 0.52 else 0
        return right, (
            _(
                "Predicted: {before:.2f} GiB becomes {after:.2f} GiB. Only activations shrink with M; "
                "weights, gradients and the optimizer's state do not, and from K = 2 on the gradients so "
                "far are there while the next micro-batch's activations are.",
                before=before / GIB,
                after=after / GIB,
            )
        )

    return Quiz(
        _(
            "RoBERTa-base, B = {batch} stays, and instead of one batch there are K = 2 micro-batches of M = "
            "{half}. The peak of memory …",
            batch=2 * half,
            half=half,
        ),
        {
            _("halves"): _("Activations halve; but a good part of the peak is not activations."),
            _("falls, but by less than half"): "",
            _("stays the same"): _(
                "B is the same, but what is in memory at once is M examples, and these are half as many."
            ),
            _("grows"): _(
                "A second micro-batch does cost a set of gradients; here half of the activations is more "
                "than that."
            ),
        },
        answer,
        name="memory.halved_micro_batch",
    )
