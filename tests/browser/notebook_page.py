"""A notebook in JupyterLab as a reader has it on the screen: run it, look at it, move its controls."""

import json
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator

LOCAL = ("127.0.0.1", "localhost", "")


class NotebookPage:
    """One notebook, open in a page of 1280 x 800, whose requests and errors are kept in lists."""

    def __init__(self, browser: Browser, lab: str, name: str) -> None:
        self.name, self._lab = name, lab
        self._context = browser.new_context(viewport={"width": 1280, "height": 800})
        self.page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.requests: list[str] = []
        self.page_errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        self.seconds_to_first_figure = self.seconds_to_run = float("nan")
        self.page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?reset", wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )

    def close(self) -> None:
        """Close the page and shut its kernel down."""
        for session in self._api("sessions"):
            request = urllib.request.Request(f"{self._lab}/api/sessions/{session['id']}", method="DELETE")
            urllib.request.urlopen(request).close()
        self._context.close()

    # --- Running

    def run_all(self, timeout: float = 180) -> None:
        """Run all cells, as the menu does, with none of the saved outputs left; note when a figure stood."""
        self.command("notebook:clear-all-cell-outputs")
        self.command("runmenu:run-all")
        started, first, end = time.monotonic(), None, time.monotonic() + timeout
        while time.monotonic() < end:
            if first is None and self.page.locator(".accum-plot .main-svg").count():
                first = time.monotonic() - started
            if self._finished():
                break
            time.sleep(0.05)
        else:
            raise TimeoutError(f"{self.name} was not through after {timeout} s")
        self.seconds_to_run = time.monotonic() - started
        self.wait_for_explorers()
        self.seconds_to_first_figure = first or time.monotonic() - started

    def wait_for_explorers(self) -> None:
        """Until every explorer that a cell has put out (a widget with a still picture) is drawn."""
        self.page.wait_for_function(
            """() => {
              const cells = window.jupyterapp.shell.currentWidget.content.widgets;
              const outputs = cells.filter((c) => c.model.type === 'code')
                .flatMap((c) => c.model.outputs.toJSON());
              const due = outputs.filter((o) => o.data && o.data['image/png']
                && o.data['application/vnd.jupyter.widget-view+json']).length;
              const plots = [...document.querySelectorAll('.accum-plot')];
              return plots.length === due && plots.every((p) => p.querySelector('.main-svg'));
            }""",
            timeout=30_000,
        )

    def command(self, name: str) -> None:
        """Start one of JupyterLab's own commands; a run's promise ends with the run, so it is not awaited."""
        self.page.evaluate("(name) => { window.jupyterapp.commands.execute(name); }", name)

    def run_new_cell(self, source: str) -> None:
        """Put a code cell at the end and start it."""
        self.page.evaluate(
            """(source) => {
              const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
              notebook.activeCellIndex = notebook.widgets.length - 1;
              app.commands.execute('notebook:insert-cell-below').then(() => {
                app.commands.execute('notebook:change-cell-to-code');
                notebook.activeCell.model.sharedModel.setSource(source);
                app.commands.execute('notebook:run-cell');
              });
            }""",
            source,
        )

    def delete_last_cell(self) -> None:
        self.page.evaluate(
            """() => {
              const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
              notebook.activeCellIndex = notebook.widgets.length - 1;
              return app.commands.execute('notebook:delete-cell');
            }"""
        )

    def _finished(self) -> bool:
        """Every code cell has been run and none waits: prompts read [7] and not [*]."""
        prompts = self.page.evaluate(
            """() => {
              const panel = window.jupyterapp.shell.currentWidget;
              const cells = [...panel.content.widgets].filter((c) => c.model.type === 'code');
              return cells.map((c) => [c.model.executionCount, c.model.executionState]);
            }"""
        )
        return all(count is not None and state != "running" for count, state in prompts)

    def _api(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._lab}/api/{path}") as answer:
            return json.load(answer)

    # --- Looking

    def error_outputs(self) -> list[str]:
        """The text of every error that a cell shows."""
        return self.page.evaluate(
            """() => {
              const cells = window.jupyterapp.shell.currentWidget.content.widgets;
              const outputs = cells.filter((c) => c.model.type === 'code')
                .flatMap((c) => c.model.outputs.toJSON());
              return outputs.filter((o) => o.output_type === 'error').map((o) => `${o.ename}: ${o.evalue}`);
            }"""
        )

    def requests_off_the_machine(self) -> list[str]:
        return [u for u in self.requests if (urlsplit(u).hostname or "") not in LOCAL]

    def explorers(self) -> list["ExplorerOnPage"]:
        roots = self.page.locator(".accum")
        return [ExplorerOnPage(self, roots.nth(i)) for i in range(roots.count())]


