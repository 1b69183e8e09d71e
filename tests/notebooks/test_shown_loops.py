"""The loops that the prose shows in plain PyTorch: the code in the notebooks' sources, run by the checker."""

import pathlib
import re

import jupytext
import pytest
import torch

from accum_lib.check import check

SOURCES = pathlib.Path(__file__).resolve().parents[2] / "notebooks" / "src"


def shown(stem: str) -> list[str]:
    """The fenced blocks of the notebook that define ``train``."""
    cells = jupytext.read(SOURCES / f"{stem}.py").cells
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return [code for code in re.findall(r"```python\n(.*?)```", prose, re.DOTALL) if "def train(" in code]


def loop(*blocks: str):
    """What a reader has who runs these blocks one after the other, on a CPU."""
    names = {}
    for code in blocks:
        exec(code, names)
    return names["train"]


def on_cpu(mixed: str) -> str:
    """The loop in mixed precision with a scale that fits at once, so that no update is skipped."""
    return mixed.replace('GradScaler("cuda"', 'GradScaler("cpu", init_scale=2.0**10').replace("cuda", "cpu")


def ticked(report) -> bool:
    return report.ok and report.ticks == len(report.updates)


def codes(train, **more) -> set[str]:
    return {code for report in check(train, **more) for code in report.codes}


RIGHT, WRONG = shown("00_start_here")
(MIXED,) = shown("02_equivalence")


def test_the_right_loop_is_equal_and_short() -> None:
    assert all(map(ticked, check(loop(RIGHT))))
    assert len(RIGHT.partition("def train")[2].strip().splitlines()) <= 12


def logging(line: str) -> str:
    """The right loop with a log that it returns, a number for each window."""
    code = RIGHT.replace("        total =", "        log.append(0.0)\n        total =")
    code = code.replace(").backward()", f").backward()\n            {line}")
    return code.replace("    for start", "    log = []\n    for start").rstrip() + "\n    return log\n"


def test_the_log_is_the_windows_mean_as_the_prose_says() -> None:
    assert all(map(ticked, check(loop(logging("log[-1] += float(loss.item() / total)")))))
    last = "log[-1] = float(loss.item() / (labels != -100).sum())"
    assert codes(loop(logging(last))) == {"last_loss_logged"}


def test_the_wrong_loop_has_the_faults_that_are_named_beside_it() -> None:
    named = re.findall(r"# WRONG: (\w+)", WRONG)
    assert len(named) == 2
    assert codes(loop(RIGHT, WRONG)) == set(named)


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("(loss / total)", "loss"),
        ("scheduler.step()", "pass"),
        ("optimizer.zero_grad()", "pass"),
        ("clip_grad_norm_(model.parameters(), max_grad_norm)", "pass"),
    ],
)
def test_no_line_of_the_right_loop_can_be_left_out(line, other) -> None:
    assert line in RIGHT
    assert not all(map(ticked, check(loop(RIGHT.replace(line, other)))))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_loop_in_mixed_precision_is_equal_but_for_its_rounding(dtype) -> None:
    code = on_cpu(MIXED).replace("torch.float16", f"torch.{dtype}")
    if dtype == "bfloat16":  # as the prose says
        code = code.replace("init_scale=2.0**10", "enabled=False")
    reports = check(loop(code), dtype=torch.float32)
    assert all(map(ticked, reports))
    assert all(f"rounds to {dtype}" in str(report.remarks) for report in reports)


def test_a_scale_that_is_not_taken_out_before_clipping_would_be_noticed() -> None:
    code = on_cpu(MIXED).replace("scaler.unscale_(optimizer)", "pass")
    assert codes(loop(code), dtype=torch.float32)
