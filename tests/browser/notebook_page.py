"""A notebook in JupyterLab as a reader has it on the screen: run it, look at it, move its controls."""

import base64
import json
import time
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from playwright.sync_api import Browser, Locator

OUTPUTS = ".jp-OutputArea-output:has(> *)"
QUESTIONS = ".widget-vbox:has(> .widget-radio)"
LOCAL = ("127.0.0.1", "localhost", "")
# Waits until what is drawn is what the controls say, then tells all that there is to see in one answer.
# Numbers that are an array in the page travel as bytes, since JSON cannot say NaN.
LOOK = """
async (root, patience) => {
  const plot = root.querySelector('.accum-plot'), summary = root.querySelector('.accum-summary');
  const positions = () => {
    const at = {}, seen = {};
    for (const input of root.querySelectorAll('[data-control]')) {
      const name = input.dataset.control;
      const number = seen[name] = (seen[name] ?? -1) + 1;
      if (input.type === 'range') at[name] = Number(input.value);
      else if (input.checked) at[name] = number;
    }
    return at;
  };
  await new Promise((resolve, reject) => {
    const said = () => Object.values(positions()).join(',');
    const look = () => {
      if (plot.dataset.setting !== said()) return;
      clearTimeout(late);
      observer.disconnect();
      resolve();
    };
    const observer = new MutationObserver(look);
    const late = setTimeout(() => {
      observer.disconnect();
      reject(new Error(`the controls say ${said()}, and ${plot.dataset.setting} is drawn`));
    }, 1000 * patience);
    observer.observe(plot, { attributes: true, attributeFilter: ['data-setting'] });
    look();
  });
  const packed = (value) => {
    if (!ArrayBuffer.isView(value)) return value;
    const bytes = new Uint8Array(Float64Array.from(value).buffer);
    let text = '';
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return { float64: btoa(text) };
  };
  const axes = Object.entries(plot._fullLayout ?? {}).filter(([k]) => /^[xy]axis\\d*$/.test(k));
  return JSON.stringify({
    positions: positions(),
    focused: document.activeElement?.dataset?.control ?? null,
    summary: summary.textContent,
    error: summary.classList.contains('accum-error'),
    label: plot.getAttribute('aria-label'),
    fits: root.scrollWidth <= root.clientWidth,
    traces: (plot.data ?? []).map((trace) =>
      Object.fromEntries(Object.entries(trace).map(([k, v]) => [k, packed(v)]))),
    notes: (plot.layout?.annotations ?? []).map((note) => note.text),
    axes: Object.fromEntries(axes.map(([k, axis]) =>
      [k, [...axis.range, [...plot.querySelectorAll(`.${axis._id}tick text`)].map((t) => t.textContent)]])),
  });
}
"""


