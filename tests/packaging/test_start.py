"""start.py: what it runs and says, with every process replaced; on Windows, too."""

import ast
import pathlib
import sys

import pytest

import start

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ("requirements.txt", "requirements-dev.txt", "constraints.txt", "pyproject.toml")


class Machine:
    """Stands in for the processes: keeps their commands, and lets those fail that hold a certain word."""

    def __init__(self, monkeypatch, clone: pathlib.Path, windows: bool) -> None:
        self.commands: list[list[str]] = []
        self.fails: tuple[str, ...] = ()
        self.interpreter = "Scripts/python.exe" if windows else "bin/python"
        self.environments: list[dict[str, str]] = []
        monkeypatch.setattr(start, "ROOT", clone)
        monkeypatch.setattr(start, "WINDOWS", windows)
        monkeypatch.setattr(start.subprocess, "call", self.make)
        monkeypatch.setattr(start.subprocess, "Popen", self.popen)
        for name in ("ACCUM_VENV", "ACCUM_LANGUAGE", "LAB_FLAGS", "WORKERS"):
            monkeypatch.delenv(name, raising=False)

    def make(self, command):
        self.commands.append(command)
        file = pathlib.Path(command[-1]) / self.interpreter
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        (pathlib.Path(command[-1]) / "pyvenv.cfg").touch()
        return 0

    def popen(self, command, cwd, env, **_):
        assert cwd == start.ROOT
        self.commands.append(command)
        self.environments.append(env)
        code = int(any(word in " ".join(command) for word in self.fails))
        return type("Child", (), {"wait": lambda self: code})()

    def said(self) -> str:
        return "\n".join(" ".join(command) for command in self.commands)


@pytest.fixture(params=[False, True], ids=["posix", "windows"])
def machine(request, tmp_path, monkeypatch):
    clone = tmp_path / "Übung und Löwe"  # a space and umlauts
    (clone / "notebooks" / "zh").mkdir(parents=True)
    for folder in (clone / "notebooks", clone / "notebooks" / "zh"):
        (folder / "00_start_here.ipynb").touch()
    for name in NAMES:
        (clone / name).write_bytes((ROOT / name).read_bytes())
    return Machine(monkeypatch, clone, request.param)


def test_lab_sets_up_with_torch_first_and_opens_the_first_notebook(machine) -> None:
    assert start.main(["lab"]) == 0
    said = machine.said()
    order = [
        "-m venv",
        "--no-deps torch==",
        "uv pip install",
        "constraints.txt torch==",
        "-e .",
        "-m jupyterlab --LabApp.default_url=/doc/tree/notebooks/00_start_here.ipynb",
    ]
    assert [said.index(part) for part in order] == sorted(said.index(part) for part in order)
    inside = str(start.ROOT / ".venv" / machine.interpreter)
    assert {command[0] for command in machine.commands[1:]} == {inside}
    assert machine.environments[-1]["PATH"].startswith(str(pathlib.Path(inside).parent))


def test_the_second_run_installs_nothing(machine) -> None:
    start.main(["lab"])
    machine.commands.clear()
    start.main(["lab"])
    assert " install " not in machine.said()
    assert "-m venv" not in machine.said()
    (start.ROOT / "requirements.txt").write_text("torch==2.13.0\nnumpy==9\n")
    start.main(["lab"])
    assert " install " in machine.said(), "what is required has changed"


@pytest.mark.parametrize(
    "place", ["--no-deps torch==", "-r hashes/lab.txt", "-c constraints.txt torch==", "-e ."]
)
def test_a_set_up_that_was_interrupted_is_taken_up_again(machine, place) -> None:
    machine.fails = (place,)
    with pytest.raises(SystemExit) as ended:
        start.main(["set-up", "lab"])
    assert ended.value.code == 1
    assert not (start.ROOT / ".venv" / "lab").exists()
    machine.fails = ()
    machine.commands.clear()
    assert start.main(["set-up", "lab"]) == 0
    assert "-m venv" not in machine.said(), "what was done is kept"
    assert place in machine.said()


def test_a_half_made_environment_is_made_again(machine) -> None:
    (start.ROOT / ".venv").mkdir()
    (start.ROOT / ".venv" / "pyvenv.cfg").touch()
    start.main(["set-up", "lab"])
    assert "-m venv --clear" in machine.said()


def test_an_environment_whose_python_does_not_start_is_made_again(machine) -> None:
    start.main(["set-up", "lab"])
    machine.commands.clear()
    machine.fails = ("-m pip --version",)
    start.make(start.ROOT / ".venv")
    assert "-m venv --clear" in machine.said()


def test_a_folder_with_something_else_is_left_alone(machine, monkeypatch, tmp_path, capsys) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    monkeypatch.setenv("ACCUM_VENV", str(tmp_path / "mine"))
    with pytest.raises(SystemExit):
        start.main(["lab"])
    assert "holds something else: move it away" in capsys.readouterr().err
    assert machine.commands == []


def test_without_uv_pip_does_it(machine) -> None:
    machine.fails = ("-m uv", "hashes/uv.txt")
    assert start.main(["set-up", "lab"]) == 0
    assert "-m pip install --quiet --no-deps --require-hashes -r hashes/lab.txt" in machine.said()


def test_test_checks_first_and_does_not_go_on_after_a_fault(machine) -> None:
    assert start.main(["test"]) == 0
    said = machine.said()
    assert said.index("hashes/test.txt") < said.index("-m ruff") < said.index("-m pytest")
    machine.commands.clear()
    machine.fails = ("-m mypy",)
    with pytest.raises(SystemExit):
        start.main(["test"])
    assert "-m pytest" not in machine.said()
    machine.fails = ("-m pytest",)
    assert start.main(["test-all"]) == 1
    assert "slow or not slow" in machine.said()


def test_the_notebooks_of_a_language(machine, monkeypatch, capsys) -> None:
    monkeypatch.setenv("ACCUM_LANGUAGE", "zh")
    start.main(["lab"])
    assert "/doc/tree/notebooks/zh/00_start_here.ipynb" in machine.said()
    monkeypatch.setenv("ACCUM_LANGUAGE", "tlh")
    with pytest.raises(SystemExit):
        start.main(["lab"])
    assert "no notebooks in the language 'tlh': take en or zh" in capsys.readouterr().err


def test_in_a_read_only_clone_it_lies_elsewhere(machine, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(start.os, "access", lambda *_: False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    start.main(["set-up", "lab"])
    assert "is read-only: the virtual environment is in" in capsys.readouterr().out
    assert list((tmp_path / "data" / "accum_lib").glob("venv-*/lab"))
    assert not (start.ROOT / ".venv").exists()


def test_an_old_python_is_told(monkeypatch, capsys) -> None:
    monkeypatch.setattr(start.sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit):
        start.main(["lab"])
    assert "Python 3.11 or newer is needed" in capsys.readouterr().err


def test_a_word_that_is_no_task_shows_what_there_is(capsys) -> None:
    assert start.main(["party"]) == 2
    assert "python start.py lab" in capsys.readouterr().out


def imported(source: str) -> set[str]:
    return {a.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import) for a in n.names}


def test_it_needs_the_standard_library_alone_and_an_old_python_can_read_it() -> None:
    source = (ROOT / "start.py").read_text(encoding="utf-8")
    assert imported(source) <= set(sys.stdlib_module_names)
    assert not imported("import numpy") <= set(sys.stdlib_module_names)
    ast.parse(source, feature_version=(3, 7))
    assert len(source.splitlines()) <= 230
