"""One property: every update of an epoch uses the gradient that one big batch per window gives.

The property is stated once, for any core. It must hold for ours, and it must fail for each of six
deliberately wrong ones; a check that cannot fail would prove nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reference import (
    Batch,
    big_batch_gradients,
    count,
    flatten,
    gradient,
    loss_sum,
    make_batch,
    make_model,
)
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from wrong_cores import (
    WRONG_CORES,
    dropped_tail,
    leaked_tail,
    mean_of_means,
    no_division,
    off_by_one,
    tail_divided_by_k,
)

from accum_lib.accumulate import accumulate, apply_update, windows

Core = Callable[[nn.Module, Optimizer, Sequence[Batch], int], None]  # runs one epoch


@dataclass(frozen=True)
class Case:
    """An epoch to run: how many tokens count in each of the N samples, and how the samples are cut.

    Tokens all equal to 1 make it a loss over samples.
    """

    tokens: tuple[int, ...]
    micro_batch_size: int
    accumulation_steps: int
    epochs: int = 1
    dtype: torch.dtype = torch.float64

    def batches(self, dtype: torch.dtype) -> list[Batch]:
        size, lengths = self.micro_batch_size, self.tokens
        counted = [sum(lengths[i : i + size]) for i in range(0, len(lengths), size)]
        return [make_batch(n, ignored=i % 3, seed=i, dtype=dtype) for i, n in enumerate(counted)]

    def windows(self) -> Iterator[list[Batch]]:
        """The big batch of each update, over all epochs, in float64."""
        batches, steps = self.batches(torch.float64), self.accumulation_steps
        for _ in range(self.epochs):
            for start in range(0, len(batches), steps):
                yield batches[start : start + steps]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    samples = draw(st.integers(1, 14), label="N")
    size = draw(st.integers(1, min(samples, 5)), label="M")
    steps = draw(st.integers(1, 6), label="K")
    ragged = draw(st.booleans(), label="tokens, not samples")
    lengths = (
        draw(st.lists(st.integers(0, 6), min_size=samples, max_size=samples)) if ragged else [1] * samples
    )
    for start in range(0, samples, size * steps):
        lengths[start] = max(lengths[start], 1)  # a window that counts nothing has no mean
    return Case(
        tokens=tuple(lengths),
        micro_batch_size=size,
        accumulation_steps=steps,
        epochs=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from([torch.float64, torch.float32])),
    )


def ours(model: nn.Module, optimizer: Optimizer, batches: Sequence[Batch], steps: int) -> None:
    for window in windows(batches, steps):
        accumulate(model, window, loss_sum, count)
        apply_update(model, optimizer)


def gradients_used(core: Core, case: Case) -> list[Tensor]:
    """The gradient in place at each of the optimizer's updates, over all epochs."""
    model, used = make_model(case.dtype), []
    optimizer = SGD(model.parameters(), lr=learning_rate(case))
    optimizer.register_step_pre_hook(lambda *_: used.append(gradient(model)))
    for _ in range(case.epochs):
        core(model, optimizer, case.batches(case.dtype), case.accumulation_steps)
    return used


def expected_gradients(case: Case) -> Iterator[tuple[Tensor, float]]:
    """The one-big-batch gradient of each update, in float64, and the error that is allowed to it."""
    model = make_model()
    for window in case.windows():
        gradients = big_batch_gradients(model, window)
        yield flatten(gradients), allowed_error(case, model, window)
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= learning_rate(case) * g


def learning_rate(case: Case) -> float:
    """In float32 the weights stand still, so that rounding is compared and not its growth on the way."""
    return 0.1 if case.dtype == torch.float64 else 0.0


def allowed_error(case: Case, model: nn.Module, window: list[Batch]) -> float:
    """1e-12 of the gradient's norm in float64; in float32, what rounding can do.

    Adding n terms one after the other rounds at most n times, each time by at most eps of the terms'
    summed norms; computing one term takes 20 further roundings at most (sums over 4, 5 and 3 numbers,
    a tanh, a softmax). Their norms are taken term by term, for in the mean they may cancel.
    """
    if case.dtype == torch.float64:
        return 1e-12 * float(flatten(big_batch_gradients(model, window)).norm())
    norms = [flatten(big_batch_gradients(model, [token])).norm() for token in tokens_of(window)]
    return (len(norms) + 20) * torch.finfo(torch.float32).eps * float(sum(norms)) / len(norms)


