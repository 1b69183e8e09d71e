"""'More accumulation steps, less memory, slower': true or not, clause by clause.

The claim does not say what stays the same. With M fixed, more steps make a larger batch; with B fixed they
make smaller micro-batches. So each half of it is two clauses. Memory is predicted; time is
measured, and given.

What the leaner alternatives save, and whether their update is still that of one big batch.

Bytes are predicted. Exactness comes from the checker: each alternative's gradient, as it
comes out of the optimizer that folds it up, is given to the checker's own SGD, which compares it with one big
batch in float64.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from accum_lib.accumulate import accumulate, windows
from accum_lib.check import Case, check_case
from accum_lib.check.loop import Loop
from accum_lib.machine import GIB
from accum_lib.memory.optimizers import AdamA, AdamWWithBf16Gradients, HookedAdamW
from accum_lib.memory.planner import useful_down_to
from accum_lib.memory.prediction import Prediction, predict
from accum_lib.memory.records import Alternative, Clause, Pace
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import Workload, checkpoint, longest_list
from accum_lib.problems.digits import Digits
from accum_lib.words import N_, _, listed

CLEARLY = 0.03  # two median times that differ by less are called the same


def memory_clauses(prediction: Prediction, micro_batch_size: int, effective_batch_size: int) -> list[Clause]:
    """'Less memory': at fixed M, and at fixed B down to M = 1.

    Args:
        prediction: of the update.
        micro_batch_size: M that stays while K goes from 1 to 2 and 8.
        effective_batch_size: B that stays while K goes from 1 to 2, 4, ... B.
    """
    one, two, eight = (prediction.peak_bytes(micro_batch_size, k) for k in (1, 2, 8))
    fixed_m = Clause(
        _("at fixed M = {m}, less memory", m=micro_batch_size),
        two < one or eight < 0.99 * two,
        _(
            "K = 1, 2, 8: {peaks} GiB. The second costs a gradient buffer, further ones nothing",
            peaks=_gib(one, two, eight),
        ),
    )
    steps = _halvings(effective_batch_size)
    peaks = [prediction.peak_bytes(effective_batch_size // k, k) for k in steps]
    end = useful_down_to(prediction)
    fixed_b = Clause(
        _("at fixed B = {effective_batch_size}, less memory", effective_batch_size=effective_batch_size),
        peaks[-1] < peaks[0] and bool(np.all(np.diff(peaks) <= 0.001 * peaks[0])),
        _(
            "K = {steps}: {peaks} GiB. From M = {end} down nothing more is saved",
            steps=listed([str(k) for k in steps]),
            peaks=_gib(*peaks),
            end=end,
        ),
    )
    return [fixed_m, fixed_b]


def time_clauses(fixed_m: Pace, fixed_b: Pace) -> list[Clause]:
    """'Slower', for each example: at fixed M, and at fixed B.

    Args:
        fixed_m: measured with one M and growing K.
        fixed_b: measured with one B and growing K.
    """
    clauses = []
    for name, measured in (("M", fixed_m), ("B", fixed_b)):
        times = measured.per_example
        value = measured.micro_batch_sizes[0] if name == "M" else _batch(measured)
        clauses.append(
            Clause(
                _("at fixed {name} = {value}, slower", name=name, value=value),
                bool(times[-1] > (1 + CLEARLY) * times[0]),
                _(
                    "K = {steps}: {times} times the time of the first, per example",
                    steps=listed([str(k) for k in measured.accumulation_steps]),
                    times=listed([f"{t / times[0]:.2f}" for t in times]),
                ),
            )
        )
    return clauses


def _halvings(batch: int) -> list[int]:
    return [2**i for i in range(batch.bit_length()) if batch % 2**i == 0]


def _batch(measured: Pace) -> int:
    return int(measured.micro_batch_sizes[0] * measured.accumulation_steps[0])


def _gib(*values: int) -> str:
    return listed([f"{v / GIB:.2f}" for v in values])


Gradient = Callable[[HookedAdamW, Tensor], Tensor]
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    (N_("plain accumulation"), {}),
    (N_("checkpointing as well"), {"checkpointing": True}),
    (N_("bfloat16 gradient buffer"), {"optimizer": "adamw-bf16-gradients", "implementation": "for-loop"}),
    (N_("folded into the moments (AdamA)"), {"optimizer": "adama", "implementation": "for-loop"}),
    (N_("optimizer in backward"), {"optimizer": "adamw-in-backward", "implementation": "for-loop"}),
)


def alternatives(workload: Workload, micro_batch_size: int, accumulation_steps: int) -> list[Alternative]:
    """Each way to make the same update: its predicted peak, its arithmetic, and its error.

    Args:
        workload: whose memory; exactness is measured on a small network of digits in float64, with this K.
        micro_batch_size, accumulation_steps: M and K.
    """
    errors = gradient_errors(accumulation_steps)
    found = [(name, predict(workload, Settings(**how), hopper=False)) for name, how in WAYS]
    plain = found[0][1]
    return [
        Alternative(
            name=_(name),
            peak_bytes=prediction.peak_bytes(micro_batch_size, accumulation_steps),
            floor_bytes=prediction.floor_bytes(accumulation_steps),
            arithmetic=prediction.flops(micro_batch_size) / plain.flops(micro_batch_size),
            gradient_error=errors[name][0],
            second_moment_error=errors[name][1],
            updates=errors[name][2],
        )
        for name, prediction in found
    ]


def gradient_errors(accumulation_steps: int) -> dict[str, tuple[float, float, int]]:
    """For each way: the error of the gradient, that of the second moment's root, and updates per window."""
    case = digits_case(accumulation_steps)
    loops = {name: (loop_of(name, case, _first), loop_of(name, case, _second)) for name, _ in WAYS}
    windows_ = case.epochs * len(case.windows())
    found = {}
    for name, (first, second) in loops.items():
        report = check_case(first, case)
        updates = round(len(report.updates) / windows_)
        found[name] = report.relative_error, check_case(second, case).relative_error, updates
    return found


