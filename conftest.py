"""For every notebook that the tests run: the time it took, and the most memory that its kernel has held.

The limit on memory is a promise (Binder kills at 2 GB), so a cell that takes its notebook beyond it fails.
The time depends on the machine: it is printed and not tested.
"""

import gc
import os
import pathlib
import re
import tempfile
import time
import unittest.mock

import psutil
import pytest

LIMIT_BYTES = 1.5e9
BROWSER = "tests/browser/"
# Folders whose files share what is computed once: one JupyterLab and one Chromium, one scoreboard.
TOGETHER = (BROWSER, "tests/check/frameworks/")
# Notebooks in another language run the same code in other words, and the build runs all of them: the first
# is enough here, and one more in the slow run.
TRANSLATED = ("00_start_here", "02_equivalence")
MEASURED: dict[str, tuple[float, float]] = {}  # notebook: seconds in its cells, peak bytes of its kernel

# Models here are so small that a second thread costs more than it brings, above all beside another worker.
# Read when PyTorch is imported, here and in every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser) -> None:
    parser.addoption("--pictures", help="write the browser suite's pictures of the explorers to this folder")


def pytest_ignore_collect(collection_path, config) -> bool | None:
    executed = TRANSLATED if config.getoption("--hypothesis-profile") else TRANSLATED[:1]
    other_language = collection_path.suffix == ".ipynb" and collection_path.parent.parent.name == "notebooks"
    return True if other_language and collection_path.stem not in executed else None


def pytest_collection_modifyitems(items) -> None:
    """What takes longest comes first: a worker that begins with it last would leave the others idle."""
    items.sort(key=lambda item: [item.nodeid.startswith(BROWSER), ".ipynb" in item.nodeid], reverse=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With several workers, ``--dist loadfile`` takes such a folder for one file; the browser's begins first.

    So names of tests stay as they are, which they would not with groups (``--dist loadgroup``): ``--lf``
    finds them again, with workers and without.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class BrowserFirst(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = next((f for f in TOGETHER if nodeid.startswith(f)), None)
            return folder or super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # in the order of the items, not by the number of tests
    return BrowserFirst(config, log)


def pytest_collection_finish() -> None:
    """What is loaded stays loaded: a collection need not go through a million objects of PyTorch's again."""
    gc.freeze()


def pytest_configure(config) -> None:
    """No test writes into the reader's own progress: kernels and servers inherit the variable."""
    folder = tempfile.TemporaryDirectory(prefix="accum_progress_")
    os.environ["ACCUM_PROGRESS_FILE"] = str(pathlib.Path(folder.name) / "progress.json")
    config.add_cleanup(folder.cleanup)
    if config.getoption("--hypothesis-profile") is None and hasattr(os, "fork"):
        start_kernels_quickly(config)


def start_kernels_quickly(config) -> None:
    """Kernels are copies of one process that has loaded PyTorch; ``make test-all`` starts real ones."""
    from multiprocessing import forkserver

    from jupyter_client.provisioning import local_provisioner
    from processes import HEAVY, Kernel, copies

    patched = unittest.mock.patch.object(local_provisioner, "launch_kernel", Kernel)
    patched.start()
    config.add_cleanup(patched.stop)
    if hasattr(config, "workerinput"):  # it takes a while, in which tests can run
        copies(HEAVY)
        forkserver.ensure_running()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """A notebook's kernel starts with its first cell; only the slow run computes explorers' whole grids."""
    notebook = item.nodeid.partition("::")[0].endswith(".ipynb")
    if notebook and item.config.getoption("--hypothesis-profile") is None:
        with unittest.mock.patch.dict(os.environ, ACCUM_LEAN_GRID="1"):
            return (yield)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    kernel = getattr(item.parent, "kernel", None)
    if kernel is None:  # an ordinary test, not a notebook's cell
        return (yield)
    started = time.monotonic()
    result = yield
    name = item.parent.nodeid.removeprefix("notebooks/")  # zh/00_start_here.ipynb
    held = peak_bytes(kernel.km.provisioner.pid)
    item.user_properties.append(("notebook", (name, time.monotonic() - started, held)))
    if held > LIMIT_BYTES:
        pytest.fail(f"{name} has held {held / 1e9:.2f} GB; the limit is {LIMIT_BYTES / 1e9} GB")
    return result


def pytest_runtest_logreport(report) -> None:
    """Add up what the cells say: with several workers, here is where their reports come together."""
    for key, value in report.user_properties if report.when == "call" else ():
        if key == "notebook":
            name, seconds, held = value
            before, most = MEASURED.get(name, (0.0, 0.0))
            MEASURED[name] = before + seconds, max(most, held)


def peak_bytes(pid: int) -> float:
    """The most resident memory the process has had; where the system does not tell, what it has now."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return 1024 * float(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    except (OSError, TypeError):
        return psutil.Process(pid).memory_info().rss


def pytest_terminal_summary(terminalreporter) -> None:
    if MEASURED:
        terminalreporter.section("notebooks")
    for name, (seconds, held) in sorted(MEASURED.items()):
        terminalreporter.write_line(f"{name}: {seconds:.0f} s, at most {held / 1e9:.2f} GB resident")
