"""The explorers' front end alone, on a stand-in for the host: one that is not Jupyter must do, too."""

import base64

import pytest

from accum_lib.lessons.kit.grid import STATIC, GridExplorer
from accum_lib.lessons.three_descents.explorer import moments_explorer

SOURCE = (STATIC / "grid.js").read_text(encoding="utf-8")
TRAITS = ("controls", "words", "figure", "cells", "selection", "status", "complete", "computing")
# What each host does when one widget asks for another: null has no way to ask at all.
HOSTS = {
    "resolves": "{get_model: async () => ({get: () => bytes(given.plotly)})}",
    "has no references": "undefined",
    "rejects": "{get_model: async (id) => { throw new Error(`no model ${id}`); }}",
    "has lost it": "{get_model: async () => ({get: () => undefined})}",
    "never answers": "{get_model: () => new Promise(() => {})}",
}
RUN = """async (given) => {
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const state = {...given.state, numbers: bytes(given.numbers), plotly: "IPY_MODEL_1"};
  const hooks = {};
  window.sent = [];
  const model = {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; },
    save_changes() {},
    on: (name, hook) => { (hooks[name] ||= []).push(hook); },
    off: (name, hook) => { hooks[name] = (hooks[name] || []).filter((each) => each !== hook); },
    send: (message) => {
      window.sent.push(message);
      for (const hook of hooks["msg:custom"] || []) hook({type: message.type}, [bytes(given.plotly)]);
    },
    widget_manager: HOST,
  };
  const url = URL.createObjectURL(new Blob([given.source], {type: "text/javascript"}));
  const {default: front} = await import(url);
  const el = document.createElement("div");
  document.body.append(el);
  front.render({model, el});
}"""


@pytest.fixture(scope="module")
def explorer() -> GridExplorer:
    return moments_explorer()


@pytest.fixture
def page(browser):
    context = browser.new_context()
    context.set_offline(True)
    yield context.new_page()
    context.close()


def start(page, explorer: GridExplorer, host: str, source: str = SOURCE) -> list[str]:
    """Render the explorer's first setting; collects what the page complains of."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    if host == "never answers":
        page.clock.install()
    given = {
        "source": source,
        "state": {name: getattr(explorer, name) for name in TRAITS},
        "numbers": base64.b64encode(explorer.numbers).decode(),
        "plotly": base64.b64encode(explorer.plotly.source).decode(),
    }
    page.evaluate(RUN.replace("HOST", HOSTS[host]), given)
    return complaints


DRAWN = ".accum-plot svg .trace"


@pytest.mark.parametrize("host", HOSTS)
def test_the_first_figure_is_drawn_whatever_the_host_makes_of_references(page, explorer, host) -> None:
    complaints = start(page, explorer, host)
    if host == "never answers":
        page.wait_for_timeout(300)
        assert not page.locator(DRAWN).count()
        page.clock.run_for(11_000)
    page.locator(DRAWN).first.wait_for(state="attached")
    assert complaints == []
    assert page.evaluate("window.sent") == ([] if host == "resolves" else [{"type": "plotly"}])
    assert page.locator(".accum-summary").inner_text() == explorer.picture().summary


def test_without_the_message_nothing_would_be_drawn(page, explorer) -> None:
    alone = SOURCE.replace("first || Promise.any([shared, fromKernel(model)])", "first || shared")
    assert alone != SOURCE
    start(page, explorer, "rejects", alone)
    page.locator(".accum-status", has_text="no model 1").wait_for()
    assert not page.locator(DRAWN).count()


def test_the_kernel_answers_with_plotly(explorer, monkeypatch) -> None:
    sent = []
    monkeypatch.setattr(explorer, "send", lambda content, buffers: sent.append((content, buffers)))
    explorer._on_message(explorer, {"type": "other"}, [])
    assert sent == []
    explorer._on_message(explorer, {"type": "plotly"}, [])
    assert sent == [({"type": "plotly"}, [explorer.plotly.source])]
