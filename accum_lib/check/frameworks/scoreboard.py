"""The installed frameworks under the equivalence lens: a table computed live, never a stored verdict.

    python -m accum_lib scoreboard

For each framework and case: as its own guide has it, and with the setting or few lines that make it right.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

from accum_lib.check import check_case
from accum_lib.check.faults.catalogue import FAULTS
from accum_lib.check.frameworks import accelerate_loop, lightning_loops, transformers_trainer
from accum_lib.check.frameworks.cases import FrameworkCase, causal_lm, framework_cases
from accum_lib.check.loop import Loop
from accum_lib.check.report import Report
from accum_lib.check.strangers import quietly
from accum_lib.exact import trainer_loss
from accum_lib.words import N_, _, listed

MakeLoop = Callable[[FrameworkCase], Loop | None]  # None: the framework has nothing for this case


@dataclass(frozen=True)
class Contestant:
    """A framework: its package, how a loop is made of it, and how one that is right.

    Attributes:
        name: as it is shown.
        package: whose version counts.
        as_documented: the loop that its guide gives.
        mended: the loop with the remedy.
        remedy: in a few words.
    """

    name: str
    package: str
    as_documented: MakeLoop
    mended: MakeLoop
    remedy: str

    def version(self) -> str | None:
        """The installed version, or None."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


@dataclass(frozen=True)
class ScoreRow:
    """One line of the table: what was tried, and what the lens saw of it and of its mended twin."""

    framework: str
    version: str
    subject: str
    head: str
    report: Report
    mended: Report | None
    remedy: str

    @property
    def scale(self) -> float:
        """The gradient's length along the big batch's, where it is furthest from 1; NaN without an update."""
        scales = [u.scale for u in self.report.updates]
        return max(scales, key=lambda s: abs(s - 1), default=float("nan"))


@dataclass(frozen=True)
class NotRun:
    """A framework, or one of its cases, that could not be tried; and why. The others are, all the same."""

    framework: str
    version: str
    subject: str
    reason: str
    mended: ClassVar[None] = None  # so that one can ask every row


def _trainer(subject: FrameworkCase) -> Loop | None:
    return None if subject.head == "MLP" else transformers_trainer.trainer_loop()


def _mended_trainer(subject: FrameworkCase) -> Loop | None:
    return None if subject.head == "MLP" else transformers_trainer.trainer_loop(trainer_loss)


CONTESTANTS = [
    Contestant(
        "Transformers Trainer", "transformers", _trainer, _mended_trainer,
        "compute_loss_func=accum_lib.exact.trainer_loss(model)",
    ),
    Contestant(
        "Accelerate", "accelerate",
        lambda s: accelerate_loop.accelerate_loop(s.mean_loss),
        lambda s: accelerate_loop.exact_accelerate_loop(s.case.loss_sum, s.case.count),
        "accum_lib.exact.accelerate_updates",
    ),
    Contestant(
        "Lightning", "lightning",
        lambda s: lightning_loops.lightning_loop(s.mean_loss),
        lambda s: lightning_loops.exact_lightning_loop(s.case.loss_sum, s.case.count),
        "accum_lib.exact.WindowTraining",
    ),
    Contestant(
        "Lightning Fabric", "lightning",
        lambda s: lightning_loops.fabric_loop(s.mean_loss),
        lambda s: lightning_loops.fabric_window_loop(s.case.loss_sum, s.case.count),
        N_("windows; backward(loss_sum / total)"),
    ),
]  # fmt: skip


def scoreboard(
    contestants: Sequence[Contestant] = CONTESTANTS,
    chosen: Sequence[FrameworkCase] | None = None,
    short_epochs: bool = True,
) -> Iterator[ScoreRow | NotRun]:
    """Try every framework on every case; rows come as they are computed.

    Args:
        contestants: the frameworks; one that is not installed, or misses a package, is one row that says so.
        chosen: the cases; None takes digits, the heads of RoBERTa and two causal models.
        short_epochs: try each also with an epoch shorter than K.
    """
    every = chosen if chosen is not None else [*framework_cases(), causal_lm("LlamaForCausalLM")]
    for contestant in contestants:
        installed = contestant.version()
        if installed is None:
            reason = _("{package} is not installed", package=contestant.package)
            yield NotRun(contestant.name, "", "", reason)
            continue
        for subject in _all(every, short_epochs):
            try:
                row = _tried(contestant, installed, subject)
            except ImportError as error:  # it needs a package that is not there: no case can be tried
                yield NotRun(contestant.name, installed, "", _for_a_cell(error))
                break
            except Exception as error:
                yield NotRun(contestant.name, installed, subject.case.name, _for_a_cell(error))
            else:
                if row is not None:
                    yield row


def _tried(contestant: Contestant, installed: str, subject: FrameworkCase) -> ScoreRow | None:
    loop, mended = contestant.as_documented(subject), contestant.mended(subject)
    if loop is None:
        return None
    with quietly():
        report = check_case(loop, subject.case)
        better = None if report.ok or mended is None else check_case(mended, subject.case)
    return ScoreRow(
        contestant.name, installed, subject.case.name, subject.head, report, better, _(contestant.remedy)
    )


def _for_a_cell(error: Exception) -> str:
    words = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {words}".replace("|", "/")


def _all(subjects: Sequence[FrameworkCase], short_epochs: bool) -> list[FrameworkCase]:
    if not short_epochs:
        return list(subjects)
    return [each for one in subjects for each in (one, one.short_epoch())]


def table(rows: Sequence[ScoreRow | NotRun]) -> str:
    """The rows as a Markdown table."""
    lines = [_("| framework | case | model | scale | relative error | diagnosis | mended |")]
    lines.append("|---|---|---|---:|---:|---|---|")
    for r in rows:
        if isinstance(r, NotRun):
            why = _("not tried: {reason}", reason=r.reason)
            lines.append(f"| {f'{r.framework} {r.version}'.strip()} | {r.subject} | | | | {why} | |")
            continue
        diagnosis = _("equal") if r.report.ok else listed(r.report.codes)
        mended = "" if r.mended is None else _("equal ({error:.0e})", error=r.mended.relative_error)
        if r.mended is not None and not r.mended.ok:
            mended = _("still {codes}", codes=listed(r.mended.codes))
        lines.append(
            f"| {r.framework} {r.version} | {r.subject} | {r.head} | {r.scale:.2f} "
            f"| {r.report.relative_error:.0e} | {diagnosis} | {mended} |"
        )
    return "\n".join(lines)


def legend(rows: Sequence[ScoreRow | NotRun]) -> list[str]:
    """What the codes in the table mean, a line of Markdown each; those that the list of faults has."""
    codes = {code for r in rows if isinstance(r, ScoreRow) for code in r.report.codes}
    return [f"- `{fault.code}`: {fault.what}" for fault in FAULTS if fault.code in codes]
