"""The site in Chromium, from disk and without a network: explorers, questions, progress, presentation.

By default one lesson in English and its front page; ``make test-all`` opens all lessons in both languages.
"""

import json
import pathlib
import random
import re
import zipfile
from dataclasses import dataclass
from itertools import pairwise

import pytest
from accessibility import axe
from driving import Expected, check, check_fit
from site_page import SitePage, recorded, with_a_number_altered

from accum_lib.classroom import scorm
from accum_lib.lessons.kit import progress
from accum_lib.lessons.kit.grid import GridExplorer
from accum_lib.lessons.when_it_breaks.explorer import BugHunt
from accum_lib.words import LANGUAGES, catalogue, folder_for, speaking
from web import build, record
from web.record import NOTEBOOKS

pytestmark = pytest.mark.browser
SMOKE = "00_start_here"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
PAGES = [
    pytest.param(
        (name, code), id=f"{name}-{code}", marks=() if (name, code) == (SMOKE, "en") else pytest.mark.slow
    )
    for name in NAMES
    for code in LANGUAGES
]
SIZES = ((390, 844), (1280, 720), (1920, 1080))


@dataclass
class Built:
    """A site with one lesson, and the explorers whose settings its page holds."""

    folder: pathlib.Path
    name: str
    language: str
    explorers: list[GridExplorer]

    @property
    def page(self) -> pathlib.Path:
        return self.file(self.name)

    def file(self, name: str) -> pathlib.Path:
        return folder_for(self.language, self.folder) / f"{name}.html"


def built_site(folder: pathlib.Path, name: str, language: str) -> Built:
    paths = {code: folder_for(code, NOTEBOOKS) / f"{name}.ipynb" for code in LANGUAGES}
    blocks, explorers = recorded(paths[language], language)
    part = folder / "part.json"
    part.write_text(json.dumps(dict.fromkeys(LANGUAGES, blocks)), encoding="utf-8")
    build.write(folder / "site", [name], {name: part})
    return Built(folder / "site", name, language, explorers)


@pytest.fixture(scope="module", params=PAGES)
def built(request, tmp_path_factory) -> Built:
    return built_site(tmp_path_factory.mktemp("site"), *request.param)


@pytest.fixture
def opened(browser, built):
    """``opened(name, ...)``: a page of the site; the lesson's if none is named."""
    pages = []

    def open_page(name: str | None = None, **more) -> SitePage:
        pages.append(SitePage(browser, built.file(name or built.name), **more))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


def test_it_opens_without_a_request_or_a_complaint(opened, built, meter) -> None:
    lesson = opened()
    if built.explorers:
        first = lesson.first_drawn()
        meter.note(f"site, {built.name} ({built.language}): first explorer drawn after {first:.0f} ms")
    assert len(lesson.explorers()) == len(built.explorers)
    assert lesson.complaints == []
    assert lesson.off_the_machine() == []
    lesson.page.evaluate("() => { console.error('a test'); fetch('http://192.0.2.1/').catch(() => 0); }")
    assert "a test" in lesson.complaints[0], "a complaint would be noticed"
    assert lesson.off_the_machine() == ["http://192.0.2.1/"], "and a request"


def settings(explorer: GridExplorer) -> list[tuple[int, ...]]:
    """The first and the last setting, and three that are drawn."""
    return [explorer._grid[0], explorer._grid[-1], *random.Random(0).choices(explorer._grid, k=3)]


def test_every_plotted_number_is_the_librarys(opened, built) -> None:
    for seen, library in zip(opened().explorers(), built.explorers, strict=True):
        for positions in settings(library):
            for control, position in zip(library._controls, positions, strict=True):
                seen.put(control.name, position)
            at = {c.name: p for c, p in zip(library._controls, positions, strict=True)}
            with speaking(built.language):
                check(seen.look(), Expected(explorer=library), at)
        check_fit(seen)


def test_an_altered_number_would_be_noticed(browser, built) -> None:
    if not built.explorers:
        pytest.skip("this lesson has no explorer")
    path = built.page.with_name("altered.html")
    path.write_text(with_a_number_altered(built.page.read_text(encoding="utf-8")), encoding="utf-8")
    altered = SitePage(browser, path)
    seen = altered.explorers()[0].look()
    with speaking(built.language), pytest.raises(AssertionError):
        check(seen, Expected(explorer=built.explorers[0]))
    altered.close()


