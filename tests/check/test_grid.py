"""Every fault is named, and no right loop accused, over (N, M, K), ragged counts and three models."""

import warnings

import pytest
from grid import MODELS, ambiguous, clip_for, settings_of, shows, witness
from hypothesis import HealthCheck, Phase, assume, example, given, settings

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.check import check_case
from accum_lib.check.case import token_loss_sum
from accum_lib.check.faults import FAULTS
from accum_lib.check.faults import loops as L
from accum_lib.losses import count_tokens


def ours(model, optimizer, batches, accumulation_steps) -> list[float]:
    losses = []
    for window in windows(batches, accumulation_steps):
        losses.append(accumulate(model, window, token_loss_sum, count_tokens).loss)
        apply_update(model, optimizer)
    return losses


RIGHT = [ours, L.right, L.scheduler_per_update, L.ema_per_update, L.window_loss_logged]


def over_the_grid(model: str, examples: int):
    """So many cases of the quickest model; of the others three by default, and as many in make test-all."""
    if model != "tokens" and settings.get_current_profile_name() != "thorough":
        examples = 3
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loop", RIGHT, ids=lambda loop: loop.__name__)
def test_no_right_loop_is_accused(loop, model, confusion) -> None:
    @over_the_grid(model, 12)
    @example(witness("right", model))
    @given(settings_of(model))
    def never(setting) -> None:
        report = check_case(loop, setting.case())
        confusion["right", ", ".join(report.codes)] += 1
        assert report.ok, (report.codes, report.relative_error)

    never()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
def test_every_fault_is_named_where_it_shows(fault, model, confusion) -> None:
    clip, first, shown = clip_for(fault.code), witness(fault.code, model), []
    assert shows(fault.code, first)
    assert not ambiguous(fault.code, first)

    @over_the_grid(model, 14)
    @example(first)
    @given(settings_of(model, clip))
    def always(setting) -> None:
        assume(not ambiguous(fault.code, setting))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = check_case(clip_to(fault.wrong, clip), setting.case())
        expected = {fault.code} if shows(fault.code, setting) else set()
        shown.append(bool(expected))
        was = fault.code if expected else f"{fault.code}, where it can't show"
        confusion[was, ", ".join(report.codes)] += 1
        assert set(report.codes) == expected, setting
        assert report.ok is not bool(expected)

    always()
    drawn = sum(shown) - 1  # beside the first
    assert drawn >= (4 if len(shown) > 10 else 0), "the grid has cases in which it shows"


def clip_to(loop, norm):
    """The clipping loops clip to 0.1; gradients here are shorter than that once trained, so clip to less."""
    if norm is None:
        return loop

    def clipped(model, optimizer, batches, accumulation_steps):
        real = L.clip_grad_norm_
        L.clip_grad_norm_ = lambda parameters, _: real(parameters, norm)
        try:
            loop(model, optimizer, batches, accumulation_steps)
        finally:
            L.clip_grad_norm_ = real

    return clipped
