"""Python programs as copies of one process that has loaded PyTorch: what takes longest is done once."""

import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from accum_lib.machine import copies

HEAVY = "tests.heavy"  # seen from the project's folder, in which pytest runs


def python(
    *command: str | Path, env: dict[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run([sys.executable, *command], capture_output=True, text=True)``, mostly.

    Args:
        command: a script and its arguments, or ``-m`` and a module, or ``-c`` and code.
        env: of the program; None for that of this process.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        arguments = [str(each) for each in command]
        environment = dict(os.environ if env is None else env)
        process = copies(HEAVY).Process(
            target=_run, args=(arguments, environment, os.getcwd(), str(out), str(err))
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, timeout)
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def _run(command: list[str], environment: dict[str, str], folder: str, out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    _move(environment, folder)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    try:
        _as_main(*command)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None


def _move(environment: dict[str, str], folder: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)


def _as_main(what: str, *arguments: str) -> None:
    if what == "-c":
        sys.argv = [what, *arguments[1:]]
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    elif what == "-m":
        sys.argv = list(arguments)
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [what, *arguments]
        sys.path.insert(0, os.path.dirname(what))
        runpy.run_path(what, run_name="__main__")


class Kernel:
    """A kernel of Jupyter as such a copy, with what ``subprocess.Popen`` offers to whoever manages it."""

    stdin = stdout = stderr = None

    def __init__(
        self, command: list[str], env: dict[str, str] | None = None, cwd: str | None = None, **_
    ) -> None:
        context = copies(HEAVY)
        ready = context.Event()
        place = cwd or os.getcwd()
        self._process = context.Process(
            target=_run_kernel,
            args=([*command[1:], "--log-level=ERROR"], dict(env or os.environ), place, ready),
        )
        self._process.start()
        ready.wait()  # until then it is in the group of the process that is copied, and so are signals to it
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _run_kernel(command: list[str], environment: dict[str, str], folder: str, ready) -> None:
    os.setsid()
    _move({**environment, "JPY_PARENT_PID": str(os.getppid())}, folder)
    ready.set()
    _as_main(*command)