def digits_case(accumulation_steps: int, micro_batch_size: int = 8) -> Case:
    """A network of handwritten digits, one window of K micro-batches."""
    problem = Digits("mlp", num_samples=micro_batch_size * accumulation_steps)
    return Case.of_problem(problem, micro_batch_size, accumulation_steps, epochs=1)


def loop_of(name: str, case: Case, gradient: Gradient) -> Loop:
    """A loop that accumulates in this way, and hands the gradient to the optimizer that it is given."""
    if name == "optimizer in backward":
        return _in_backward(case)
    kind = {"bfloat16 gradient buffer": AdamWWithBf16Gradients, "folded into the moments (AdamA)": AdamA}

    def loop(model: nn.Module, optimizer: Optimizer, batches: Sequence[Any], accumulation_steps: int) -> None:
        if name == "checkpointing as well":
            checkpoint(model, longest_list(model) or list(model.children()))
        hooked = kind[name](model.parameters()) if name in kind else None
        for window in windows(batches, accumulation_steps):
            accumulate(model, window, case.loss_sum, case.count)
            if hooked is not None:
                for p in model.parameters():
                    p.grad = gradient(hooked, p)
            optimizer.step()
            optimizer.zero_grad()

    return loop


def _first(optimizer: HookedAdamW, p: Tensor) -> Tensor:
    """The window's gradient: from the buffer, or from the first moment, which is (1 - beta1) times it."""
    if isinstance(optimizer, AdamWWithBf16Gradients):
        return optimizer.buffers.pop(p).to(p.dtype)
    return optimizer.state[p]["exp_avg"] / (1 - optimizer.defaults["betas"][0])


def _second(optimizer: HookedAdamW, p: Tensor) -> Tensor:
    """What the second moment takes for the gradient: its root, with the first one's signs."""
    if isinstance(optimizer, AdamWWithBf16Gradients):
        return _first(optimizer, p)
    root = (optimizer.state[p]["exp_avg_sq"] / (1 - optimizer.defaults["betas"][1])).sqrt()
    return root * _first(optimizer, p).sign()


def _in_backward(case: Case) -> Loop:
    """An update as soon as the backward pass has a micro-batch's gradient of every parameter."""

    def loop(model: nn.Module, optimizer: Optimizer, batches: Sequence[Any], accumulation_steps: int) -> None:
        waiting: set[Tensor] = set()
        every = {p for p in model.parameters() if p.requires_grad}

        def on_gradient(p: Tensor) -> None:
            waiting.add(p)
            if waiting == every:
                waiting.clear()
                optimizer.step()
                optimizer.zero_grad()

        handles = [p.register_post_accumulate_grad_hook(on_gradient) for p in every]
        for window in windows(batches, accumulation_steps):
            accumulate(model, window, case.loss_sum, case.count)
        for handle in handles:
            handle.remove()

    return loop
