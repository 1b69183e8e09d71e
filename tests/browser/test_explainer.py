"""The explainer in Chromium, from disk and without a network: what it shows is what the library computes."""

import json
import pathlib
import re

import numpy as np
import pytest
import torch
from accessibility import axe
from explainer_page import NUMBER, ExplainerPage, differences
from site_page import SitePage
from torch import nn

from accum_lib.accumulate import accumulate
from accum_lib.check.faults import loops
from accum_lib.descent import descend
from accum_lib.lessons.choose_k.costs import examples_factor, updates_factor
from accum_lib.machine import GIB, one_thread
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import named
from accum_lib.noise import from_gradients, law
from accum_lib.problems.regression import Regression
from accum_lib.words import LANGUAGES, folder_for
from explainer.build import build
from explainer.data import everything
from web import build as site

pytestmark = pytest.mark.browser

SIZES = ((390, 844), (1280, 800), (1920, 1080))
TIGHT = 1e-9


@pytest.fixture(scope="module", autouse=True)
def small_things_on_one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data():
    """What the library says, through JSON, as the page has it."""
    return json.loads(json.dumps(everything()))


@pytest.fixture(scope="module")
def built(data, tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("explainer") / "explainer.html"
    path.write_text(build(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def explainer(browser, built):
    page = ExplainerPage(browser, built)
    yield page
    page.close()


def test_it_opens_from_disk_without_a_network_or_a_complaint(browser, built, meter) -> None:
    fresh = ExplainerPage(browser, built)
    first = fresh.page.evaluate("() => performance.getEntriesByName('first-section-drawn')[0].startTime")
    meter.note(f"explainer: first section drawn {first:.0f} ms after the page was opened from disk")
    assert fresh.page.locator("#update svg").count() >= 1
    fresh.open_all()
    assert fresh.complaints == []
    assert fresh.off_the_machine() == []
    assert built.stat().st_size < 6 * 2**20
    fresh.page.evaluate("() => { console.error('a test'); fetch('http://192.0.2.1/').catch(() => 0); }")
    assert "a test" in fresh.complaints[0], "a complaint would be noticed"
    assert fresh.off_the_machine() == ["http://192.0.2.1/"], "and a request"
    fresh.close()


# --- What it was built with


def test_its_numbers_are_the_librarys(explainer, data) -> None:
    assert differences(explainer.data(), data) == []


def leaves(record, path=()):
    """Every place in nested lists and dictionaries at which something else stands."""
    items = record.items() if isinstance(record, dict) else enumerate(record)
    for key, value in items:
        yield from leaves(value, (*path, key)) if isinstance(value, dict | list) else [(*path, key)]


def test_any_number_that_was_altered_would_be_noticed(explainer, data) -> None:
    """One in fifty of them, and at least one of each part; by a millionth, or by a letter."""
    shown, places = explainer.data(), list(leaves(data))
    for place in [*{p[0]: p for p in places}.values(), *places[::50]]:
        inner = shown
        for key in place[:-1]:
            inner = inner[key]
        value = inner[place[-1]]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        inner[place[-1]] = value + 1e-6 * max(1, abs(value)) if number else f"{value}x"
        assert len(differences(shown, data)) == 1, place
        inner[place[-1]] = value


def test_the_memory_of_each_setting_is_that_of_its_own_prediction(explainer, data) -> None:
    """Not read from a table of peaks as the page does, but predicted one by one."""
    workload = named("roberta-base", "classification", 128)
    explainer.open_all()
    for precision, checkpointing in (("fp32", "off"), ("bf16", "on")):
        found = predict(
            workload, Settings(precision=precision, checkpointing=checkpointing == "on"), hopper=False
        )
        for m in data["memory"]["sizes"]:
            for k in data["memory"]["steps"]:
                explainer.set("memory", m=m, k=k, precision=precision, checkpointing=checkpointing)
                said = explainer.words("memory")[0]
                assert f"peak {found.peak_bytes(m, k) / GIB:.2f} GiB" in said
                assert f"alone need {found.floor_bytes(k) / GIB:.2f} GiB" in said


def test_the_memory_of_each_moment_ends_at_the_peak(explainer) -> None:
    found = predict(named("roberta-base", "classification", 128), Settings(), hopper=False)
    for m in (1, 2, 4, 8):
        for k in (1, 2, 4, 8):
            explainer.set("flow", m=str(m), k=str(k), moment=2 * k + 1)
            assert f"this update takes {found.peak_bytes(m, k) / GIB:.2f} GiB" in explainer.words("flow")[0]


# --- What it computes by itself


def close(one, other) -> bool:
    one, other = np.asarray(one, float), np.asarray(other, float)
    return one.shape == other.shape and bool(
        np.all(np.abs(one - other) <= TIGHT * np.maximum(1, np.abs(other)))
    )


DESCENTS = [(44, 44), (4, 4), (4, 1), (11, 11), (1, 1), (8, 2), (10, 5)]


def path_of_the_library(batch: int, m: int, rate: float = 0.1):
    run = descend(
        Regression(44), micro_batch_size=m, accumulation_steps=batch // m, learning_rate=rate, epochs=12,
        record=True,
    )  # fmt: skip
    return run


@pytest.mark.parametrize(("batch", "m"), DESCENTS)
def test_its_descents_are_the_librarys(explainer, batch, m) -> None:
    run = path_of_the_library(batch, m)
    found = explainer.live(
        "descend(data.regression, a[0])", {"batch": batch, "m": m, "updates": 999, "rate": 0.1}
    )
    assert close(found["points"], run.trajectory)
    assert close(found["losses"], run.losses)


def test_a_descent_with_an_altered_example_would_be_noticed(explainer) -> None:
    altered = explainer.live(
        "descend({ ...data.regression, y: data.regression.y.map((y, i) => (i ? y : y + 1e-6)) }, a[0])",
        {"batch": 44, "m": 44, "updates": 12, "rate": 0.1},
    )
    assert not close(altered["points"], path_of_the_library(44, 44).trajectory)


def test_its_losses_and_its_minimum_are_the_librarys(explainer) -> None:
    problem, weights = Regression(44), [[-2.0, 2.0], [0.3, -0.7], [1.5, -1.0]]
    found = explainer.live("a[0].map((w) => lossMean(data.regression, w))", weights)
    assert close(found, problem.loss_at(np.array(weights)))
    assert close(explainer.live("bowl(data.regression).minimum"), problem.minimum())
    ring = explainer.live("contour(bowl(data.regression), 5)")
    assert close(problem.loss_at(np.array(ring)), np.full(len(ring), 5.0))


@pytest.mark.parametrize(("m", "k"), [(1, 1), (2, 4), (8, 8), (4, 2)])
def test_its_buffer_is_what_accumulate_leaves(explainer, data, m, k) -> None:
    problem, order = Regression(200), data["cloud"]["orders"][0]
    model = problem.make_model()
    window = [problem.batch(torch.tensor(order[i * m : (i + 1) * m])) for i in range(k)]
    accumulate(model, window, problem.loss_sum, problem.count)
    found = explainer.live(
        "accumulateWindow(data.cloud, data.cloud.start, data.cloud.orders[0].slice(0, a[0] * a[1]), a[0])",
        m,
        k,
    )
    assert close(found["buffers"][-1], model.weight.grad[0])
    explainer.set("flow", m=str(m), k=str(k), moment=2 * k + 1)
    holds = NUMBER.findall(explainer.words("flow")[0].split("The buffer holds")[1])
    assert [float(number) for number in holds[:2]] == pytest.approx(model.weight.grad[0].tolist(), rel=6e-3)


def mulberry32(seed: int):
    """The generator again, from its published definition, on Python's integers."""
    state = seed
    while True:
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        t = (state ^ (state >> 15)) * (1 | state) & 0xFFFFFFFF
        t = ((t + ((t ^ (t >> 7)) * (61 | t) & 0xFFFFFFFF)) & 0xFFFFFFFF) ^ t
        yield ((t ^ (t >> 14)) & 0xFFFFFFFF) / 2**32


def drawn(n: int, batch: int, times: int, seed: int):
    random, order = mulberry32(seed), list(range(n))
    for _ in range(times):
        for i in range(batch):
            j = i + int(next(random) * (n - i))
            order[i], order[j] = order[j], order[i]
        yield order[:batch]


def example_gradients() -> torch.Tensor:
    problem = Regression(200)
    model = problem.make_model()
    rows = []
    for i in range(200):
        model.zero_grad()
        problem.loss_sum(model, problem.batch(torch.tensor([i]))).backward()
        rows.append(model.weight.grad[0].clone())
    return torch.stack(rows)


@pytest.mark.parametrize(("m", "k", "seed"), [(1, 1, 1), (2, 16, 1), (8, 16, 3)])
def test_its_cloud_and_its_law_are_the_librarys(explainer, m, k, seed) -> None:
    gradients, batch = example_gradients(), m * k
    expected = [gradients[examples].mean(0).tolist() for examples in drawn(200, batch, 200, seed)]
    assert close(
        explainer.live("cloud(data.cloud, data.cloud.start, a[0], 200, a[1])", batch, seed), expected
    )
    population = from_gradients(gradients)
    assert close(
        explainer.live("law(trace(data.cloud, data.cloud.start), a[0], 200)", batch), law(population, batch)
    )
    explainer.set("variance", m=m, k=k, seed=seed)
    measured = float(np.square(np.array(expected) - gradients.mean(0).numpy()).sum(1).mean())
    assert explainer.numbers("variance")[2:4] == pytest.approx([measured, law(population, batch)], rel=6e-3)


def test_a_law_without_the_finite_population_would_be_noticed(explainer) -> None:
    wrong = explainer.live("trace(data.cloud, data.cloud.start) / a[0]", 32)
    assert not close(wrong, law(from_gradients(example_gradients()), 32))


def trained(loop, data, counts, k, optimizer, rate, epochs):
    """The loops of the bug hunt on the page's tokens; weights and mean loss after each epoch."""
    x = torch.tensor(data["tokens"]["x"], dtype=torch.float64)
    labels, start, batches = torch.tensor(data["tokens"]["labels"]), 0, []
    for count in counts:
        batches.append((x[start : start + count], labels[start : start + count]))
        start += count
    model = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](model.parameters(), lr=rate)
    points, losses = [], []
    for epoch in range(epochs + 1):
        if epoch:
            getattr(loops, loop)(model, made, batches, k)
        points.append(model.weight.detach().flatten().tolist())
        with torch.no_grad():
            losses.append(float(loops.loss_mean(model(x[:start]), labels[:start])))
    return points, losses


LOOPS = ["right", "no_division", "mean_of_means", "tail_divided_by_k", "dropped_tail", "leaked_tail"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("loop", LOOPS)
def test_its_loops_are_those_of_the_bug_hunt(explainer, data, loop, optimizer) -> None:
    setting = {
        "counts": data["tokens"]["counts"],
        "k": 3,
        "optimizer": optimizer,
        "rate": {"sgd": 0.5, "adam": 0.1}[optimizer],
        "epochs": 20,
    }
    points, losses = trained(loop, data, **setting)
    found = explainer.live("train(data.tokens, a[0])", {"loop": loop, **setting})
    assert close(found["points"], points)
    assert close(found["losses"], losses)
    if loop != "right":
        explainer.open_all()
        explainer.set("breaks", loop=loop, optimizer=optimizer)
        right = trained("right", data, **setting)[1][-1]
        assert explainer.numbers("breaks", 2)[1:3] == pytest.approx([losses[-1], right], rel=6e-3)


def test_one_loop_in_place_of_another_would_be_noticed(explainer, data) -> None:
    setting = {"counts": data["tokens"]["counts"], "k": 3, "optimizer": "sgd", "rate": 0.5, "epochs": 20}
    found = explainer.live("train(data.tokens, a[0])", {"loop": "mean_of_means", **setting})
    assert not close(found["points"], trained("right", data, **setting)[0])


@pytest.mark.parametrize("tokens", [1, 7, 50])
def test_its_two_classifiers_are_the_librarys(explainer, data, tokens) -> None:
    setting = {
        "counts": [1, tokens],
        "k": 2,
        "optimizer": "sgd",
        "rate": data["tokens"]["rate"],
        "epochs": 100,
    }
    explainer.open_all()
    explainer.set("means", tokens=tokens)
    ends = [trained(loop, data, **setting) for loop in ("right", "mean_of_means")]
    for loop, (points, _) in zip(("right", "mean_of_means"), ends, strict=True):
        assert close(explainer.live("train(data.tokens, a[0])", {"loop": loop, **setting})["points"], points)
    assert explainer.numbers("means", 1)[2:4] == pytest.approx([losses[-1] for _, losses in ends], rel=6e-3)


def test_its_costs_are_the_librarys(explainer) -> None:
    for noise, batch in ((66, 8), (1024, 512)):
        assert close(explainer.live("updatesFactor(a[0], a[1])", noise, batch), updates_factor(noise, batch))
        assert close(
            explainer.live("examplesFactor(a[0], a[1])", noise, batch), examples_factor(noise, batch)
        )


def test_its_table_of_plans_is_the_planners(explainer, data) -> None:
    for key, found in data["plans"]["found"].items():
        card, _, batch = key.rpartition(",")
        explainer.set("choose", card=card, batch=batch)
        rows = explainer.page.locator("#choose tbody tr").all()
        assert len(rows) == len(found["options"])
        for row, option in zip(rows, found["options"], strict=True):
            cells = row.locator("th, td").all_inner_texts()
            assert option["precision"] in cells[0]
            assert ("checkpointing" in cells[0]) == option["checkpointing"]
            if option["micro_batch_size"]:
                assert cells[1:3] == [str(option["micro_batch_size"]), str(option["accumulation_steps"])]
                assert option["peak_bytes"] <= found["limit"]
            assert cells[3] == f"{option['peak_bytes'] / GIB:.2f} GiB"


def test_points_stand_where_their_numbers_are(explainer, data) -> None:
    explainer.open_all()
    explainer.set("memory", m=16, k=2, precision="fp32", checkpointing="off")
    at = explainer.page.evaluate(
        """() => {
             const svg = document.querySelector('#memory .after svg'), dot = svg.querySelector('circle');
             const box = dot.transform.baseVal.consolidate()?.matrix ?? { e: 0, f: 0 };
             const x = dot.cx.baseVal.value + box.e, y = dot.cy.baseVal.value + box.f;
             return [svg.scale('x').invert(x), svg.scale('y').invert(y)];
           }"""
    )
    way = data["memory"]["ways"]["fp32,off"]["peak"]
    assert at == pytest.approx([16, way[1][data["memory"]["sizes"].index(16)] / GIB], rel=0.01)


# --- The picture in motion

M, K = 8, 4  # of the opening
NOW = "() => window.__explainer.hero.picture.now"
MOVES = f"(before) => ({NOW})() !== before"
ENDS = """([m, k, layout, nudge]) => {
  const picture = new window.__explainer.UpdatePicture(m, k, layout, 800);
  picture.tips = picture.tips.map((tip, i) => (i > 1 ? [tip[0] + nudge, tip[1]] : tip)); // a larger share 2
  picture.draw(picture.end);
  const ends = (path) => path.getAttribute("d").match(/^M([^L]*)L([^M]*)/).slice(1)
    .map((point) => picture.gradients.from(point.split(",").map(Number)));
  return { shares: picture.arrows.map(([path]) => ends(path)), target: ends(picture.target) };
}"""
MEMORY = """(time) => {
  const { picture } = window.__explainer.hero;
  picture.draw(time);
  const height = picture.parts.reduce((sum, [bar]) => sum + Number(bar.getAttribute("height")), 0);
  return [picture.total.textContent, height / picture.bar.unit];
}"""


SHIFTS = """() => new Promise((done) => {
  const sum = (list) => done(list.getEntries().reduce((sum, entry) => sum + entry.value, 0));
  new PerformanceObserver(sum).observe({ type: "layout-shift", buffered: true });
  setTimeout(done, 1000, 0); // there was none
})"""


def gradient_of_big_batch(data, m: int, k: int) -> list[float]:
    problem = Regression(200)
    model = problem.make_model()
    batch = problem.batch(torch.tensor(data["cloud"]["orders"][0][: m * k]))
    (problem.loss_sum(model, batch) / (m * k)).backward()
    return model.weight.grad[0].tolist()


@pytest.mark.parametrize("layout", ["wide", "medium", "narrow"])
def test_arrows_as_drawn_add_up_to_the_gradient_of_one_big_batch(explainer, data, layout) -> None:
    for m, k in ((M, K), (2, 4), (1, 1), (4, 8)):
        drawn = explainer.page.evaluate(ENDS, [m, k, layout, 0])
        starts, tips = zip(*drawn["shares"], strict=True)
        assert close(starts, [[0, 0], *tips[:-1]]), "head to tail"
        assert close([tips[-1], drawn["target"][1]], [gradient_of_big_batch(data, m, k)] * 2)


def test_an_altered_share_would_be_noticed_at_the_tip(explainer, data) -> None:
    altered = explainer.page.evaluate(ENDS, [M, K, "wide", 1e-6])
    assert not close(altered["shares"][-1][1], gradient_of_big_batch(data, M, K))


def test_its_memory_is_the_predictions_during_and_between_the_passes(browser, built) -> None:
    still = ExplainerPage(browser, built, reduced_motion="reduce")
    found = predict(named("roberta-base", "classification", 128), Settings(), hopper=False).timeline(
        M, K, 20_000
    )
    levels = found.bytes_by_category.sum(0)
    starts = [int(np.searchsorted(found.operators, first)) for _, first in found.phases]
    for i in range(K):
        forward, backward, after = starts[2 * i : 2 * i + 3]
        expected = levels[forward], levels[forward:backward].max(), levels[backward:after].max()
        for time, nbytes in zip((0.29, 0.69, 1.3), expected, strict=True):  # of a trip of 1.5 s
            said, drawn = still.page.evaluate(MEMORY, 1.5 * i + time)
            assert said == f"{nbytes / GIB:.2f} GiB"
            assert time == 0.29 or drawn == pytest.approx(nbytes), "bars move for 0.3 s"
    still.close()


def test_the_opening_plays_and_pauses_and_rests_off_the_screen(browser, built) -> None:
    fresh = ExplainerPage(browser, built)
    button = fresh.page.locator("#hero button")
    fresh.page.wait_for_function(MOVES, arg=fresh.page.evaluate(NOW))
    button.click()
    assert button.inner_text() == "▶ Play"
    assert stays(fresh.page)
    button.press("Enter")
    assert button.inner_text() == "❚❚ Pause"
    fresh.page.wait_for_function(MOVES, arg=fresh.page.evaluate(NOW))
    fresh.page.locator("#check").evaluate("(node) => node.scrollIntoView({ behavior: 'instant' })")
    fresh.page.wait_for_function("() => !window.__explainer.hero.seen")
    assert stays(fresh.page)
    fresh.close()


def stays(page) -> bool:
    before = page.evaluate(NOW)
    page.wait_for_timeout(300)
    return page.evaluate(NOW) == before


def test_with_reduced_motion_it_is_still_with_all_arrows_in_and_plays_once(browser, built) -> None:
    calm = ExplainerPage(browser, built, reduced_motion="reduce")
    assert stays(calm.page)
    assert calm.page.evaluate(NOW) == 1.5 * K
    assert calm.page.locator("#hero .share[opacity='1']").count() == K
    calm.page.locator("#hero button").click()
    calm.page.wait_for_function(MOVES, arg=1.5 * K)
    calm.page.evaluate("() => { window.__explainer.hero.time = 7.9; }")
    calm.page.wait_for_function("() => !window.__explainer.hero.wanted")
    assert calm.page.locator("#hero button").inner_text() == "▶ Play"
    assert calm.page.evaluate(NOW) == 1.5 * K
    calm.page.locator("#hero button").click()
    calm.page.wait_for_function(f"() => ({NOW})() < 1")  # from the beginning
    calm.close()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_title_and_opening_are_on_the_first_screen_and_nothing_shifts(
    browser, built, width, height, language
) -> None:
    fresh = ExplainerPage(browser, built, width, height, language)
    boxes = [
        fresh.page.locator(part).bounding_box() for part in ("h1", ".lead", "#hero .plot", "#hero button")
    ]
    assert all(box["y"] >= 0 and box["y"] + box["height"] <= height for box in boxes)
    assert fresh.page.evaluate(SHIFTS) < 0.01
    fresh.page.evaluate("() => document.querySelector('.lead').remove()")
    assert fresh.page.evaluate(SHIFTS) > 0.01, "a shift would be noticed"
    fresh.close()


def test_the_picture_of_section_2_goes_on_to_the_moment_that_is_set(explainer) -> None:
    explainer.set("flow", m="2", k="4", moment=1)
    explainer.set("flow", moment=4)
    drawn = "() => document.querySelectorAll('#flow .share[opacity]:not([d=\"\"])').length"
    assert explainer.page.evaluate(drawn) == 0, "it is on its way"
    explainer.page.wait_for_function(f"() => ({drawn})() === 2")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_sites_front_page_has_the_same_picture(browser, built, data, tmp_path, language) -> None:
    part = tmp_path / "part.json"
    part.write_text(json.dumps({code: [{"kind": "prose", "text": "# T"}] for code in LANGUAGES}))
    site.write(tmp_path / "site", ["00_start_here"], {"00_start_here": part, "explainer": built})
    front = SitePage(browser, folder_for(language, tmp_path / "site") / "index.html")
    assert front.complaints == front.off_the_machine() == []
    assert axe(front.page, "main") == []
    assert front.page.locator("#hero .share[opacity='1']").count() == 4
    said = front.page.locator("#hero .plot").get_attribute("aria-label")
    peak, one_pass = (
        data["memory"]["ways"]["fp32,off"]["peak"][2][2],
        data["memory"]["ways"]["fp32,off"]["peak"][0][4],
    )
    assert [f"{nbytes / GIB:.2f}" for nbytes in (peak, one_pass)] == re.findall(r"(\d\.\d\d) GiB", said)
    assert (language == "zh") == ("样本" in said)
    front.close()


# --- Guesses, controls, story


def test_a_section_hides_its_results_until_there_is_a_guess(browser, built) -> None:
    fresh = ExplainerPage(browser, built)
    for section in fresh.sections():
        box = fresh.page.locator(f"#{section}")
        show = box.locator(".reveal")
        assert box.locator(".results").is_hidden()
        assert show.is_disabled()
        box.locator(".prediction input").first.check()
        show.click()
        assert box.locator(".results").is_visible()
        assert fresh.verdict(section).startswith(("You were right.", "Not so."))
    assert fresh.verdict("flow").startswith("Not so. It is: “all sixteen”.")
    fresh.close()


RIGHT = {
    "update": "mini-batches of 4", "flow": "all sixteen",
    "variance": "somewhat less than a quarter", "memory": "it grows", "means": "about 25 times as much",
    "breaks": "one or two", "choose": "twice as many",
}  # fmt: skip


def test_the_right_guess_is_the_computed_one(browser, built) -> None:
    fresh = ExplainerPage(browser, built)
    for section, option in RIGHT.items():
        box = fresh.page.locator(f"#{section}")
        box.locator(".prediction").get_by_label(option, exact=True).check()
        box.locator(".reveal").click()
        assert fresh.verdict(section).startswith("You were right.")
    fresh.close()


def test_every_control_works_with_the_keyboard_alone(browser, built, meter) -> None:
    fresh = ExplainerPage(browser, built)
    fresh.open_all()
    for control in fresh.page.locator(
        ".controls input[type=range], .controls input[type=radio]:checked"
    ).all():
        section = control.evaluate("(node) => node.closest('section').id")
        control.focus()
        fresh.page.wait_for_timeout(100)  # the story follows where the page has scrolled to
        back, count = control.evaluate(
            """(node) => node.type === 'range' ? [+node.value, +node.max]
                 : [0, document.getElementsByName(node.name).length]"""
        )
        for key in ["ArrowLeft"] * back + ["ArrowRight"] * count:
            fresh.page.keyboard.press(key)
            fresh.page.wait_for_function("() => window.__meter.pressed === null")
            fresh.page.wait_for_timeout(30)  # as a key repeats that is held down
        assert all(fresh.words(section)), section
        assert not any("NaN" in words or "undefined" in words for words in fresh.words(section)), section
    meter.add("explainer", fresh.waits())
    assert fresh.complaints == []
    fresh.close()


CONTROLS = "[data-control]"
KEYS = ("ArrowLeft", "ArrowRight", "ArrowRight", "ArrowLeft", "Enter")  # some move it, whatever it is
STATE = "(node) => node.type === 'range' ? node.value : node.checked"


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_results_stand_beneath_the_controls_that_change_them(browser, built, width, height) -> None:
    """Else one would set something up there, and see what it does down here by scrolling."""
    fresh = ExplainerPage(browser, built, width, height)
    fresh.open_all()
    again = fresh.page.locator(".controls-again:visible")
    assert again.count() == 5
    for panel in again.all():
        panel.evaluate("(node) => node.scrollIntoView({ block: 'start', behavior: 'instant' })")
        top = panel.bounding_box()
        begins = panel.locator("xpath=following-sibling::*").locator(".plot").first.bounding_box()
        assert top["y"] >= -1
        assert top["y"] + top["height"] <= begins["y"] <= height - 100
    fresh.close()


def test_every_control_that_changes_results_stands_with_them_and_no_other(browser, built) -> None:
    fresh = ExplainerPage(browser, built)
    assert fresh.page.locator(".controls-again:visible").count() == 0, "there are no results yet"
    fresh.open_all()
    for section in fresh.sections():
        box = fresh.page.locator(f"#{section}")
        for above in box.locator(".controls").locator(CONTROLS).all():
            name, value = above.get_attribute("data-control"), above.evaluate("(node) => node.value")
            same = f"[value='{value}']" if above.get_attribute("type") == "radio" else ""
            again = box.locator(f".controls-again [data-control='{name}']{same}")
            here = again if again.count() else above
            assert changes(fresh, box, here) == (again.count() == 1), (section, name)
            if again.count():
                assert above.evaluate(STATE) == again.evaluate(STATE), (section, name)
    assert fresh.complaints == []
    fresh.close()


def changes(fresh, box, control) -> bool:
    """Whether the results change while a control is moved by keyboard, there and back."""
    seen = set()
    control.focus()
    for key in KEYS:
        fresh.page.keyboard.press(key)
        seen.add(box.locator(".results").inner_html())
    return len(seen) > 1


def test_a_moved_slider_changes_figure_and_words(explainer) -> None:
    explainer.set("variance", m=2, k=1, seed=1)
    before, drawing = explainer.words("variance"), explainer.page.locator("#variance svg").first.inner_html()
    slider = explainer.page.locator("#variance-k")
    slider.focus()
    explainer.page.keyboard.press("End")
    assert explainer.words("variance")[0] != before[0]
    assert explainer.page.locator("#variance svg").first.inner_html() != drawing
    assert slider.get_attribute("aria-valuetext") == "16"


def test_the_story_moves_the_figures(browser, built) -> None:
    fresh = ExplainerPage(browser, built)
    passage = fresh.page.locator("#memory [data-set]").first
    passage.evaluate("(node) => node.scrollIntoView({ block: 'center', behavior: 'instant' })")
    fresh.page.locator("#memory [data-set].now").first.wait_for()
    assert "M = 32, K = 1" in fresh.words("memory")[0]
    last = fresh.page.locator("#flow [data-set]").first
    last.focus()
    fresh.page.keyboard.press("Enter")
    assert "micro-batch 1 backward" in fresh.words("flow")[0]
    fresh.close()


def test_what_the_reader_has_set_is_left_alone_by_scrolling(browser, built) -> None:
    fresh = ExplainerPage(browser, built)
    fresh.page.locator("#update .controls").get_by_label("11", exact=True).click()
    for number in (0, 1, 2):
        passage = fresh.page.locator("#update [data-set]").nth(number)
        passage.evaluate("(node) => node.scrollIntoView({ block: 'center', behavior: 'instant' })")
        fresh.page.wait_for_timeout(200)
        assert "B = 11" in fresh.words("update")[0]
    passage.press("Enter")
    assert "B = 4," in fresh.words("update")[0], "unless a passage is asked for"
    fresh.close()


def test_after_the_reveal_the_guess_stands_and_the_verdict_has_the_focus(browser, built) -> None:
    fresh = ExplainerPage(browser, built)
    box = fresh.page.locator("#memory")
    box.locator(".prediction").get_by_label("nothing", exact=True).check()
    box.locator(".reveal").press("Enter")
    assert box.locator(".prediction input").first.is_disabled()
    assert fresh.page.evaluate("() => document.activeElement.className") == "verdict"
    fresh.close()


def test_a_descent_that_diverges_says_so(explainer) -> None:
    explainer.open_all()
    explainer.set("update", batch="1", rate=0.3, updates=12)
    assert "it diverged" in explainer.words("update")[1]
    explainer.set("update", batch="4", rate=0.1)
    assert "it diverged" not in explainer.words("update")[1]


def test_play_walks_to_the_end_and_stops(browser, built) -> None:
    fresh = ExplainerPage(browser, built)
    fresh.set("flow", m="2", k="2", moment=4)
    button = fresh.page.locator("#flow .play")
    button.click()
    fresh.page.wait_for_function("() => document.querySelector('#flow-moment').value === '4'")
    fresh.page.wait_for_function("() => document.querySelector('#flow .play').textContent === '▶ Play'")
    fresh.close()


# --- For everybody


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_fits_and_nothing_is_in_the_way(browser, built, width, height, language) -> None:
    scheme = "dark" if width == 1920 else "light"
    page = ExplainerPage(
        browser, built, width, height, language, color_scheme=scheme, reduced_motion="reduce"
    )
    page.open_all()
    assert page.page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert axe(page.page) == []
    for plot in page.page.locator("figure .plot").all():
        said = plot.get_attribute("aria-label")
        assert (said and len(said) > 40) or plot.locator("table, pre").count(), "a picture without words"
    assert page.page.evaluate("() => document.getAnimations().length") == 0
    page.close()


@pytest.mark.parametrize(("language", "section"), [("en", "update"), ("zh", "flow")])
def test_pictures_of_the_explainer(browser, built, language, section, pytestconfig, tmp_path) -> None:
    """``--pictures docs/pictures`` renews those in the README."""
    page = ExplainerPage(browser, built, 1280, 1000, language, reduced_motion="reduce")
    folder = pathlib.Path(pytestconfig.getoption("pictures") or tmp_path)
    passage = page.page.locator(f"#{section} [data-set]").last
    passage.evaluate("(node) => node.scrollIntoView({ block: 'center', behavior: 'instant' })")
    page.page.locator(f"#{section} [data-set].now").wait_for()
    page.page.wait_for_timeout(500)  # the passage's background fades in
    picture = folder / f"explainer_{section}.png"
    page.page.screenshot(path=picture)
    assert picture.stat().st_size > 20_000, "an empty page compresses to less"
    page.close()


def test_a_picture_without_words_would_be_noticed(browser, built) -> None:
    page = ExplainerPage(browser, built)
    page.page.evaluate("() => { document.querySelector('#update-rate').labels[0].remove(); }")
    assert any("label" in violation for violation in axe(page.page, "#update"))
    page.close()


def test_it_speaks_chinese(browser, built) -> None:
    page = ExplainerPage(browser, built)
    english = page.page.locator("[data-t]").all_inner_texts()
    page.set("update", batch="11", updates=3)
    page.page.get_by_role("button", name="中文").click()
    chinese = page.page.locator("[data-t]").all_inner_texts()
    same = [a for a, b in zip(english, chinese, strict=True) if a == b]
    assert same == []
    assert page.page.evaluate("() => document.documentElement.lang") == "zh-Hans"
    links = page.page.locator("main a[href$='.ipynb']").evaluate_all("(all) => all.map((a) => a.href)")
    assert all("/notebooks/zh/" in link for link in links)
    page.open_all()
    for section in page.sections():
        for words in [*page.words(section), page.verdict(section)]:
            assert any("一" <= letter <= "鿿" for letter in words), words
    assert "11" in page.words("update")[0], "what was picked stays"
    assert page.complaints == []
    page.close()
