"""`make present` in Chromium: the notebooks with their controls, run by a kernel, without their code."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from accessibility import axe
from nbconvert.exporters import HTMLExporter
from notebook_page import LOCAL, ExplorerOnPage
from server import free_port, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def stage(chromium, tmp_path_factory):
    """The address at which `make present` shows the notebooks; what it installs is here already."""
    port, log = free_port(), tmp_path_factory.mktemp("present") / "present.log"
    command = [
        "make", "-o", ".venv/lab", "-o", ".venv/present", "present",
        f"BIN={pathlib.Path(sys.executable).parent}",
        f"PRESENT_FLAGS=--no-browser --port={port} --Voila.port_retries=0",
    ]  # fmt: skip
    with open(log, "w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)


class Presented:
    """A page of the presentation view, whose requests and complaints are kept in lists."""

    def __init__(self, browser, url: str | None = None) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 800})
        self.page, self.requests, self.complaints = self.context.new_page(), [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)
        if url:
            self.page.goto(url, timeout=180_000)

    def _note(self, message) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def requests_off_the_machine(self) -> list[str]:
        return [u for u in self.requests if u.startswith("http") and not _is_local(u)]

    def code_shown(self, notebook: nbformat.NotebookNode) -> list[str]:
        """Lines of the notebook's code cells that stand on the page."""
        words = " ".join(self.page.locator("body").inner_text().split())
        cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        return [line for source in cells for line in source.split("\n") if len(line) > 25 and line in words]

    def explorers(self) -> list[ExplorerOnPage]:
        self.page.locator(".accum-plot .main-svg").first.wait_for(state="attached")
        roots = self.page.locator(".accum")
        return [ExplorerOnPage(self, roots.nth(i)) for i in range(roots.count())]


def _is_local(url: str) -> bool:
    return url.split("/")[2].split(":")[0] in LOCAL


@pytest.fixture
def present(browser):
    pages = []

    def opened(url: str | None = None) -> Presented:
        pages.append(Presented(browser, url))
        return pages[-1]

    yield opened
    for page in pages:
        page.context.close()


def test_the_first_page_leads_to_every_notebook(stage, present) -> None:
    shown = present(f"{stage}/")
    links = shown.page.locator("a").evaluate_all("links => links.map((a) => a.getAttribute('href'))")
    assert links == ["/voila/tree/zh", *(f"/voila/render/{name}.ipynb" for name in NOTEBOOKS)]
    shown.page.get_by_text("简体中文").click()
    assert shown.page.get_by_role("heading").inner_text() == "梯度累积"
    links = shown.page.locator("a").evaluate_all("links => links.map((a) => a.getAttribute('href'))")
    assert links == ["/", *(f"/voila/render/zh/{name}.ipynb" for name in NOTEBOOKS)]
    assert shown.complaints == []
    assert shown.requests_off_the_machine() == []
    assert axe(shown.page) == []


@pytest.mark.parametrize("name", ["00_start_here", pytest.param("04_memory", marks=pytest.mark.slow)])
def test_a_notebook_works_and_shows_no_code(stage, present, name) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    shown = present(f"{stage}/voila/render/{name}.ipynb")
    for explorer in shown.explorers():
        move_every_slider(explorer)
    assert shown.page.locator("h2").count() == sum(
        cell.source.count("\n## ") for cell in notebook.cells
    ) + sum(cell.source.startswith("## ") for cell in notebook.cells)
    assert shown.code_shown(notebook) == []
    assert "Not yet:" not in shown.page.content(), "a check's verdict on a blank is nothing to show"
    predict(shown)
    assert shown.complaints == []
    assert shown.requests_off_the_machine() == []
    leave(shown, stage)


def leave(shown: Presented, stage: str) -> None:
    """The kernel ends with its page: several notebooks would not fit into memory together."""
    config = json.loads(shown.page.locator("#jupyter-config-data").text_content() or "")
    kernel = f"{stage}/api/kernels/{config['kernelId']}"
    assert shown.page.request.get(kernel).status == 200
    shown.page.goto(f"{stage}/")
    end = time.monotonic() + 20
    while shown.page.request.get(kernel).ok and time.monotonic() < end:
        time.sleep(0.2)
    assert shown.page.request.get(kernel).status == 404


def move_every_slider(explorer: ExplorerOnPage) -> None:
    for control in [c for c in explorer.controls() if explorer.is_slider(c)]:
        before = explorer.plotted()
        explorer.press(control, "Home" if explorer.position(control) else "End")
        assert explorer.plotted() != before, control
        assert not explorer.is_error()


def predict(shown: Presented) -> None:
    """The kernel behind the page answers."""
    box = shown.page.locator(".widget-vbox:has(> .widget-radio)").first
    box.locator("input[type=radio]").first.check()
    box.get_by_role("button", name="Show what happens").click()
    box.locator("[role=status]").wait_for()
    assert box.locator("[role=status]").inner_text().startswith(("As you predicted.", "It is: "))


def test_code_a_complaint_and_a_request_would_be_noticed(present) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    shown = present()
    shown.context.set_offline(True)  # such a page asks for MathJax
    shown.page.set_content(HTMLExporter().from_notebook_node(notebook)[0], wait_until="domcontentloaded")
    assert "explorer = moments_explorer()" in shown.code_shown(notebook)
    shown.page.evaluate("() => { console.error('no'); fetch('http://192.0.2.1/').catch(() => 0); }")
    assert "no" in shown.complaints
    assert "http://192.0.2.1/" in shown.requests_off_the_machine()
