"""``python -m accum_lib``: verdicts as exit codes, and errors that say what to do."""

import subprocess
import sys

import pytest

from accum_lib.__main__ import main

LOOPS = "accum_lib.check.faults.loops"


def test_a_right_loop_exits_with_0(capsys) -> None:
    assert main(["check", f"{LOOPS}:right"]) == 0
    assert capsys.readouterr().out.count("EQUAL to one big batch") == 4


def test_a_wrong_loop_exits_with_1_and_is_diagnosed(capsys) -> None:
    assert main(["check", f"{LOOPS}:mean_of_means"]) == 1
    out = capsys.readouterr().out
    assert "NOT EQUAL" in out
    assert "* mean_of_means:" in out


def test_a_loop_in_a_file_of_ones_own(tmp_path, capsys) -> None:
    file = tmp_path / "my_training_script.py"
    file.write_text(
        "from torch.nn.functional import cross_entropy\n"
        "def train(model, optimizer, loader, k):\n"
        "    for i, (x, y) in enumerate(loader):\n"
        "        (cross_entropy(model(x), y) / k).backward()\n"
        "        if (i + 1) % k == 0:\n"
        "            optimizer.step(); optimizer.zero_grad()\n"
    )
    assert main(["check", f"{file}:train"]) == 1
    out = capsys.readouterr().out
    assert "leaked_tail" in out
    assert "mean_of_means" in out


def test_a_case_and_a_k_of_ones_own(capsys) -> None:
    case = ["--case", "accum_lib.check.faults.models:contrastive_case"]
    assert main(["check", "accum_lib.check.faults.models:gradient_cache", *case]) == 0
    assert main(["check", "accum_lib.check.faults.models:accumulated_contrastive", *case, "--k", "2"]) == 1
    assert "K = 2" in capsys.readouterr().out


