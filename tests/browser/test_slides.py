"""The slides in Chromium, from the disk, without a network: each fits or scrolls, and none shows code."""

import importlib.util
import pathlib
import re

import nbformat
import pytest
from accessibility import axe
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHINESE = sorted((ROOT / "notebooks" / "zh").glob("*.ipynb"))
spec = importlib.util.spec_from_file_location("slides_tool", ROOT / "tools" / "make_slides.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
pytestmark = pytest.mark.browser
GO = "(i) => { const at = Reveal.getIndices(Reveal.getSlides()[i]); Reveal.slide(at.h, at.v); }"
SHOWN = """() => {
  const slide = Reveal.getCurrentSlide(), box = slide.getBoundingClientRect();
  return { words: slide.innerText.trim().length,
           top: box.top, bottom: box.bottom, left: box.left, right: box.right,
           wide: slide.scrollWidth > slide.clientWidth + 1, long: slide.scrollHeight > slide.clientHeight + 1,
           scrolls: getComputedStyle(slide).overflowY === 'auto' && slide.tabIndex === 0 };
}"""


class Talk:
    """Slides, open in a page of 1280 x 800 that has no network."""

    def __init__(self, browser, path: pathlib.Path) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
        self.page, self.requests, self.complaints = self.context.new_page(), [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("() => window.Reveal && Reveal.isReady()")

    def slides(self):
        for i in range(self.page.evaluate("Reveal.getTotalSlides()")):
            self.page.evaluate(GO, i)
            yield self.page.evaluate(SHOWN)


@pytest.fixture
def open_talk(browser, tmp_path):
    talks = []

    def opened(notebook: nbformat.NotebookNode, name: str = "talk") -> Talk:
        path = tmp_path / f"{name}.slides.html"
        path.write_text(tool.export(notebook, name), encoding="utf-8")
        talks.append(Talk(browser, path))
        return talks[-1]

    yield opened
    for talk in talks:
        talk.context.close()


def problems(slide: dict) -> list[str]:
    found = [] if slide["words"] else ["empty"]
    if slide["wide"] or slide["left"] < -1 or slide["right"] > 1281:
        found.append("too wide")
    if slide["top"] < -1 or slide["bottom"] > 801 or (slide["long"] and not slide["scrolls"]):
        found.append("too long")
    return found


def named(path: pathlib.Path):
    """One of them, a long one, is always looked at."""
    marks = () if path == ROOT / "notebooks" / "04_memory.ipynb" else pytest.mark.slow
    return pytest.param(path, marks=marks, id=path.stem + "_zh" * (path.parent.name == "zh"))


@pytest.mark.parametrize("path", [named(path) for path in NOTEBOOKS + CHINESE])
def test_slides_of_a_notebook(open_talk, path) -> None:
    notebook = nbformat.read(path, as_version=4)
    talk = open_talk(notebook, path.stem)
    slides = list(talk.slides())
    assert [(i, problems(slide)) for i, slide in enumerate(slides) if problems(slide)] == []
    assert sum(slide["long"] for slide in slides) <= 2, "most slides are to be seen at a glance"
    assert len(slides) >= sum(cell.source.count("\n## ") for cell in notebook.cells)
    assert talk.complaints == []
    assert talk.requests == [talk.requests[0]], "one file holds everything"
    pictures = sum("image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", []))
    assert talk.page.locator("section img").count() == pictures > 0
    assert talk.page.locator(".jp-CodeCell .jp-InputArea").count() == 0, "no code cell is shown"
    assert "Not yet:" not in talk.page.content()


def test_no_serious_violation_on_any_slide(open_talk) -> None:
    talk = open_talk(nbformat.read(NOTEBOOKS[0], as_version=4))
    for _ in talk.slides():
        assert axe(talk.page) == []


def test_keys_walk_from_slide_to_slide_and_scroll_a_long_one(open_talk) -> None:
    long = "\n\n".join(f"- line {i}" for i in range(60))
    talk = open_talk(
        new_notebook(cells=[new_markdown_cell("# One\n\n## Two\n\nText"), code(long + "\n" + long)])
    )
    talk.page.keyboard.press("ArrowRight")
    assert talk.page.evaluate("Reveal.getIndices().h") == 1
    talk.page.keyboard.press("ArrowDown")
    slide = talk.page.evaluate(SHOWN)
    assert slide["long"]
    assert problems(slide) == []
    talk.page.locator("section.present section.present").focus()
    talk.page.keyboard.press("PageDown")
    assert talk.page.evaluate("() => Reveal.getIndices().h") == 1


def code(text: str):
    return new_code_cell("run()", outputs=[new_output("stream", text=text)])


def test_a_slide_that_is_cut_off_would_be_noticed(open_talk) -> None:
    wide = "<div style='width: 3000px; height: 2000px'>wide</div>"
    talk = open_talk(new_notebook(cells=[new_markdown_cell("# One"), new_markdown_cell(wide)]))
    assert "too wide" in problems(list(talk.slides())[-1])
    talk.page.add_style_tag(content="section section { overflow: hidden !important }")
    assert problems(list(talk.slides())[-1]) == ["too wide", "too long"]


def test_a_request_and_a_complaint_would_be_noticed(open_talk) -> None:
    talk = open_talk(new_notebook(cells=[new_markdown_cell("# One\n\n![x](http://192.0.2.1/x.png)")]))
    assert "http://192.0.2.1/x.png" in talk.requests
    assert talk.complaints


def test_sections_screens_and_links() -> None:
    """Each section begins a slide; a line that leads on is not left behind; links lead to slides."""
    filler = ["word " * 75] * 3
    two = ["## Two", *filler, "**Things to try**", "Line\nby line:", *filler[:2]]
    cells = [
        new_markdown_cell("# One\n\n**Question.** Why?"),
        new_markdown_cell("\n\n".join(two)),
        new_code_cell("check_it(f)", outputs=[new_output("stream", text="Not yet: no.")]),
        new_markdown_cell("See [three](03_variance.ipynb)."),
    ]
    made = tool.slides_of(new_notebook(cells=cells)).cells
    starts = [c for c in made if c.metadata["slideshow"]["slide_type"] != "-"]
    kinds = [c.metadata["slideshow"]["slide_type"] for c in starts]
    assert kinds == ["slide", "slide", "subslide"]
    assert "again" in starts[2].source
    again = made.index(starts[2])
    assert [cell.source for cell in made[again + 1 : again + 3]] == ["**Things to try**", "Line\nby line:"]
    assert made[-1].source == "See [three](03_variance.slides.html)."
    assert not re.search("Not yet", str(made))