def test_every_control_answers_to_the_keyboard(opened, built, meter) -> None:
    lesson = opened()
    for seen in lesson.explorers():
        for control in seen.controls():
            start, last = seen.position(control), seen.positions(control) - 1
            seen.put(control, 0)
            for position in range(1, min(last, 12) + 1):
                seen.press(control, "ArrowRight")
                assert seen.position(control) == position
            seen.put(control, start)
    assert lesson.complaints == []
    meter.add(f"site, {built.name} ({built.language})", lesson.waits())


def test_a_question_is_answered_after_the_guess_and_lifts_the_veil(opened, built) -> None:
    lesson = opened()
    for quiz in lesson.quizzes():
        right, name = int(quiz.get_attribute("data-right")), quiz.get_attribute("data-name")
        button, radios = quiz.locator("button"), quiz.locator("input[type=radio]")
        assert button.is_disabled(), "no answer without a guess"
        wrong = (right + 1) % radios.count()
        radios.nth(wrong).focus()
        lesson.page.keyboard.press("Space")
        quiz.locator("input[type=checkbox]").check()
        button.press("Enter")
        words = quiz.locator("[role=status]").inner_text()
        answer = (
            catalogue(built.language).get("It is: <b>{option}</b>.", "It is: <b>").partition("<b>")[0].strip()
        )
        assert answer in words
        assert not words.startswith(answer), "first, what is wrong with this option"
        assert words.endswith(lesson.page.evaluate("Accum.say('surprise')")), "sure, and wrong"
        assert lesson.progress()["predictions"][name] is False
        radios.nth(right).check()
        button.click()
        said = catalogue(built.language).get("As you predicted.", "As you predicted.")
        assert quiz.locator("[role=status]").inner_text().startswith(said)
        assert lesson.progress()["predictions"][name] is False, "the first guess counts"
        assert name in lesson.progress()["sure"]
    assert lesson.page.locator(".veiled.closed").count() == 0
    assert lesson.page.locator(".behind[inert]").count() == 0


def test_the_end_quiz_is_answered_in_the_page(opened, built) -> None:
    page = opened("quiz")
    score = page.page.locator("[data-score]")
    for number, quiz in enumerate(page.quizzes()):
        right = int(quiz.get_attribute("data-right"))
        first = right if number else (right + 1) % 3  # the first one wrongly
        quiz.locator("input[type=radio]").nth(first).check()
        quiz.locator("button").click()
        assert len(quiz.locator("[role=status]").inner_text()) > 20
        assert page.progress()["predictions"][quiz.get_attribute("data-name")] is (number > 0)
    told = page.page.evaluate("n => Accum.say('score', n)", {"answered": 12, "all": 12, "right": 11})
    assert score.inner_text() == told
    page.page.reload()
    assert score.inner_text() == told, "it is kept"
    assert page.complaints == []


def test_what_gives_the_answer_away_is_veiled_until_it_is_asked_for(opened, built) -> None:
    lesson = opened()
    for veiled in lesson.page.locator(".veiled").all():
        behind = veiled.locator(".behind")
        assert behind.bounding_box()["height"] == 0
        assert behind.evaluate("e => e.inert"), "neither the keyboard nor a screen reader gets behind it"
        veiled.locator(".veil button").click()
        assert behind.bounding_box()["height"] > 20
    assert lesson.page.locator(".veil:visible").count() == 0
    assert lesson.progress().get("predictions", {}) == {}


def assert_stacked(plot) -> None:
    """One panel below the other, each as wide as the phone, and no legend on one of them."""
    panels, legends = plot.evaluate(
        """plot => {
          const { _fullLayout: full } = plot;
          const axes = Object.keys(full).filter(key => /^xaxis\\d*$/.test(key));
          const boxes = axes.map(x => ({
            left: full[x]._offset, right: full[x]._offset + full[x]._length,
            top: full[x.replace("x", "y")]._offset,
            bottom: full[x.replace("x", "y")]._offset + full[x.replace("x", "y")]._length,
          }));
          const { x, y } = plot.getBoundingClientRect();
          const legends = [...plot.querySelectorAll("[class^=legend] .bg")].map(bg => {
            const box = bg.getBoundingClientRect();
            return { left: box.left - x, right: box.right - x, top: box.top - y, bottom: box.bottom - y };
          });
          return [boxes, legends.filter(box => box.bottom > box.top)];
        }"""
    )
    panels.sort(key=lambda panel: panel["top"])
    assert all(panel["right"] - panel["left"] > 180 for panel in panels)
    assert all(above["bottom"] < below["top"] for above, below in pairwise(panels))
    for legend in legends:
        assert not any(
            legend["bottom"] > panel["top"] + 2 and legend["top"] < panel["bottom"] - 2 for panel in panels
        ), "a legend on a panel"


