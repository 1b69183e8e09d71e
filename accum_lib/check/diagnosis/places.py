"""Where in the loop's file each fault arises, and the corrected lines where these can be said surely.

The verdict and the faults' names rest on numbers alone. The source is read here, to show a line of it.
"""

import ast
import linecache
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from accum_lib.check.diagnosis.evidence import Evidence
from accum_lib.check.places import Call, usual
from accum_lib.check.report import Diagnosis, Place

_Block = TypeVar("_Block", bound=ast.stmt)
WEIGHTS = ("no_division", "mean_of_means", "divided_twice", "sum_not_mean", "weighted_by_samples",
           "wrong_denominator", "wrong_scale", "tail_divided_by_k", "skipped_in_divisor",
           "sequence_denominator", "auxiliary_per_micro_batch")  # fmt: skip
CALLS = {  # by which call each fault is made
    **dict.fromkeys(WEIGHTS, "backward"),
    "not_finite": "backward", "unexplained": "backward", "other_loss": "backward",
    "dropped_tail": "step", "leaked_tail": "step", "off_by_one": "step", "stepped_per_micro_batch": "step",
    "two_optimizers": "step",
    "not_cleared": "step", "empty_update": "step", "not_clipped": "step", "missing_gradient": "step",
    "cleared_mid_window": "clear", "unused_micro_batches": "clear",
    "clipped_per_micro_batch": "clip", "clipped": "clip", "divided_again": "clip",
    "ended_itself": "exit", "scheduler_per_micro_batch": "tick", "ema_per_micro_batch": "average",
}  # fmt: skip
CONDITIONS = ("dropped_tail", "leaked_tail", "off_by_one")
AFTER_THE_STEP = ("scheduler_per_micro_batch", "ema_per_micro_batch", "cleared_mid_window",
                  "unused_micro_batches")  # fmt: skip


def placed(found: Diagnosis, evidence: Evidence) -> Diagnosis:
    """The fault with its place; without one if the frames did not show it."""
    calls = evidence.recorder.calls
    if calls.file is None:
        return found
    source, line = Source(calls.file), usual(_to_blame(found.code, evidence))
    if line is None and not calls.of(what := CALLS.get(found.code, "")):
        by_hand = source.by_hand(what, calls.first_line)
        here = by_hand and Place(calls.file, by_hand, source.text(by_hand))
        return replace(found, place=here or None)
    if line is None:
        return found
    step = usual(calls.of("step"))
    if found.code in CONDITIONS and (condition := source.condition(line)) is not None:
        line = condition.lineno
    place = Place(calls.file, line, source.text(line), _instead(found.code, source, line, step))
    return replace(found, place=place)


def _to_blame(code: str, evidence: Evidence) -> list[Call]:
    """The calls that make this fault."""
    recorder = evidence.recorder
    calls = recorder.calls.of(CALLS.get(code, ""))
    if CALLS.get(code) == "clear":  # those just after an update, or as an epoch begins, are right
        right = {u.passes for u in recorder.updates} | set(recorder.epoch_starts)
        return [call for call in calls if call.passes not in right]
    if code == "empty_update":  # no backward pass since the step before
        before = [-1, *(call.passes for call in calls)]
        return [call for call, last in zip(calls, before, strict=False) if call.passes in (last, 0)]
    return calls


def _instead(code: str, source: "Source", line: int, step: int | None) -> tuple[str, ...]:
    """The right lines; none if they depend on more than can be seen."""
    if code in WEIGHTS:
        return "total = sum(count(batch) for batch in window)", "(loss_sum(model, batch) / total).backward()"
    here, there = source.statement(line), source.statement(step)
    if code in AFTER_THE_STEP and here and there:
        return there, here
    if code == "clipped_per_micro_batch" and here and there:
        return here, there
    if code == "not_cleared" and here and (name := source.optimizer(line)):
        return here, f"{name}.zero_grad()"
    if code in CONDITIONS and (condition := source.condition(step)) is not None:
        return source.whole_windows(condition)
    return ()