class ExplorerOnPage:
    """One explorer: its controls by name, the data that Plotly has drawn, its words."""

    def __init__(self, notebook: NotebookPage, root: Locator) -> None:
        self.notebook, self.root = notebook, root
        root.scroll_into_view_if_needed()

    def controls(self) -> list[str]:
        names = self.root.locator("[data-control]").evaluate_all("es => es.map(e => e.dataset.control)")
        return list(dict.fromkeys(names))

    def inputs(self, control: str) -> Locator:
        """One range input, or one radio button for each choice."""
        return self.root.locator(f"[data-control='{control}']")

    def is_slider(self, control: str) -> bool:
        return self.inputs(control).first.get_attribute("type") == "range"

    def positions(self, control: str) -> int:
        if self.is_slider(control):
            return int(self.inputs(control).get_attribute("max")) + 1
        return self.inputs(control).count()

    def position(self, control: str) -> int:
        if self.is_slider(control):
            return int(self.inputs(control).input_value())
        checked = self.inputs(control).evaluate_all("es => es.map(e => e.checked)")
        return checked.index(True)

    def press(self, control: str, key: str) -> None:
        """Press a key on the control, and wait until its effect is on the screen."""
        target = self.inputs(control).first
        if not self.is_slider(control):
            target = self.inputs(control).nth(self.position(control))
        target.focus()
        self.notebook.page.keyboard.press(key)
        self.settle()

    def click(self, control: str, position: int) -> None:
        """Click where the control's value ``position`` lies."""
        if self.is_slider(control):
            slider = self.inputs(control)
            self.wait_until_at_rest(slider)
            box, last = slider.bounding_box(), self.positions(control) - 1
            thumb = 16  # the thumb's centre stops half its width before either end
            x = box["x"] + thumb / 2 + (box["width"] - thumb) * position / last
            self.notebook.page.mouse.click(x, box["y"] + box["height"] / 2)
        else:
            self.inputs(control).nth(position).click()
        self.settle()

    def wait_until_at_rest(self, slider: Locator) -> None:
        """In view, under the pointer, and not moved for three frames: JupyterLab still lays cells out."""
        slider.scroll_into_view_if_needed()
        slider.evaluate(
            """async (slider) => {
                 const frame = () => new Promise(requestAnimationFrame);
                 for (let still = 0, before = null, n = 0; still < 3 && n < 600; n += 1) {
                   const { x, y, width, height } = slider.getBoundingClientRect();
                   const hit = document.elementFromPoint(x + width / 2, y + height / 2) === slider;
                   still = hit && before === `${x},${y}` ? still + 1 : 0;
                   before = `${x},${y}`;
                   await frame();
                 }
               }"""
        )

    def settle(self) -> None:
        """Until what is drawn is what the controls say."""
        setting = ",".join(str(self.position(control)) for control in self.controls())
        self.root.locator(f".accum-plot[data-setting='{setting}']").wait_for(state="attached")

    def plotted(self) -> list[dict[str, Any]]:
        """The traces that Plotly holds, numbers as lists."""
        return self.root.locator(".accum-plot").evaluate(
            """plot => plot.data.map((trace) => Object.fromEntries(Object.entries(trace).map(
                 ([k, v]) => [k, ArrayBuffer.isView(v) ? Array.from(v) : v])))"""
        )

    def drawn_as_if_new(self) -> bool:
        """Whether its lines and markers are those of a new figure with the same data, to a hundredth."""
        return self.root.locator(".accum-plot").evaluate(
            """async (plot) => {
                 const drawn = (p) => [...p.querySelectorAll('.cartesianlayer .overplot path')].map((path) =>
                   (path.getAttribute('d') + path.getAttribute('transform')).replace(
                     /-?[0-9.]+/g, (number) => Math.round(100 * number) / 100)).join();
                 const fresh = document.createElement('div');
                 fresh.style.cssText = 'position: absolute; left: -9999px';
                 const { width, height } = plot._fullLayout;
                 document.body.append(fresh);
                 const { newPlot } = globalThis.__accumPlotly;
                 const layout = { ...plot.layout, width, height };
                 await newPlot(fresh, plot.data, layout, { displayModeBar: false });
                 const same = drawn(plot) !== '' && drawn(plot) === drawn(fresh);
                 globalThis.__accumPlotly.purge(fresh);
                 fresh.remove();
                 return same;
               }"""
        )

    def axes(self) -> dict[str, tuple[float, float, list[str]]]:
        """Each axis's range as Plotly has it, and the labels that stand at its ticks."""
        return self.root.locator(".accum-plot").evaluate(
            """plot => Object.fromEntries(Object.entries(plot._fullLayout)
                 .filter(([k]) => /^[xy]axis\\d*$/.test(k)).map(([k, axis]) => {
                   const labels = [...plot.querySelectorAll(`.${axis._id}tick text`)];
                   return [k, [...axis.range, labels.map((t) => t.textContent)]]; }))"""
        )

    def facts(self) -> dict[str, Any]:
        """The measurements that the picture says it was made from."""
        return self.root.locator(".accum-plot").evaluate("plot => plot.layout.meta.facts")

    def summary(self) -> str:
        """Its words, also where JupyterLab does not render them since they are off the screen."""
        return self.root.locator(".accum-summary").text_content() or ""

    def is_error(self) -> bool:
        return self.root.locator(".accum-summary.accum-error").count() > 0

    def status(self) -> str:
        return self.root.locator(".accum-status").text_content() or ""