def test_nothing_is_wider_than_the_screen_and_a_figure_fits_it(opened) -> None:
    for width, height in SIZES:
        lesson = opened(width=width, height=height)
        for explorer in lesson.explorers():
            top = explorer.root.bounding_box()["y"]
            plot = explorer.root.locator(".accum-plot").bounding_box()
            assert plot["y"] + plot["height"] - top <= height, f"figure and controls at {width} x {height}"
            if width < 600:
                assert_stacked(explorer.root.locator(".accum-plot"))
        assert lesson.page.evaluate("() => document.documentElement.scrollWidth") <= width
        lesson.close()


def test_no_page_has_a_serious_violation(opened, built) -> None:
    lesson = built.name
    for name, scheme in (
        (lesson, "light"),
        (lesson, "dark"),
        ("index", "light"),
        ("teachers", "light"),
        ("heads", "light"),
        ("card", "light"),
        ("api", "dark"),
        ("quiz", "light"),
    ):
        shown = opened(name, color_scheme=scheme)
        shown.unveil()
        for details in shown.page.locator("details").all():
            details.evaluate("e => { e.open = true; }")
        assert axe(shown.page) == [], f"{name}, {scheme}"
    shown.page.evaluate("() => document.querySelector('main').append(new Image())")
    assert axe(shown.page) != [], "an image without words would be noticed"


def test_progress_is_on_the_map_and_goes_to_the_notebooks_and_back(
    opened, built, tmp_path, monkeypatch
) -> None:
    front = opened("index")
    stop = front.page.locator("[data-map] li").first
    assert stop.get_attribute("class") == ""
    asked = json.loads(stop.get_attribute("data-predictions"))
    tasks = json.loads(stop.get_attribute("data-exercises"))

    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "from_notebooks.json"))
    progress.record_prediction(asked[0], True)
    for check_name in tasks:
        progress.record_exercise(check_name)
    front.page.locator("[data-import]").set_input_files(tmp_path / "from_notebooks.json")
    front.page.locator("[data-map] li:not([class=''])").first.wait_for()
    assert stop.get_attribute("class") == ("done" if len(asked) == 1 else "begun")

    with front.page.expect_download() as download:
        front.page.locator("[data-export]").click()
    assert download.value.suggested_filename == "progress.json"
    download.value.save_as(tmp_path / "from_site.json")
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "from_site.json"))
    assert progress.load().predictions == {asked[0]: True}
    assert sorted(progress.load().exercises) == sorted(tasks)

    (tmp_path / "other.json").write_text('{"predictions": [1]}')
    front.page.locator("[data-import]").set_input_files(tmp_path / "other.json")
    front.page.locator(".keeping [role=status]", has_text="other.json").wait_for()
    assert len(front.progress()["predictions"]) == 1, "a wrong file changes nothing"
    front.page.on("dialog", lambda dialog: dialog.accept())
    front.page.locator("[data-reset]").click()
    assert front.progress() == {"predictions": {}, "exercises": [], "sure": []}


