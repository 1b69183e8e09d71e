"""The checker's front door: a loop on several cases, with the loss and in the precision that it has."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from accum_lib.check import losses
from accum_lib.check.case import Case, standard_cases
from accum_lib.check.checker import check_case, run
from accum_lib.check.loop import Loop, wishes_of
from accum_lib.check.recorder import Recorder
from accum_lib.check.reference import Reference
from accum_lib.check.report import Diagnosis, Report, explain
from accum_lib.machine import one_thread
from accum_lib.words import _


def check(
    loop: Loop, cases: Sequence[Case] | None = None, dtype: torch.dtype = torch.float64
) -> list[Report]:
    """Try a loop on several cases, by default the standard ones.

    Args:
        loop: trains for one epoch: ``loop(model, optimizer, batches, accumulation_steps)``, in this order or
            by these names. If it also has a parameter ``scheduler``, ``ema`` (an ``AveragedModel``),
            ``max_grad_norm`` or ``epochs``, it is given that too; with ``epochs`` it is called once for all
            of them. A ``criterion``, ``device``, ``scaler``, ``logger``, ``epoch`` and ``args`` are plain
            ones that change no update. Where the case has no ``max_grad_norm``, the loop's own default
            counts. It may return a list of the losses it would log, one for each update.
        cases: what to try it on.
        dtype: of the parameters and the data.

    Returns:
        A report for each case; ``print(explain(report))`` puts it into words.
    """
    return list(reports_on(loop, cases, dtype))


def reports_on(
    loop: Loop, cases: Sequence[Case] | None = None, dtype: torch.dtype = torch.float64,
    change: Callable[[Case], Case] = lambda case: case,
) -> Iterator[Report]:  # fmt: skip
    """One report after the other; arguments as for ``check``.

    Without cases the standard ones are taken, and if the loop has another loss than theirs, that one.

    Args:
        change: is applied to each case before.
    """
    given, remark = cases is not None, ""
    left = [change(case) for case in (cases or _standard_cases(loop))]
    while left:
        try:
            report = check_case(loop, left[0], dtype)
        except Exception as error:
            if dtype == torch.float64 and not remark and _mixes_types(error):
                dtype, remark = torch.float32, _("the loop makes its data float32, and is checked in that")
                continue
            found = None if given else _with_other_data(loop, change, dtype)
            if found is None:
                raise
            left, remark, given = *found, True
            continue
        if "unexplained" in report.codes:
            found = None
            if not given:
                found = _with_its_loss(loop, left, dtype) or _with_other_data(loop, change, dtype)
            if found is not None:
                left, remark, given = *found, True
                continue
            if (other := _of_another_loss(report, loop, left[0], dtype, cases is None)) is not None:
                yield other
                return
        given = True
        yield replace(report, remarks=(*report.remarks, remark)) if remark else report
        done, *left = left
        if (
            own := report.accumulation_steps
        ) != done.accumulation_steps:  # fixed in the loop, so in each case
            left = [replace(case, accumulation_steps=own) for case in left]


def _standard_cases(loop: Loop) -> list[Case]:
    """Where the loop takes a norm to clip to, once with a clip that never bites: it hides all lengths."""
    cases = standard_cases()
    try:
        clips = "max_grad_norm" in wishes_of(loop).values()
    except (TypeError, ValueError):  # said when it is called
        clips = False
    longest = replace(cases[0], name=_("ragged tokens, a clip that never bites"), max_grad_norm=1e6)
    return [*cases, longest] if clips else cases


def _mixes_types(error: Exception) -> bool:
    """Whether it is one of PyTorch's about float32 data in a float64 model."""
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("same dtype", "scalar type", "same data type", "Input type (")
    )


def _first_epoch(loop: Loop, case: Case, dtype: torch.dtype) -> tuple[Recorder, Reference, Case]:
    with one_thread(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that do not fit
        case = replace(case.in_precision(dtype), epochs=1)
        model = case.make_model().to(dtype).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=case.learning_rate)
        reference, recorder = Reference(model, case), Recorder(model, optimizer)
        run(loop, case, model, optimizer, recorder)
        return recorder, reference, case


def _with_its_loss(loop: Loop, cases: list[Case], dtype: torch.dtype) -> tuple[list[Case], str] | None:
    """The cases with the loop's own loss on labels, and what to say of it."""
    recorder, reference, case = _first_epoch(loop, cases[0], dtype)
    candidates = losses.of_labels(recorder, reference, case)
    equal = (found for found in candidates if check_case(loop, found.on(cases[0]), dtype).equal)
    best = next(equal, candidates[0] if candidates else None)
    return None if best is None else ([best.on(case) for case in cases], _checked_with(best.words))


def _with_other_data(
    loop: Loop, change: Callable[[Case], Case], dtype: torch.dtype
) -> tuple[list[Case], str] | None:
    """The first cases with other data on which the loop has their loss, and what to say of it."""
    for words, cases in losses.other_data():
        try:
            recorder, reference, _case = _first_epoch(loop, change(cases[0]), dtype)
        except Exception:
            continue
        if losses.has_this_loss(recorder, reference):
            return [change(case) for case in cases], _checked_with(words)
    return None


def _checked_with(words: str) -> str:
    return _("the loop's loss is {loss}, and it is checked with that", loss=words)


def _of_another_loss(
    report: Report, loop: Loop, case: Case, dtype: torch.dtype, standard: bool
) -> Report | None:
    """The report that says so, if the loop's loss is neither the case's nor one of those that were tried."""
    recorder, reference, _case = _first_epoch(loop, case, dtype)
    if not losses.is_another(recorder, reference):
        return None
    whose = _("the case's")
    if standard:
        whose = _("the mean cross-entropy of the standard cases, nor another one that is tried")
    words = _(
        "the loop's loss is not {whose}: its first micro-batch's gradient has another direction. Write a "
        "function that returns accum_lib.check.Case(name, make_model, batches, accumulation_steps, loss_sum, "
        "count) with the loop's loss as a sum and its count, and give it with --case FILE.py:FUNCTION",
        whose=whose,
    )
    place = next((d.place for d in report.diagnoses if d.place), None)
    return replace(report, diagnoses=(Diagnosis("other_loss", words, place),))


def assert_equivalent(
    loop: Loop, cases: Sequence[Case] | None = None, dtype: torch.dtype = torch.float64
) -> None:
    """Raise if the loop's updates are not those of one big batch; a test in one line.

    Args:
        loop, cases, dtype: as for ``check``.

    Raises:
        AssertionError: with the report of the first case in which it is not.
    """
    __tracebackhide__ = True  # pytest shows the test's line and the report, and not this one
    for report in reports_on(loop, cases, dtype):
        if not report.ok:
            raise AssertionError(explain(report))