def tokens_of(window: list[Batch]) -> list[Batch]:
    """Each token that counts as a batch of its own."""
    return [
        (x[i : i + 1], y[i : i + 1]) for x, y in window for i, label in enumerate(y.tolist()) if label >= 0
    ]


def check_exact(core: Core, case: Case) -> None:
    used, expected = gradients_used(core, case), list(expected_gradients(case))
    assert len(used) == len(expected), f"{len(used)} updates instead of {len(expected)}"
    for update, (value, (reference, allowed)) in enumerate(zip(used, expected, strict=True)):
        error = float((value - reference).norm())
        assert error <= allowed, f"update {update} is off by {error:.1e}; {allowed:.1e} is allowed"


def exactness_of(core: Core) -> Callable[[], None]:
    """The property, as a test of this core. Examples are reproducible, and not shrunk, to be quick."""

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(cases())
    def holds(case: Case) -> None:
        check_exact(core, case)

    return holds


def test_our_core_equals_one_big_batch() -> None:
    exactness_of(ours)()


@pytest.mark.parametrize("core", WRONG_CORES, ids=lambda core: core.__name__)
def test_the_same_property_fails_for_a_wrong_core(core: Core) -> None:
    with pytest.raises(AssertionError):
        exactness_of(core)()


THREE = Case(tokens=(1, 1, 1), micro_batch_size=1, accumulation_steps=2)  # windows of 2 and of 1
COUNTEREXAMPLES = {
    no_division: Case(tokens=(1, 1), micro_batch_size=1, accumulation_steps=2),
    mean_of_means: Case(tokens=(1, 3), micro_batch_size=1, accumulation_steps=2),
    off_by_one: Case(tokens=(1, 1), micro_batch_size=1, accumulation_steps=2),
    dropped_tail: THREE,
    leaked_tail: Case(tokens=(1, 1, 1), micro_batch_size=1, accumulation_steps=2, epochs=2),
    tail_divided_by_k: THREE,
}
# Where each mistake does not show, so that a check with only such cases would never have seen it.
EVEN = Case(tokens=(1, 1, 1, 1), micro_batch_size=1, accumulation_steps=2, epochs=2)
NO_ACCUMULATION = Case(tokens=(1, 3, 2), micro_batch_size=1, accumulation_steps=1, epochs=2)
HIDING_PLACES = {
    no_division: NO_ACCUMULATION,
    mean_of_means: EVEN,
    off_by_one: NO_ACCUMULATION,
    dropped_tail: EVEN,
    leaked_tail: EVEN,
    tail_divided_by_k: EVEN,
}


@pytest.mark.parametrize("core", WRONG_CORES, ids=lambda core: core.__name__)
def test_a_small_case_tells_each_mistake_from_ours(core: Core) -> None:
    check_exact(ours, COUNTEREXAMPLES[core])
    with pytest.raises(AssertionError):
        check_exact(core, COUNTEREXAMPLES[core])


@pytest.mark.parametrize("core", WRONG_CORES, ids=lambda core: core.__name__)
def test_each_mistake_is_its_only_one_and_hides_in_even_cases(core: Core) -> None:
    check_exact(core, HIDING_PLACES[core])


def test_the_property_notices_one_wrong_token_in_float32() -> None:
    """The looser bound of float32 is still far below the smallest mistake in counting."""

    def counts_one_too_many(model, optimizer, batches, steps):
        for window in windows(batches, steps):
            accumulate(
                model, window, loss_sum, lambda batch, first=window[0]: count(batch) + (batch is first)
            )
            apply_update(model, optimizer)

    case = Case(tokens=(5, 6, 4), micro_batch_size=1, accumulation_steps=3, dtype=torch.float32)
    check_exact(ours, case)
    with pytest.raises(AssertionError, match="off by"):
        check_exact(counts_one_too_many, case)