def test_clipping_is_right_if_it_is_meant(capsys) -> None:
    assert main(["check", f"{LOOPS}:clipped_once"]) == 1
    assert "max_grad_norm=0.1" in capsys.readouterr().out
    assert main(["check", f"{LOOPS}:clipped_once", "--max-grad-norm", "0.1"]) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "must have the form MODULE:FUNCTION"),
        ("no_such_module_here:train", "there is no module 'no_such_module_here' in this folder or installed"),
        ("tests/reference:gradient", "is no Python file"),
        ("missing.py:train", "there is no file missing.py"),
        (f"{LOOPS}:foo", "has no 'foo'; it has"),
    ],
)
def test_what_cannot_be_run_exits_with_2_and_says_why(name, message, capsys) -> None:
    assert main(["check", name]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("x, y, z = batch", "ValueError: not enough values to unpack"),
        ("x = batch['input_ids']", "TypeError: tuple indices"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("helper(batch)", "RuntimeError: from below"),
    ],
)
def test_an_error_inside_the_loop_is_told_with_its_line(line, error, tmp_path, capsys) -> None:
    file = tmp_path / f"failing_{abs(hash(line))}.py"
    file.write_text(
        "def helper(batch):\n"
        "    raise RuntimeError('from below')\n"
        "def train(model, optimizer, loader, k):\n"
        "    for batch in loader:\n"
        f"        {line}\n"
    )
    assert main(["check", f"{file}:train"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {error}")
    below = "line 2, in helper: raise" if "helper" in line else f"line 5, in train: {line}"
    assert f"{file}, {below}" in said


def test_an_error_of_the_check_itself_is_not_laid_at_the_loops_door(monkeypatch, capsys) -> None:
    assert main(["check", f"{LOOPS}:right", "--k", "0"]) == 2
    assert "in the loop" not in capsys.readouterr().err


EXITS = """
import sys
from accum_lib.check import standard_cases
from accum_lib.check.faults.loops import right
def train(model, optimizer, batches, k):
    if len(batches) < K:
        sys.exit(STATUS)
    right(model, optimizer, batches, k)
def three(): return 3
def mixed(): return [standard_cases()[0], "a case"]
def leaves(): sys.exit(STATUS)
def two(): return standard_cases()[:2]
some = standard_cases()[1]
"""


@pytest.mark.parametrize("status", ["0", "", "'Loss is nan'", "3"])
def test_a_loop_that_ends_the_process_fails_and_what_was_finished_is_shown(status, tmp_path, capsys) -> None:
    file = tmp_path / f"exits_{abs(hash(status))}.py"
    file.write_text(EXITS.replace("STATUS", status).replace("K", "3"))
    assert main(["check", f"{file}:train"]) == 1
    out = capsys.readouterr().out
    assert out.count("\nEQUAL") + out.startswith("EQUAL") == 3, "those of three micro-batches or more"
    assert f"the loop ended the process itself (SystemExit with {eval(status or 'None')!r})" in out
    assert "after 0 of 2 updates" in out


@pytest.mark.parametrize(
    "line",
    [
        "sys.exit(0)",
        "raise SystemExit",
        "exit()",
        "import argparse; argparse.ArgumentParser().parse_args(['-h'])",
    ],
)
def test_a_module_that_ends_the_process_fails(line, tmp_path, capsys) -> None:
    file = tmp_path / f"ends_{abs(hash(line))}.py"
    file.write_text(f"import sys\n{line}\ndef train(): pass\n")
    assert main(["check", f"{file}:train"]) == 2
    said = capsys.readouterr().err
    assert "ended the process itself (SystemExit with " in said
    assert "if __name__ == '__main__'" in said


STRANGE = """
class Own(BaseException): pass
def escapes(model, optimizer, batches, k): raise ValueError("\\x1b]0;owned\\x07 \\u202e abc")
def long(model, optimizer, batches, k): raise ValueError("x" * 3_000_000)
def uncaught(model, optimizer, batches, k): raise Own("of its own")
def left(model, optimizer, batches, k): raise GeneratorExit
def yields(model, optimizer, batches, k): yield 1
async def waits(model, optimizer, batches, k): pass
"""


@pytest.mark.parametrize(
    ("loop", "said"),
    [
        ("escapes", r"ValueError: \x1b]0;owned\x07 \u202e abc"),
        ("long", "ValueError: xxxxx"),
        ("uncaught", "raised Own (of its own), which no except Exception catches: derive it from Exception"),
        ("left", "raised GeneratorExit ()"),
        ("yields", "yields, so a call runs nothing of it: name a plain function that runs it"),
        ("waits", "is async, so a call runs nothing of it"),
    ],
)
def test_a_loop_of_a_stranger_does_nothing_to_the_terminal_and_is_no_wrong_loop(
    loop, said, tmp_path, capsys
) -> None:
    """A status of 1 says that the loop is wrong: what could not be run has 2."""
    (tmp_path / "odd_loops.py").write_text(STRANGE)
    assert main(["check", f"{tmp_path / 'odd_loops.py'}:{loop}"]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "\x1b" not in shown
    assert len(shown) < 6000


@pytest.mark.parametrize("text", ["undefined_name", "def", "{}['lr']", "assert False, 'no data'"])
def test_a_module_that_cannot_be_imported_is_told_in_a_sentence(text, tmp_path, capsys) -> None:
    file = tmp_path / f"broken_{abs(hash(text))}.py"
    file.write_text(f"{text}\n")
    assert main(["check", f"{file}:train"]) == 2
    assert f"{file.stem} can't be imported: " in capsys.readouterr().err


def test_a_case_that_is_none_is_told_and_several_are_taken(tmp_path, capsys) -> None:
    file = tmp_path / "own_cases.py"
    file.write_text(EXITS.replace("STATUS", "0").replace("K", "0"))
    for name, message in (("three", "gives 3, and not a Case"), ("mixed", "and not a Case: let the function"),
                          ("leaves", "ended the process itself (SystemExit with 0)")):  # fmt: skip
        assert main(["check", f"{file}:train", "--case", f"{file}:{name}"]) == 2
        assert message in capsys.readouterr().err
    assert main(["check", f"{file}:train", "--case", f"{file}:two"]) == 0
    assert capsys.readouterr().out.count("EQUAL to") == 2
    assert main(["check", f"{file}:train", "--case", f"{file}:some"]) == 0
    assert main(["plan", "--model", f"{file}:leaves", "--gpu", "T4", "--batch", "8"]) == 2
    assert "leaves ended the process itself (SystemExit with 0)" in capsys.readouterr().err


def test_a_decorated_loop_is_placed_too(tmp_path, capsys) -> None:
    file = tmp_path / "decorated_loop.py"
    file.write_text(
        "import functools\n"
        "def work(lr, model, optimizer, batches, k): model(None)\n"
        "train = functools.partial(work, 0.1)\n"
    )
    assert main(["check", f"{file}:train"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: TypeError")
    assert "in the loop: " in said


def test_a_module_that_misses_something_itself_is_told_apart(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    assert main(["check", "needs_more:train"]) == 2
    assert "No module named 'not_installed_anywhere'" in capsys.readouterr().err


def test_help_is_complete() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "accum_lib", "--help"], capture_output=True, text=True, check=True
    )
    assert "check" in done.stdout
    assert "scoreboard" in done.stdout


def test_a_plan_that_fits_exits_with_0_and_one_that_does_not_with_1(capsys) -> None:
    assert main(["plan", "--model", "distilbert", "--gpu", "T4", "--batch", "64"]) == 0
    assert "Take fp16, AdamW: micro-batches of M = 64, K = 1." in capsys.readouterr().out
    asked = ["plan", "--model", "roberta-base", "--gpu", "1GB", "--batch", "64", "--optimizer", "sgd"]
    assert main(asked) == 1
    assert "Nothing fits." in capsys.readouterr().out


def test_a_plan_for_a_model_of_ones_own(tmp_path, capsys) -> None:
    file = tmp_path / "my_models.py"
    file.write_text(
        "import torch\n"
        "from accum_lib.memory.workloads import mlp_workload, of_model\n"
        "from accum_lib.losses import classification_loss_sum\n"
        "def own():\n"
        "    return of_model(torch.nn.Linear(64, 10), mlp_workload().make_batch, classification_loss_sum)\n"
        "class Branches(torch.nn.Linear):\n"
        "    def forward(self, x):\n"
        "        y = super().forward(x)\n"
        "        return y.exp() if y.sum() > 0 else y\n"
        "def branches():\n"
        "    return of_model(Branches(64, 10), mlp_workload().make_batch, classification_loss_sum)\n"
    )
    assert main(["plan", "--model", f"{file}:own", "--gpu", "8GB", "--batch", "100"]) == 0
    assert "K = 1" in capsys.readouterr().out
    assert main(["plan", "--model", f"{file}:branches", "--gpu", "8GB", "--batch", "100"]) == 2
    said = capsys.readouterr().err
    assert "my_models.py:9" in said
    assert "data-dependent control flow" in said
    file = tmp_path / "failing_models.py"
    file.write_text("def own():\n    raise RuntimeError('no weights here')\n")
    assert main(["plan", "--model", f"{file}:own", "--gpu", "8GB", "--batch", "100"]) == 2
    assert "failed with RuntimeError: no weights here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "gpt5", "--gpu", "T4", "--batch", "8"], "no model 'gpt5' is known"),
        (["--model", "gpt2", "--gpu", "T9", "--batch", "8"], "no card 'T9' is known"),
        (["--model", "gpt2", "--gpu", "T4", "--batch", "0"], "must be from 1 to"),
    ],
)
def test_what_cannot_be_planned_exits_with_2_and_says_why(words, message, capsys) -> None:
    assert main(["plan", *words]) == 2
    assert message in capsys.readouterr().err


def test_an_error_that_was_not_foreseen_is_one_sentence(tmp_path, capsys, monkeypatch) -> None:
    """In code of one's own, or below it; and the traceback is there for the asking."""
    (tmp_path / "my_case.py").write_text("def made():\n    return {}['key']\n")
    monkeypatch.chdir(tmp_path)
    words = ["check", "accum_lib.check.faults.loops:right", "--case", "my_case:made"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said == "error: KeyError: 'key' (not foreseen; ACCUM_TRACEBACK=1 before the command shows where)\n"
    monkeypatch.setenv("ACCUM_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(words)
    assert main(["plan", "--model", "my_case:made", "--gpu", "T4", "--batch", "8"]) == 2
    assert capsys.readouterr().err == "error: my_case:made failed with KeyError: 'key'\n"


def test_a_reader_that_has_enough_is_no_error(monkeypatch, capsys) -> None:
    """As in accum check ... | head."""

    class Closed:
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        flush = close = lambda self: None

    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["check", f"{LOOPS}:right"]) == 141
    print("goes nowhere")
    assert capsys.readouterr().err == ""
