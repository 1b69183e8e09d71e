"""The explorers' front end alone, on a stand-in for the host: one that is not Jupyter must do, too."""

import base64
import io
import pathlib

import pytest
from PIL import Image

from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.grid import STATIC, Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
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


MOMENTS = 11  # two updates of the explorer's three
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


@pytest.mark.parametrize("axis", ["xaxis", "yaxis"])
def test_a_grip_on_an_axis_moves_the_control_to_the_nearest_value(page, axis) -> None:
    """Values 1, 10, 100 on a logarithmic axis; the picture says which one it was drawn for."""

    def picture_of(size: int) -> Picture:
        spread = {"type": "log", "range": [-1, 3]}
        axes = {axis: theme.axis("size", (0.0, 1.0), **spread)}
        other = "yaxis" if axis == "xaxis" else "xaxis"
        layout = theme.layout(300, **axes, **{other: theme.axis("other", (0.0, 1.0), range=[0, 1])})
        return Picture(
            [theme.line([size], [size], "", "", theme.BLUE, "solid", "markers")], layout, f"size {size}"
        )

    dragged = GridExplorer([Control("size", "Size", (1, 10, 100), 1, axis=axis)], picture_of)
    dragged.fill()
    page.set_content("<!doctype html>")
    page.add_style_tag(path=STATIC / "grid.css")
    start(page, dragged, "resolves")
    grip = page.locator(".accum-grip")
    grip.wait_for()
    plot = page.locator(".accum-plot").bounding_box()
    seen = []
    for share in (0.74, 0.1, 0.5, 0.99):  # of the axis, from its low end: beside 100, 1, 10, beyond the last
        page.wait_for_timeout(50)  # a frame, after which the grip is where the picture has it
        box = grip.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        if axis == "xaxis":
            x = plot["x"] + 60 + share * (plot["width"] - 76)  # the margins of theme.layout
        else:
            y = plot["y"] + 40 + (1 - share) * (300 - 88)
        page.mouse.move(x, y)
        page.mouse.up()
        page.wait_for_timeout(50)
        seen.append(page.locator(".accum-summary").inner_text())
    assert seen == ["size 100", "size 1", "size 10", "size 100"]
    slider = page.locator("[data-control=size]")
    assert slider.input_value() == "2", "the control goes along"
    slider.press("ArrowLeft")
    page.wait_for_timeout(100)
    assert page.locator(".accum-summary").inner_text() == "size 10", "and has the keyboard"


def test_the_moving_picture_of_the_front_page(page, tmp_path, request) -> None:
    """Each moment of one update, as the play button shows them; ``--pictures docs/pictures`` renews it."""
    folder = pathlib.Path(request.config.getoption("--pictures") or tmp_path)
    explorer = moments_explorer()
    explorer.fill()
    page.set_viewport_size({"width": 900, "height": 700})
    page.set_content("<!doctype html>")
    page.add_style_tag(path=STATIC / "grid.css")
    page.add_style_tag(content="body { margin: 12px; background: white } .accum { width: 876px }")
    start(page, explorer, "resolves")
    control = explorer.controls[0]
    frames = []
    for index in range(MOMENTS):
        page.locator(f"[data-control={control['name']}]").evaluate(
            "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", index
        )
        page.locator(f".accum-plot[data-setting^='{index}']").wait_for()
        frames.append(Image.open(io.BytesIO(page.locator(".accum").screenshot())).convert("RGB"))
    strip = Image.new("RGB", (frames[0].width, sum(frame.height for frame in frames)), "white")
    for index, frame in enumerate(frames):
        strip.paste(frame, (0, index * frames[0].height))
    colours = strip.quantize(32)  # one palette for all, as the format wants it
    frames = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    path = folder / "moments.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=900, loop=0, optimize=True)
    with Image.open(path) as picture:
        assert picture.n_frames == len(frames)
        assert len({frame.tobytes() for frame in frames}) > len(frames) // 2, "it moves"
    assert path.stat().st_size < 1_000_000
