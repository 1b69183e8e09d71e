"""The calculator in Chromium, from disk and without a network: what it shows is what the planner finds."""

import itertools
import json
import math
import random
import re

import pytest
from accessibility import axe
from site_page import SitePage

from accum_lib.machine import GIB
from accum_lib.memory.planner import plan
from accum_lib.words import LANGUAGES, folder_for
from web import build, calculator, pages
from web.calculator import AXES, BATCH, CARDS, NUMBERS, SIZES, SWITCH, TRAINED
from web.pages import Place, Site

pytestmark = pytest.mark.browser
Setting = tuple[int, ...]  # each axis' position but the size's
SMALL = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512, "num_hidden_layers": 2}
VALUES = (tuple(NUMBERS), SWITCH, SWITCH, CARDS, tuple(TRAINED))
START: Setting = (0, 0, 0, 0, 0)
BESIDE = [(*START[:i], v, *START[i + 1 :]) for i, each in enumerate(VALUES) for v in range(1, len(each))]
EVERY = list(itertools.product(*(range(len(each)) for each in VALUES)))
CHUNKED, SPREAD = AXES.index("chunked"), AXES.index("cards")
PLANNED = [at for at in EVERY if not (at[CHUNKED] and at[SPREAD])]  # no loss in chunks over several cards
REFUSED: Setting = (0, 0, 1, 1, 0)
WAY = ("precision", "weights", "trained", "optimizer", "implementation", "checkpointing", "chunked")
DRAWN = random.Random(0).sample([at for at in PLANNED if at != START and at not in BESIDE], 1)
CHOSEN = [START, *BESIDE, *DRAWN, REFUSED]


@pytest.fixture(scope="module")
def grid():
    """Of a small model; what no test looks at is left out, since it would take a minute."""
    with pytest.MonkeyPatch.context() as patch:
        small = {"small": ("Small", "llama", "causal", {**SMALL, "vocab_size": 5000})}
        patch.setattr(calculator, "MODELS", small)
        computed, places = calculator.cell, dict(zip(calculator.ways("small"), EVERY, strict=True))

        def cell(model, settings, card):
            return computed(model, settings, card) if places[settings] in CHOSEN else "left out"

        patch.setattr(calculator, "cell", cell)
        return calculator.grid([calculator.part("small")]), calculator.workload("small")


@pytest.fixture(scope="module")
def folder(grid, tmp_path_factory):
    return written(grid[0], tmp_path_factory.mktemp("calculator"))


def written(found, folder):
    for language in LANGUAGES:
        own = folder_for(language, folder)
        own.mkdir(parents=True, exist_ok=True)
        page = Site(language, [], Place(), False, found).calculator()["calculator"]
        (own / "calculator.html").write_text(page, encoding="utf-8")
    (folder / "static").mkdir()
    for name in ("style.css", "page.js", "calculator.js"):
        (folder / "static" / name).write_bytes(build.shared()[name])
    return folder


@pytest.fixture
def opened(browser, folder):
    found = []

    def open_page(language: str = "en", where=folder, **more) -> SitePage:
        found.append(SitePage(browser, folder_for(language, where) / "calculator.html", **more))
        return found[-1]

    yield open_page
    for page in found:
        page.close()


def choose(shown: SitePage, at: Setting, size: int) -> None:
    for axis, value in zip(AXES, (*at, size), strict=True):
        shown.page.locator(f'input[name="{axis}"]').nth(value).check()


def in_gib(nbytes: int) -> str:
    """As JavaScript writes it, which rounds halves up and not to even."""
    return f"{math.floor(100 * nbytes / GIB + 0.5) / 100:.2f}"


