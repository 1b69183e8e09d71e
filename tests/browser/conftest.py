"""JupyterLab on this machine, and Chromium to look at it, with every request written down.

Without a Chromium the whole suite skips, loudly; where ``ACCUM_REQUIRE_BROWSER`` is set (in CI) it fails.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import gallery
import nbformat
import pytest
from meter import Meter
from nbformat.v4 import new_code_cell, new_notebook
from notebook_page import NotebookPage
from playwright.sync_api import sync_playwright
from server import free_port, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
SMOKE = (
    "00_start_here"  # of the real notebooks, the one that is always opened; the others take `make test-all`
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium():
    path = os.environ.get("CHROMIUM") or next((p for n in NAMES if (p := shutil.which(n))), None)
    if path:
        return path
    message = "no Chromium was found: install it, or name it in the variable CHROMIUM"
    if os.environ.get("ACCUM_REQUIRE_BROWSER"):
        pytest.fail(message)
    pytest.skip(f"BROWSER TESTS DID NOT RUN: {message}")


@pytest.fixture(scope="session")
def computed(tmp_path_factory) -> pathlib.Path:
    """Where the gallery's kernel leaves what the library has computed for each explorer."""
    return tmp_path_factory.mktemp("computed")


@pytest.fixture(scope="session")
def lab(computed, tmp_path_factory):
    """The address of a JupyterLab that serves a copy of the notebooks, so that a test changes none."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(
        ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    nbformat.write(gallery_notebook(computed), home / "notebooks" / "gallery.ipynb")
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
        "--LabApp.expose_app_in_browser=True",
        "--ServerApp.port_retries=0", "--ServerApp.disable_check_xsrf=True",
        "--IdentityProvider.token=", "--ServerApp.password=",
        f"--ServerApp.root_dir={home}", f"--LabApp.user_settings_dir={home / 'settings'}",
        f"--LabApp.workspaces_dir={home / 'workspaces'}",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_CONFIG_PATH": str(ROOT / "tools" / "jupyter"),
    }
    with open(home / "jupyter.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=home)
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(f"{address}/api", server, home / "jupyter.log")
            yield address
        finally:
            server.terminate()
            server.wait(20)


def gallery_notebook(computed: pathlib.Path) -> nbformat.NotebookNode:
    """Every explorer and every question on small inputs, each in a cell of its own."""
    begin = f"import sys\nsys.path.insert(0, {str(ROOT / 'tests')!r})\nimport gallery"
    few = "for each in gallery.SMALL:\n    setattr(*each)"
    few += "\nimport os, torch\ntorch.set_num_threads(1)\nos.environ['ACCUM_LEAN_GRID'] = '1'"
    show = [f"gallery.show({name!r}, {str(computed)!r})" for name in gallery.EXPLORERS]
    ask = [f"gallery.ask({name!r})" for name in gallery.PREDICTIONS]
    return new_notebook(
        cells=[new_code_cell(source) for source in (begin, few, *show, *ask)],
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    )


@pytest.fixture(scope="session")
def browser(chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, headless=True)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def open_notebook(lab, browser):
    """``open_notebook(name)``: that notebook, opened and run; whichever was open before is closed."""
    opened = {}

    def open_once(name: str) -> NotebookPage:
        for other in [n for n in opened if n != name]:
            opened.pop(other).close()  # one kernel at a time: two cores are few
        if name not in opened:
            opened[name] = NotebookPage(browser, lab, name)
            opened[name].run_all()
        return opened[name]

    yield open_once
    for page in opened.values():
        page.close()


@pytest.fixture
def scratch(open_notebook):
    """A notebook with an extra cell at its end, in which a test runs what it wants."""
    notebook = open_notebook(SMOKE)
    before = len(notebook.explorers())

    def run(source: str):
        notebook.run_new_cell(source)
        notebook.page.wait_for_function(f"() => document.querySelectorAll('.accum').length > {before}")
        notebook.wait_for_explorers()
        return notebook, notebook.explorers()[-1]

    yield run
    notebook.delete_last_cell()


def slow_but(first: str, names: list[str]) -> list:
    """Parameters, of which all but one are for `make test-all`."""
    return [pytest.param(name, marks=() if name == first else pytest.mark.slow) for name in names]


@pytest.fixture(scope="session", params=slow_but(SMOKE, NOTEBOOKS))
def notebook(request, open_notebook):
    """Each notebook in turn; the session's scope lets pytest put together the tests of each."""
    return open_notebook(request.param)


@pytest.fixture(scope="session")
def meter(pytestconfig):
    """Collects how long the reader waited; printed at the end, never asserted."""
    pytestconfig.stash[METER] = Meter()
    return pytestconfig.stash[METER]


METER = pytest.StashKey[Meter]()


def pytest_terminal_summary(terminalreporter, config):
    if METER in config.stash:
        config.stash[METER].print(terminalreporter)