@dataclass(frozen=True)
class Seen:
    """An explorer at one moment, as it is on the screen.

    Attributes:
        positions: where each control is.
        focused: the control that has the keyboard, if one has.
        summary, label: the words under the picture, and those which a screen reader says for it.
        error: whether the words are those of a failure.
        fits: whether nothing is cut off.
        traces: those that Plotly holds.
        notes: the texts of the annotations.
        axes: each axis's range as Plotly has it, and the labels that stand at its ticks.
    """

    positions: dict[str, int]
    focused: str | None
    summary: str
    label: str | None
    error: bool
    fits: bool
    traces: list[dict[str, Any]]
    notes: list[str]
    axes: dict[str, tuple[float, float, list[str]]]


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"float64"}:
        return np.frombuffer(base64.b64decode(value["float64"]), "<f8")
    return value


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

    def run_all(self, timeout: float = 400) -> None:
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

    def explorer(self, number: int) -> "ExplorerOnPage":
        return ExplorerOnPage(self, self.page.locator(".accum").nth(number))


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
        self.focus(control)
        self.notebook.page.keyboard.press(key)
        self.settle()

    def focus(self, control: str) -> None:
        """Give it the keyboard; of radio buttons, the one that is checked."""
        slider = self.is_slider(control)
        self.inputs(control).nth(0 if slider else self.position(control)).focus()

    def click(self, control: str, position: int) -> None:
        """Click where the control's value ``position`` lies."""
        if self.is_slider(control):
            box, last = self.box_at_rest(self.inputs(control)), self.positions(control) - 1
            thumb = 16  # the thumb's centre stops half its width before either end
            x = box["x"] + thumb / 2 + (box["width"] - thumb) * position / last
            self.notebook.page.mouse.click(x, box["y"] + box["height"] / 2)
        else:
            self.inputs(control).nth(position).click()
        self.settle()

    def box_at_rest(self, slider: Locator) -> dict[str, float]:
        """Where it is in view, once it has not moved for three frames: JupyterLab still lays cells out."""
        return slider.evaluate(
            """async (slider) => {
                 const frame = () => new Promise(requestAnimationFrame);
                 slider.scrollIntoViewIfNeeded();
                 for (let still = 0, before = null, n = 0; still < 3 && n < 600; n += 1) {
                   const { x, y, width, height } = slider.getBoundingClientRect();
                   const hit = document.elementFromPoint(x + width / 2, y + height / 2) === slider;
                   still = hit && before === `${x},${y}` ? still + 1 : 0;
                   before = `${x},${y}`;
                   await frame();
                 }
                 const { x, y, width, height } = slider.getBoundingClientRect();
                 return { x, y, width, height };
               }"""
        )

    def put(self, control: str, position: int) -> None:
        """Set a control without keyboard or mouse, to go on from there."""
        self.inputs(control).evaluate_all(
            """(inputs, position) => {
                 const input = inputs.length > 1 ? inputs[position] : inputs[0];
                 if (inputs.length > 1) input.checked = true;
                 else input.value = position;
                 input.dispatchEvent(new Event('input', { bubbles: true }));
               }""",
            position,
        )
        self.settle()

    def look(self, patience: float = 20) -> Seen:
        """All that is to be seen, as soon as what is drawn is what the controls say.

        Raises:
            playwright.sync_api.Error: it was not after ``patience`` seconds.
        """
        found = json.loads(self.root.evaluate(LOOK, patience))
        traces = [{k: _unpacked(v) for k, v in trace.items()} for trace in found.pop("traces")]
        return Seen(traces=traces, **found)

    def settle(self) -> None:
        """Until what is drawn is what the controls say."""
        self.look()

    def plotted(self) -> list[dict[str, Any]]:
        """The traces that Plotly holds, numbers as lists."""
        return [
            {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in trace.items()}
            for trace in self.look().traces
        ]

    def drawn_as_if_new(self) -> bool:
        """Whether lines, markers, bars (to a hundredth), their colours and all words are a new figure's."""
        return self.root.locator(".accum-plot").evaluate(
            """async (plot) => {
                 const seen = (style) => /stroke-width: 0px/.test(style) // a line of no width has no colour
                   ? style.replace(/ ?stroke(-opacity)?: [^;]*;/g, '') : style;
                 const drawn = (p) => [
                   ...[...p.querySelectorAll('.cartesianlayer .overplot path, .legend path')]
                     .filter((path) => path.getAttribute('d') !== 'M0,0Z').map((path) =>
                     seen(['d', 'transform', 'style'].map((name) => path.getAttribute(name)).join()).replace(
                       /-?[0-9.]+/g, (number) => Math.round(100 * number) / 100)),
                   ...[...p.querySelectorAll('text')].map((text) => text.textContent).sort(), // in any order
                 ].join();
                 const fresh = document.createElement('div');
                 fresh.style.cssText = 'position: absolute; left: -9999px';
                 const { width, height } = plot._fullLayout;
                 document.body.append(fresh);
                 const { newPlot } = globalThis.__accumPlotly;
                 const layout = { ...plot.layout, width, height };
                 await newPlot(fresh, plot.data, layout, { displayModeBar: false });
                 const same = () => drawn(plot) !== '' && drawn(plot) === drawn(fresh);
                 for (let waits = 0; waits < 20 && !same(); waits++) // its last frame may be under way
                   await new Promise((resolve) => setTimeout(resolve, 50));
                 const result = same();
                 globalThis.__accumPlotly.purge(fresh);
                 fresh.remove();
                 return result;
               }"""
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