@dataclass(frozen=True)
class Source:
    """A file's lines, as the interpreter knows them."""

    file: str

    def text(self, line: int) -> str:
        """One line, without its indent."""
        return linecache.getline(self.file, line).strip()

    @cached_property
    def _nodes(self) -> list[ast.AST]:
        """All nodes, the outer ones first; none if it can't be read."""
        try:
            return list(ast.walk(ast.parse("".join(linecache.getlines(self.file)))))
        except (SyntaxError, ValueError):
            return []

    def statement(self, line: int | None) -> str:
        """The call that is alone on this line; nothing if there is more on it."""
        found = [n for n in self._nodes if isinstance(n, ast.stmt) and n.lineno == line]
        alone = len(found) == 1 and isinstance(found[0], ast.Expr) and found[0].end_lineno == line
        return ast.unparse(found[0]) if alone else ""

    def by_hand(self, what: str, first_line: int) -> int | None:
        """Where the loop that starts there clears gradients, or scales them, by no call that was seen.

        None unless just one line does: of several it is not known which one ran when.
        """
        loops = self._around(first_line, ast.FunctionDef)
        inside = ast.walk(loops[-1]) if loops else ()
        lines = {n.lineno for n in inside if isinstance(n, ast.stmt) and _on_gradients(n) == what}
        return lines.pop() if len(lines) == 1 else None

    def optimizer(self, line: int) -> str:
        """What ``optimizer.step()`` or ``scaler.step(optimizer)`` on this line calls the optimizer."""
        for node in self._nodes:
            if isinstance(node, ast.Call) and node.lineno == line and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                named = node.args[0] if node.args and "scal" in ast.unparse(owner) else owner
                sure = isinstance(named, ast.Name | ast.Attribute) and (named is not owner or not node.args)
                return ast.unparse(named) if sure else ""
        return ""

    def condition(self, line: int | None) -> ast.If | None:
        """The innermost ``if ... % ... == 0`` in whose body this line is."""
        found = [n for n in self._around(line, ast.If) if isinstance(n, ast.If) and _every_kth(n.test)]
        return found[-1] if found else None

    def whole_windows(self, condition: ast.If) -> tuple[str, ...]:
        """The condition that also holds for the last micro-batch; where the loop's counter says which it is.

        That takes ``for i, ... in enumerate(loader)``, with nothing else around the loader.
        """
        for node in reversed(self._around(condition.lineno, ast.For)):
            if not isinstance(node, ast.For):
                continue
            whole = node.iter
            if not (isinstance(whole, ast.Call) and ast.unparse(whole.func) == "enumerate" and whole.args):
                continue
            first = [*whole.args[1:], *(k.value for k in whole.keywords)]
            start = ast.unparse(first[0]) if first else "0"
            counter, loader = (
                node.target.elts[0] if isinstance(node.target, ast.Tuple) else None,
                _bare(whole),
            )
            test = _every_kth(condition.test)
            if counter is None or test is None or start not in ("0", "1") or loader is None:
                return ()
            i = ast.unparse(counter)
            if i not in {n.id for n in ast.walk(test.left) if isinstance(n, ast.Name)}:
                return ()  # another counter, which runs on
            number = i if start == "1" else f"{i} + 1"
            steps = ast.unparse(test.right)
            left = f"({number})" if start == "0" else number
            return (f"if {left} % {steps} == 0 or {number} == len({loader}):",)
        return ()

    def _around(self, line: int | None, kind: type[_Block]) -> list[_Block]:
        found = [n for n in self._nodes if isinstance(n, kind) and line is not None]
        return [n for n in found if _first_line(n) <= (line or 0) <= (n.end_lineno or 0)]


def _first_line(block: ast.stmt) -> int:
    return min([block.lineno, *(d.lineno for d in getattr(block, "decorator_list", ()))])


def _on_gradients(statement: ast.stmt) -> str:
    """What a statement does to ``something.grad``: clear it, or make it shorter or longer ("clip")."""
    if isinstance(statement, ast.Assign):
        target, text = statement.targets[0], ast.unparse(statement.value)
        gradient = isinstance(target, ast.Attribute) and target.attr == "grad"
        if gradient and (text == "None" or "zeros" in text):
            return "clear"
        return "clip" if gradient and ".grad" in text else ""
    if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Mult | ast.Div):
        return "clip" if ".grad" in ast.unparse(statement.target) else ""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and ".grad" in ast.unparse(call.func)
    ):
        name = call.func.attr
        return {"zero_": "clear"}.get(name, "clip" if name in ("mul_", "div_", "clamp_", "copy_") else "")
    return ""


def _every_kth(test: ast.expr) -> ast.BinOp | None:
    """The remainder in ``... % K == 0`` or ``not ... % K``."""
    found: ast.expr | None = None
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        found = test.operand
    elif isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        zero = test.comparators[0]
        found = test.left if isinstance(zero, ast.Constant) and zero.value == 0 else None
    return found if isinstance(found, ast.BinOp) and isinstance(found.op, ast.Mod) else None


def _bare(enumerated: ast.Call) -> str | None:
    """What is enumerated, without a progress bar around it; None if it is more than a name."""
    inner = enumerated.args[0]
    if isinstance(inner, ast.Call) and "tqdm" in ast.unparse(inner.func) and inner.args:
        inner = inner.args[0]
    return ast.unparse(inner) if isinstance(inner, ast.Name | ast.Attribute) else None
