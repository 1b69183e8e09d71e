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


def sized(control: Control) -> GridExplorer:
    """Every picture says which value it was drawn for; both axes are logarithmic, from 0.1 to 1000."""

    def picture_of(size: int) -> Picture:
        spread = {"type": "log", "range": [-1, 3]}
        layout = theme.layout(
            300,
            xaxis=theme.axis("size", (0.0, 1.0), **spread),
            yaxis=theme.axis("size", (0.0, 1.0), **spread),
        )
        return Picture(
            [theme.line([size], [size], "", "", theme.BLUE, "solid", "markers")], layout, f"size {size}"
        )

    explorer = GridExplorer([control], picture_of)
    explorer.fill()
    return explorer


class Grip:
    """The only grip on the page, and how a hand moves it."""

    def __init__(self, page, explorer: GridExplorer, source: str = SOURCE) -> None:
        page.set_content("<!doctype html>")
        page.add_style_tag(path=STATIC / "grid.css")
        start(page, explorer, "resolves", source)
        self.page, self.node = page, page.locator(".accum-grip")
        self.slider = page.locator("[data-control=size]")
        self.node.wait_for()
        self.plot = page.locator(".accum-plot").bounding_box()

    def center(self) -> tuple[float, float]:
        self.page.wait_for_timeout(50)  # a frame, after which the grip is where the picture has it
        box = self.node.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def at(self, across: float | None, up: float | None) -> tuple[float, float]:
        """Shares of the panel, from its low ends; None stays where the grip is."""
        x, y = self.center()
        if across is not None:
            x = self.plot["x"] + 60 + across * (self.plot["width"] - 76)  # the margins of theme.layout
        if up is not None:
            y = self.plot["y"] + 40 + (1 - up) * (300 - 88)
        return x, y

    def drag(self, across: float | None, up: float | None, grab: tuple[float, float] | None = None) -> str:
        self.page.mouse.move(*(grab or self.center()))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(across, up))
        self.page.mouse.up()
        return self.said()

    def press(self, key: str) -> str:
        self.page.keyboard.press(key)
        return self.said()

    def said(self) -> str:
        self.page.wait_for_timeout(50)
        return self.page.locator(".accum-summary").inner_text()


@pytest.mark.parametrize("axis", ["xaxis", "yaxis"])
def test_a_grip_on_an_axis_moves_the_control_to_the_nearest_value(page, axis) -> None:
    grip = Grip(page, sized(Control("size", "Size", (1, 10, 100), 1, axis=axis)))
    shares = (0.74, 0.1, 0.5, 0.99)  # of the axis: beside 100, 1, 10, beyond the last
    seen = [grip.drag(*((share, None) if axis == "xaxis" else (None, share))) for share in shares]
    assert seen == ["size 100", "size 1", "size 10", "size 100"]
    assert grip.slider.input_value() == "2", "the control goes along"
    assert grip.press("ArrowLeft") == "size 10", "and has the keyboard"
    line = grip.at(*((0.5, 0.8) if axis == "xaxis" else (0.8, 0.5)))
    assert grip.drag(*((0.25, None) if axis == "xaxis" else (None, 0.25)), grab=line) == "size 1", (
        "the line through it can be dragged, too"
    )


PLACES = [(x, y) for y in (1, 100) for x in (1, 10, 100)]


def test_a_grip_within_the_picture_goes_to_the_nearest_place_and_along_rows(page) -> None:
    grip = Grip(page, sized(Control("size", "Size", range(6), 0, axis="xaxis", places=PLACES)))
    assert grip.center() == pytest.approx(grip.at(0.25, 0.25), abs=1), "on its place"
    assert grip.drag(0.7, 0.7) == "size 5"
    assert grip.center() == pytest.approx(grip.at(0.75, 0.75), abs=1)
    assert grip.drag(0.45, 0.55) == "size 4", "the upper row is nearer"
    assert "accum-held" in grip.node.get_attribute("class"), "the grip shows that it has the keyboard"
    keys = ("ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowRight")
    assert [grip.press(key) for key in keys] == ["size 1", "size 1", "size 0", "size 3", "size 4"]
    assert grip.slider.get_attribute("aria-valuetext") == "4"
    grip.slider.blur()
    assert "accum-held" not in grip.node.get_attribute("class")


def test_a_grip_that_looks_along_one_axis_only_would_be_noticed(page) -> None:
    deaf = SOURCE.replace("to[i] === null ? 0 : pixel - at[i]", "i ? 0 : pixel - at[i]")
    assert deaf != SOURCE
    grip = Grip(page, sized(Control("size", "Size", range(6), 0, axis="xaxis", places=PLACES)), deaf)
    assert grip.drag(0.7, 0.7) == "size 2"


def test_a_finger_drags_it_too(browser) -> None:
    context = browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page = context.new_page()
    grip = Grip(page, sized(Control("size", "Size", range(6), 0, axis="xaxis", places=PLACES)))
    touch = context.new_cdp_session(page)
    for kind, point in (("touchStart", grip.center()), ("touchMove", grip.at(0.5, 0.75)), ("touchEnd", None)):
        points = [{"x": point[0], "y": point[1]}] if point else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert grip.said() == "size 4"
    context.close()


def test_each_value_needs_a_place() -> None:
    with pytest.raises(ValueError, match="size has 6 places for 2 values; give one for each"):
        Control("size", "Size", (1, 2), 1, axis="xaxis", places=PLACES)


def test_the_course_s_letters_have_their_colours_and_nothing_is_lost(page) -> None:
    spread = {"anchor": "x", "range": [0.0, 1.0]}
    layout = theme.layout(
        200, xaxis=theme.axis("M", (0.0, 1.0)), yaxis=theme.axis("loss", (0.0, 1.0), **spread)
    )
    dot = theme.line([0.5], [0.5], "", "", theme.BLUE, "solid", "markers")
    said = "B = M·K, of 5 MB in K's"
    explorer = GridExplorer(
        [Control("k", "accumulation steps K", (1, 2), 1)], lambda k: Picture([dot], layout, said)
    )
    explorer.fill()
    page.set_content("<!doctype html>")
    page.add_style_tag(content=explorer._css)
    start(page, explorer, "resolves")
    page.locator(".accum-plot[data-setting]").wait_for()
    assert page.locator(".accum-summary").text_content() == said
    shown = "nodes => nodes.map((node) => [node.textContent, getComputedStyle(node).color])"
    orange, blue, purple = "rgb(180, 83, 9)", "rgb(11, 98, 176)", "rgb(115, 56, 160)"
    found = page.locator("var").evaluate_all(shown)
    assert found == [["K", blue], ["B", purple], ["M", orange], ["K", blue]]
    assert page.locator(".xtitle tspan").evaluate("node => getComputedStyle(node).fill") == orange


def test_the_moving_picture_of_the_front_page(page, tmp_path, request) -> None:
    """Each moment of one update, as the play button shows them; ``--pictures docs/pictures`` renews it."""
    folder = pathlib.Path(request.config.getoption("--pictures") or tmp_path)
    explorer = moments_explorer()
    explorer.fill()
    page.set_viewport_size({"width": 900, "height": 700})
    page.set_content("<!doctype html>")
    page.add_style_tag(content=explorer._css)
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
