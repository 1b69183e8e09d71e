"""Ctrl-C at chosen moments: the signal comes when a module is looked for, or when a function is called."""

import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import product

import pytest
from processes import python

FOREGROUND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # wherever tests run
PROGRAM = """
import importlib, os, signal, sys

moment = sys.argv.pop(1)
module, _, place = moment.partition(":")

class WhenLookedFor:
    @staticmethod
    def find_spec(name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

def when_called(*_, **__):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        list(range(9))
    except Exception:
        pass

if place:
    *owners, name = place.split(".")
    owner = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    setattr(owner, name, when_called)
else:
    sys.meta_path.insert(0, WhenLookedFor)

from accum_lib.__main__ import main
sys.exit(main())
"""
LOOP = "accum_lib.check.faults.loops:right"
COMMANDS = {
    "train": [
        "train",
        "--output",
        "out",
        "--data",
        "mine.csv",
        "--quiet",
        "--max-updates",
        "1",
        "--device",
        "cpu",
    ],
    "plan": ["plan", "--model", "roberta-base", "--gpu", "T4", "--batch", "8"],
    "check": ["check", LOOP],
    "predict": ["predict", "out/model"],
    "scoreboard": ["scoreboard"],
}
IMPORTS = ("accum_lib.cli.plan", "torch", "torch.autograd", "numpy", "transformers")
FROM_SCRATCH = "interrupted: nothing was saved yet, so the same command starts from scratch"
GOES_ON = "interrupted: the same command with --resume goes on from the last checkpoint"
CALLS = {
    "accum_lib.training.data.sources:load_data": ("train", FROM_SCRATCH),
    "accum_lib.training.trainer:Trainer._one_window": ("train", FROM_SCRATCH),
    "accum_lib.training.saving.checkpoints:_write": ("train", FROM_SCRATCH),
    "accum_lib.training.models:export": ("train", GOES_ON),
    "accum_lib.memory.planner:plan": ("plan", "interrupted"),
    "accum_lib.check.faults.loops:right": ("check", "interrupted"),
    "accum_lib.training.predicting:load_classifier": ("predict", "interrupted"),
    "accum_lib.check.frameworks.scoreboard:scoreboard": ("scoreboard", "interrupted"),
}


def slow_but(default: set[str], moments: Iterable[tuple[str, ...]]) -> list:
    """Of these moments, those of the default run by their first word."""
    return [pytest.param(*each, marks=[] if each[0] in default else pytest.mark.slow) for each in moments]


def said(done: subprocess.CompletedProcess) -> str:
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("module", "command"),
    slow_but({"torch"}, [pair for pair in product(IMPORTS, COMMANDS) if pair != ("transformers", "check")]),
)
def test_in_an_import(module, command, tmp_path) -> None:
    words = [sys.executable, "-c", FOREGROUND + PROGRAM, module, *COMMANDS[command]]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    begun = command == "train" and module != "accum_lib.cli.plan"
    assert said(done) == f"{FROM_SCRATCH if begun else 'interrupted'}\n"


@pytest.mark.parametrize(
    ("place", "command", "text"),
    slow_but({*list(CALLS)[1:4], "accum_lib.check.faults.loops:right"}, [(p, *c) for p, c in CALLS.items()]),
)
def test_in_a_call(place, command, text, tmp_path, monkeypatch) -> None:
    rows = [f"text number {i},{'ab'[i % 2]}" for i in range(20)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows]))
    monkeypatch.chdir(tmp_path)
    assert said(python("-c", FOREGROUND + PROGRAM, place, *COMMANDS[command])) == f"{text}\n"


@pytest.mark.skipif(os.name == "nt", reason="a shell's own way")
def test_a_command_in_the_background_of_a_script_is_not_interrupted(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ACCUM_PROGRESS_FILE", str(tmp_path / "progress.json"))
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    words = [*ignoring, sys.executable, "-c", PROGRAM, "accum_lib.cli.plan", "progress"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_python_does_by_itself_is_seen(tmp_path) -> None:
    """The deliberately wrong one: without the handler there is a traceback."""
    program = FOREGROUND + PROGRAM.replace("sys.exit(main())", "sys.exit(main(sys.argv[1:]))")
    done = subprocess.run([sys.executable, "-c", program, "torch", *COMMANDS["check"]],
                          capture_output=True, text=True, cwd=tmp_path)  # fmt: skip
    assert "Traceback" in done.stderr