def test_a_presentation_has_one_section_a_screen_without_code(opened, built) -> None:
    talk = opened(query="?present")
    screens = talk.page.locator(".screen")
    shown = talk.page.locator(".screen:visible")
    seen = []
    for number in range(screens.count()):
        assert shown.count() == 1
        assert screens.nth(number).is_visible()
        assert talk.page.locator(".code:visible, .task:visible, .exercise:visible").count() == 0
        seen.append(talk.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"))
        talk.unveil()
        for slider in shown.locator("input[type=range]").all():
            slider.press("Home")
            slider.press("ArrowRight")
            assert slider.input_value() == "1", "in a control, arrows move the control"
            slider.blur()
        for label in shown.locator(".quiz label:first-of-type span").all():
            assert label.evaluate("e => getComputedStyle(e, '::before').content").startswith("counter(option")
        talk.page.keyboard.press("ArrowRight")
    assert all(seen), "nothing is wider than the screen"
    assert screens.last.is_visible(), "after the last there is nothing"
    talk.page.keyboard.press("ArrowLeft")
    assert screens.nth(screens.count() - 2).is_visible()
    talk.page.keyboard.press("Escape")
    assert shown.count() == screens.count()
    assert talk.complaints == []


def test_a_printed_page_is_a_handout(opened) -> None:
    lesson = opened()
    lesson.first_drawn()
    lesson.page.emulate_media(media="print")
    lesson.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    for hidden in (".bar", ".quiz button", ".copy", ".veil", ".ways"):
        assert lesson.page.locator(f"{hidden}:visible").count() == 0, hidden
    assert lesson.page.locator(".veiled.closed").count() == 0, "what was veiled is on the paper"
    assert lesson.page.locator(".quiz legend:visible").count() == len(lesson.quizzes())


def sheets(page: SitePage) -> int:
    return len(re.findall(rb"/Type /Page\b", page.page.pdf(prefer_css_page_size=True)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_card_is_printed_on_one_sheet_of_a4(browser, built, language) -> None:
    card = SitePage(browser, folder_for(language, built.folder) / "card.html", width=390)
    assert card.page.evaluate("() => document.documentElement.scrollWidth") <= 390, "on a phone"
    assert sheets(card) == 1
    (size,) = re.findall(rb"/MediaBox \[0 0 (\S+) (\S+)\]", card.page.pdf(prefer_css_page_size=True))
    assert [round(float(side) / 72 * 25.4) for side in size] == [210, 297]
    card.page.evaluate("() => document.querySelector('.card').append('And so on. '.repeat(400))")
    assert sheets(card) == 2, "a second sheet would be noticed"
    assert card.complaints == []
    card.close()


def test_code_can_be_copied(browser, built) -> None:
    lesson = SitePage(browser, built.page, permissions=["clipboard-read", "clipboard-write"])
    cell = lesson.page.locator("details.code").first
    assert not cell.locator("pre").is_visible(), "folded at first"
    cell.locator("summary").click()
    assert cell.locator(".copy").inner_text() == lesson.page.evaluate("() => Accum.say('copy')")
    cell.locator(".copy").click()
    cell.locator(".copy", has_text=lesson.page.evaluate("() => Accum.say('copied')")).wait_for()
    copied = lesson.page.evaluate("() => navigator.clipboard.readText()")
    assert copied.strip() == cell.locator("pre").inner_text().strip()
    lesson.close()


def test_the_reference_is_searched_in_the_page(opened, built) -> None:
    reference = opened("api")
    box, shown = reference.page.locator("[data-search]"), reference.page.locator("[data-words]:visible")
    everything = shown.count()
    box.fill("ragged nowhere")
    assert shown.count() == 0
    box.fill("Ignore_Index")
    assert shown.locator("code:first-child").all_inner_texts()[:2] == ["count_tokens", "count_next_tokens"]
    found = reference.page.evaluate("n => Accum.say('found', n)", {"found": shown.count(), "all": everything})
    assert reference.page.locator("[data-found]").inner_text() == found
    assert reference.page.locator("section:visible").count() < 5, "modules without a find are left out"
    box.fill("noise scale monitor")
    box.press("Enter")
    reference.page.wait_for_url("**/api.noise.NoiseScaleMonitor.html")
    assert reference.complaints == []
    assert reference.off_the_machine() == []


def test_the_hunt_tells_a_loops_story_after_the_guess(browser, tmp_path) -> None:
    hunt = BugHunt()
    hunt.suspects, hunt.explorer._grid = hunt.suspects[:2], hunt.explorer._grid[:2]
    part = tmp_path / "part.json"
    blocks = [{"kind": "prose", "text": "# The hunt"}, record._hunt(hunt)]
    part.write_text(json.dumps(dict.fromkeys(LANGUAGES, blocks)), encoding="utf-8")
    build.write(tmp_path / "site", ["05_when_it_breaks"], {"05_when_it_breaks": part})
    lesson = SitePage(browser, tmp_path / "site" / "05_when_it_breaks.html")
    (explorer,) = lesson.explorers()
    select, button, reply = (lesson.page.locator(f".hunt {what}") for what in ("select", "button", ".reply"))
    assert button.is_disabled(), "no story without a guess"
    for number, (code, _) in enumerate(hunt.suspects):
        explorer.put("number", number)
        assert select.input_value() == ""
        assert reply.inner_text() == "", "a move forgets the guess"
        select.select_option("leaked_tail" if code != "leaked_tail" else "right")
        button.click()
        assert reply.inner_text().startswith("Not that one.")
        assert f"Named so far: {number} of 2" in reply.inner_text()
        select.select_option(code)
        button.click()
        assert reply.inner_text().startswith("Well seen.")
        assert f"Named so far: {number + 1} of 2" in reply.inner_text()
        assert "def " in reply.inner_text()
    assert lesson.complaints == []
    assert axe(lesson.page) == []
    lesson.close()


RUN_TIME = """<!doctype html><script>
// As a platform has it, after the SCORM 1.2 run-time environment: every call is answered with a string, what
// is not in the data model is an error, and nothing is taken before it began or after its end.
const MODEL = {
  "cmi.core.lesson_status": /^(passed|completed|failed|incomplete|browsed|not attempted)$/,
  "cmi.core.score.raw": /^(100|[0-9]{1,2})$/, "cmi.core.score.min": /^0$/, "cmi.core.score.max": /^100$/,
  "cmi.suspend_data": /^[\\s\\S]{0,4096}$/,
};
window.said = { "cmi.suspend_data": SUSPENDED }; window.kept = null; window.errors = []; window.state = "new";
const running = (answer) => (state === "running" ? answer() : (errors.push("not running"), "false"));
window.API = {
  LMSInitialize: (text) => (state === "new" && text === "" ? (state = "running", "true") : "false"),
  LMSGetValue: (name) => running(() => (name in MODEL ? said[name] ?? "" : (errors.push(name), ""))),
  LMSSetValue: (name, value) => running(() => {
    if (typeof value !== "string" || !MODEL[name]?.test(value)) errors.push(`${name}: ${value}`);
    said[name] = value;
    return "true";
  }),
  LMSCommit: () => running(() => { kept = { ...said }; return "true"; }),
  LMSFinish: () => running(() => { state = "ended"; return "true"; }),
};
</script><iframe src="index.html" style="width: 100%; height: 90vh"></iframe>"""


def test_a_learning_platform_hears_how_much_is_done_and_the_lesson_goes_on_there(
    browser, built, tmp_path
) -> None:
    out = tmp_path / "lesson.zip"
    scorm.write(built.page, out)
    with zipfile.ZipFile(out) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    named = re.findall(r'<file href="([^"]+)"', files["imsmanifest.xml"].decode())
    assert sorted([*named, "imsmanifest.xml"]) == sorted(files)
    kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css"}

    def play(suspended: str):
        files["host.html"] = RUN_TIME.replace("SUSPENDED", json.dumps(suspended)).encode()

        def answer(route) -> None:
            name = route.request.url.removeprefix("http://platform.test/").partition("?")[0]
            kind = kinds.get(name.rpartition(".")[2], "application/octet-stream")
            assert name in files, name
            route.fulfill(body=files[name], content_type=kind)

        page = browser.new_page()
        page.route("**/*", answer)
        page.goto("http://platform.test/host.html")
        page.wait_for_function("kept !== null")
        return page, page.frames[1]

    page, lesson = play("")
    asked = lesson.locator(".quiz").count()
    parts = asked + lesson.locator(".exercise textarea").count()
    assert page.evaluate("said['cmi.core.lesson_status']") == ("incomplete" if parts else "completed")
    for number in range(asked):
        quiz = lesson.locator(".quiz").nth(number)
        quiz.locator("input").first.check()
        quiz.locator("button").click()
    assert page.evaluate("kept['cmi.core.score.raw']") == str(round(100 * asked / parts) if parts else 100)
    kept = page.evaluate("kept")
    assert page.evaluate("errors") == []
    page.close()

    again, lesson = play(kept["cmi.suspend_data"])
    assert again.evaluate("kept") == kept, "on another machine it goes on where it was"
    assert again.evaluate("errors") == []
    again.evaluate("API.LMSSetValue('cmi.core.score.raw', 101)")
    assert again.evaluate("errors") != [], "this run-time is strict"
    again.close()