def wrong(shown: SitePage, model, at: Setting) -> list[str]:
    """Sizes of card at which the page says something else than the planner, asked for this alone."""
    numbers, again, chunked, cards, trained = (each[i] for each, i in zip(VALUES, at, strict=True))
    settings = calculator.Settings(
        checkpointing=again, chunked=chunked, cards=cards, **NUMBERS[numbers], **TRAINED[trained]
    )
    found = []
    for number, size in enumerate(SIZES):
        choose(shown, at, number)
        options = plan(model, f"{size}GB", BATCH, settings).options
        row = next(o for o in options if all(getattr(o, name) == getattr(settings, name) for name in WAY))
        m, k, largest = row.micro_batch_size, row.accumulation_steps, row.largest_micro_batch
        expected = {str(n) for n in ((), (largest, k), (largest, m, k))[min(k, 2)]}
        expected |= {in_gib(nbytes) for nbytes in (row.peak_bytes, row.reserved_bytes)}
        said = set(re.findall(r"\d+(?:\.\d+)?", shown.page.locator(".answer").inner_text()))
        beside = shown.page.locator(".sizes b").nth(number).inner_text()
        short = f"M = {largest}, K = {k}" if k else "nothing fits"
        if not expected <= said or beside != short:
            found.append(f"{size} GB: {said} and {beside!r}, but {expected}")
    return found


@pytest.mark.parametrize(("language", "at"), [("en", DRAWN[0]), ("zh", START)])
def test_every_number_is_the_planners(language, at, opened, grid) -> None:
    shown = opened(language)
    assert wrong(shown, grid[1], at) == []
    assert shown.complaints == []
    assert shown.off_the_machine() == []


@pytest.mark.slow
@pytest.mark.parametrize("model", calculator.MODELS)
def test_so_is_every_number_of_the_sites_models(model, opened, tmp_path) -> None:
    found = calculator.part(model)
    shown = opened(where=written(calculator.grid([found]), tmp_path))
    there = [at for at in PLANNED if found["chunked"] or not at[CHUNKED]]
    for at in random.Random(model).sample(there, 6):
        assert wrong(shown, calculator.workload(model), at) == []


def test_what_cannot_be_predicted_says_why(opened) -> None:
    shown = opened()
    choose(shown, REFUSED, 0)
    assert "plan for one card, or for the usual loss" in shown.page.locator(".answer").inner_text()
    assert shown.page.locator(".sizes b").first.inner_text() == "?"


def test_an_altered_number_would_be_noticed(grid, opened, tmp_path) -> None:
    altered = json.loads(json.dumps(grid[0]))
    altered["parts"][0]["cells"][1][0] += 1
    shown = opened(where=written(altered, tmp_path))
    assert [said.partition(":")[0] for said in wrong(shown, grid[1], START)] == [f"{SIZES[1]} GB"]


def test_what_one_change_makes_is_in_order_and_is_made_by_a_click(opened, grid) -> None:
    shown = opened()
    choose(shown, START, 0)
    offers = shown.page.locator(".helps button")
    most = [int(re.search(r"M = (\d+)", said)[1]) for said in offers.all_inner_texts()]
    assert most == sorted(most, reverse=True)
    assert len(most) == len(BESIDE)
    axis, value = offers.first.get_attribute("data-change").split()
    cells = grid[0]["parts"][0]["cells"]
    assert most[0] == max(cells[EVERY.index(at) * len(SIZES)][0] for at in BESIDE)
    offers.first.click()
    assert shown.page.locator(f'input[name="{axis}"]').nth(int(value)).is_checked()
    assert f"M = {most[0]}," in shown.page.locator(".sizes b").first.inner_text()


@pytest.mark.parametrize("size", [(1280, 720), (390, 844)])
@pytest.mark.parametrize("language", LANGUAGES)
def test_it_fits_on_one_screen_and_can_be_read_by_all(language, size, opened) -> None:
    shown = opened(language, width=size[0], height=size[1])
    box = shown.page.locator(".calculator").bounding_box()
    assert box["height"] < size[1]
    assert box["y"] + box["height"] < size[1] or size[0] < 600
    assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= size[0]
    assert axe(shown.page) == []


def test_the_page_is_small_and_lessons_and_front_page_lead_to_it(folder, grid) -> None:
    own = [folder / "calculator.html", folder / "static" / "calculator.js"]
    assert sum(path.stat().st_size for path in own) < 100_000  # with one of six models
    site = Site("en", [], Place(), False, grid[0])
    assert 'href="calculator.html"' in site.front(None)
    assert site._calculator(pages.MEMORY) == [("What fits on your card?", "calculator.html")]
    assert Site("en", [], Place(), False)._calculator(pages.MEMORY) == []
