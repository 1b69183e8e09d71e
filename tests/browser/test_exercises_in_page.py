"""Exercises in a page from a disk, without a network: judged as the notebook judges them."""

import ast
import json
import random
import re

import pytest
from accessibility import axe
from site_page import SitePage

from accum_lib.lessons.kit.feedback import Feedback
from accum_lib.words import LANGUAGES
from tools import solutions
from web import build, exercises
from web.exercises import record, runtime, solved_in_page, specs, texts
from web.variants import variants

STEMS = sorted(path.stem for path in solutions.ANSWERS.glob("*.py"))
IN_PAGE = [stem for stem in STEMS if stem != "05_when_it_breaks"]  # all of whose exercises need PyTorch
STATIC = exercises.HERE / "static"


@pytest.fixture(scope="module")
def every() -> dict[str, dict]:
    return {name: spec for stem in STEMS for name, spec in specs(stem, "en").items()}


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory, every):
    """All exercises on one page, opened from a disk with the network cut; what goes wrong is kept."""
    folder = tmp_path_factory.mktemp("exercises")
    (folder / "micropython.js").write_text(runtime())
    for name in ("exercise.js", "exercise.css"):
        (folder / name).write_text((STATIC / name).read_text())
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request", lambda r: page.wrong.append(r.url) if not r.url.startswith(("file:", "blob:")) else None
    )
    page.file = folder / "page.html"
    show(page, every)
    yield page
    context.close()


def show(page, specs_: dict[str, dict], language: str = "en") -> None:
    places = "".join(f'<h2>{name}</h2><div class="exercise" data-check="{name}"></div>' for name in specs_)
    page.file.write_text(
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>Exercises</title>'
        f'<link rel="stylesheet" href="exercise.css"><main><h1>Exercises</h1>{places}</main><script>'
        f"window.ACCUM_EXERCISE_SECONDS = 1; window.ACCUM_EXERCISES = {json.dumps(specs_)};"
        f"window.ACCUM_EXERCISE_TEXTS = {json.dumps(texts(language))};"
        "window.solved = []; window.Accum = { progress: { exercise: (name) => window.solved.push(name) } };"
        '</script><script src="exercise.js"></script></html>'
    )
    page.goto(page.file.as_uri())


def answers(page, cases: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Type each code into its exercise and press Check: the states and the words of the verdicts."""
    return [
        tuple(each)
        for each in page.evaluate(
            """async (cases) => {
                const found = [];
                for (const [name, code] of cases) {
                    const place = document.querySelector(`[data-check=${name}]`);
                    const verdict = place.querySelector("[role=status]");
                    place.querySelector("textarea").value = code;
                    const judged = new Promise((resolve) => {
                        const watch = new MutationObserver(() => {
                            if (verdict.dataset.state !== "running") resolve(watch.disconnect());
                        });
                        watch.observe(verdict, { attributes: true });
                    });
                    place.querySelector(".exercise-check").click();
                    await judged;
                    found.push([verdict.dataset.state, verdict.textContent]);
                }
                return found;
            }""",
            cases,
        )
    ]


def mistakes() -> list[tuple[str, str, str]]:
    """Each known mistake of the exercises in the page: the check, code that runs alone, words of the hint."""
    found = []
    for stem in STEMS:
        tree = ast.parse((solutions.MISTAKES / f"{stem}.py").read_text())
        helpers = [n for n in tree.body if isinstance(n, ast.FunctionDef) or ast.unparse(n) == "import math"]
        table = next(n.value for n in tree.body if isinstance(n, ast.Assign))
        for key, rows in zip(table.keys, table.values, strict=True):
            if solved := solved_in_page(stem).get(key.value):
                for answer, hint in (row.elts for row in rows.elts):
                    last = f"{solved.solution.__name__} = {ast.unparse(answer)}"
                    code = "\n".join([*map(ast.unparse, helpers), last])
                    found.append((key.value, code, hint.value))
    return found


def misjudged(page) -> list[str]:
    """What the page does not judge as the notebook does: solutions, blanks, and mistakes with their hints."""
    every = {name: solved for stem in STEMS for name, solved in solved_in_page(stem).items()}
    specs_ = page.evaluate("window.ACCUM_EXERCISES")
    wanted = [(name, each.source, "right", "Right. ") for name, each in every.items()]
    wanted += [(name, specs_[name]["blank"], "not-yet", "nothing yet: put your") for name in every]
    wanted += [(name, code, "not-yet", hint) for name, code, hint in mistakes()]
    found = answers(page, [case[:2] for case in wanted])
    return [
        f"{name}: {said!r} to {code!r}"
        for (name, code, state, words), (seen, said) in zip(wanted, found, strict=True)
        if seen != state or words not in said
    ]


def test_solutions_are_right_and_each_mistake_gets_the_notebooks_hint(page) -> None:
    assert len(mistakes()) > 120
    assert misjudged(page) == []
    assert sorted(page.evaluate("window.solved")) == sorted(n for s in STEMS for n in solved_in_page(s))
    assert page.wrong == []


def test_results_that_were_recorded_wrong_are_noticed(page, every) -> None:
    changed = json.loads(json.dumps(every))
    changed["check_bytes"]["right"]["accepts"]["1000.0, 4, 5, False"] = {"least": 49, "most": 49.5}
    changed["check_weight"]["mistakes"][2]["results"]["1, [5, 3, 1]"] += 0.001
    show(page, changed)
    try:
        found = misjudged(page)
    finally:
        show(page, every)
    assert [line.partition(":")[0] for line in found] == ["check_bytes", "check_weight"]


def test_an_endless_loop_is_stopped_and_the_next_answer_is_judged(page) -> None:
    endless = "def weight(index, counts):\n    while True: pass"
    good = "def weight(index, counts):\n    return counts[index] / sum(counts)"
    (stopped, said), (state, _) = answers(page, [("check_weight", endless), ("check_weight", good)])
    assert (stopped, state) == ("not-yet", "right")
    assert said.startswith("Not yet: your code was still running after 1 seconds")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def weight(index, counts)\n    return 1", "Not yet: your code cannot be run: SyntaxError: "),
        ("x = 1 / 0", "Not yet: your code cannot be run: ZeroDivisionError: division by zero (line 1)"),
        ("def weigth(index, counts): return 1", "Not yet: there is no function weight."),
        ("def weight(i, n):\n    return 1 / 0", "raised ZeroDivisionError: division by zero (line 2)"),
        ("def weight(i, n): return weight(i, n)", "Not yet: your function raised RecursionError: "),
        ("def weight(i, n): return [0] * 10**9", "Not yet: your function raised MemoryError: "),
        ("def weight(i, n): return 'a' * 200", "weight(0, [5, 3, 1]) your function returns 'aaa"),
        ("def weight(i, n): return float('nan')", "weight(0, [5, 3, 1]) your function returns nan"),
        ("def weight(i, n): return 10**400", "weight(0, [5, 3, 1]) your function returns 1000"),
        ("def weight(i, n): return 0.55", "for weight(0, [5, 3, 1]) your function returns 0.55, and"),
        ("import numpy", "This page runs MicroPython, which lacks parts of Python."),
        ("def weight(i, n): return n.clear() or 5 / 9", "Not yet: for weight(1, [5, 3, 1])"),
    ],
)  # fmt: skip
def test_whatever_is_wrong_is_said_plainly(page, code, said) -> None:
    [(state, found)] = answers(page, [("check_weight", code)])
    assert state == "not-yet"
    assert said in found


def test_another_right_form_is_right(page) -> None:
    forms = [
        ("check_weight", "weight = lambda i, n: n[i] * (1 / sum(n))"),
        ("check_updates_per_epoch", "def updates_per_epoch(n, m, k): return -(-n // m) // -k * -1.0"),
        ("check_beta2", "from math import *\ndef beta2(a, b, c): return exp(log(a) * c / b)"),
        ("check_noise_scale", "from __future__ import annotations\nimport math\nfrom statistics import mean\n"
         "def noise_scale(m: int, k, s, w):\n    b = math.prod([m, k])\n    t = (s - w) * m * b / (b - m)\n"
         "    return mean([t]) / (w - t / b)"),
        ("check_work", "from typing import Sequence\ndef work(n: float, b: int) -> Sequence[float]:\n"
                       "    return [(b + n) / b, (n + b) / n]"),
        ("check_fastest_steps", "def steps(n, m, p, u):\n"
         "    return min(range(1, 200), key=lambda k: (1 + n / m / k) * (k * p + u))"),
        ("check_alignable", "from itertools import groupby\ndef alignable(frames, target):\n"
                            "    return int(frames >= 2 * len(target) - len(list(groupby(target))))"),
        ("check_torch_mean", "def weights(n):\n    return tuple(1 / (len(n) * each) for each in n)"),
    ]  # fmt: skip
    assert [said for state, said in answers(page, forms) if state != "right"] == []


def test_a_page_in_chinese_judges_alike_and_says_it_in_chinese(page, every) -> None:
    stem, name = "01_three_descents", "check_same_step"
    show(page, specs(stem, "zh"), "zh")
    try:
        cases = [(name, code) for check, code, _ in mistakes() if check == name]
        found = answers(page, [(name, solved_in_page(stem)[name].source), *cases, (name, "1 +")])
        buttons = page.locator(f"[data-check={name}] button").all_inner_texts()
    finally:
        show(page, every)
    assert found[0][1].startswith("正确。")
    assert all(state == "not-yet" and said.startswith("还不对：") for state, said in found[1:])
    assert len({said for _, said in found}) == len(found)
    assert buttons == ["检查", "重新开始"]


def test_the_editor_by_keyboard(page) -> None:
    place = page.locator("[data-check=check_weight]")
    area, again = place.locator("textarea"), place.locator(".exercise-again")
    area.fill("")
    area.type("def weight(i, n):\nreturn 1\nif i:  # why\npass")
    assert area.input_value() == "def weight(i, n):\n    return 1\n    if i:  # why\n        pass"
    page.keyboard.press("Shift+Tab")
    assert area.input_value().endswith("  # why\n    pass")
    page.keyboard.press("Tab")
    assert area.input_value().endswith("  # why\n    pass    ")
    assert area.evaluate("e => e === document.activeElement")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Check"
    typed = area.input_value()
    area.press("Control+Enter")
    assert "Not yet" in place.locator("[data-state=not-yet]").inner_text()
    assert area.input_value() == typed
    page.reload()
    assert area.input_value() == typed, "what was typed is kept"
    again.click()
    assert area.input_value() == page.evaluate("ACCUM_EXERCISES.check_weight.blank")
    page.reload()
    assert "your formula" in area.input_value()


def test_what_needs_pytorch_leads_to_the_notebook(page) -> None:
    place = page.locator("[data-check=check_loop]")
    assert place.inner_text().endswith("Solve it in the notebook notebooks/02_equivalence.ipynb.")
    assert place.locator("textarea").count() == 0


def test_a_page_of_the_site_has_the_editor_and_keeps_what_is_solved(browser, tmp_path, every) -> None:
    stem, name = "02_equivalence", "check_mean_of_means_weight"
    blocks = [{"kind": "prose", "text": "# Weights"}]
    for check in ("check_loop", name):
        code = {"kind": "code", "source": "def made(): ...", "check": check}
        blocks.append({**code, "exercise": every[check]})
    part = tmp_path / "part.json"
    part.write_text(json.dumps(dict.fromkeys(LANGUAGES, blocks)))
    build.write(tmp_path / "site", [stem], {stem: part})
    lesson = SitePage(browser, tmp_path / "site" / f"{stem}.html")
    assert lesson.page.locator(".task").count() == 1, "of the exercise that is not solved here"
    assert "PyTorch" in lesson.page.locator("[data-check=check_loop]").inner_text()
    [(state, said)] = answers(lesson.page, [(name, solved_in_page(stem)[name].source)])
    assert (state, said[:6]) == ("right", "Right.")
    assert lesson.progress()["exercises"] == [name]
    assert lesson.complaints == []
    assert axe(lesson.page) == []
    lesson.close()


def test_what_is_printed_is_shown(page) -> None:
    place = page.locator("[data-check=check_weight]")
    answers(page, [("check_weight", "print('so far')\ndef weight(i, n):\n    print(i)\n    return 1")])
    assert place.locator("pre").inner_text().startswith("so far\n0\n")
    answers(page, [("check_weight", "def weight(i, n):\n    return 1")])
    assert place.locator("details").is_hidden()


def test_nothing_is_in_the_way_of_a_screen_reader(page) -> None:
    answers(page, [("check_weight", "def weight(i, n):\n    return 1")])
    assert axe(page) == []


def slips(stem: str, more: int = 0) -> list[tuple[str, str, Feedback | None]]:
    """Solutions with one slip: the check, the code, and what the notebook's check says, if nothing raises.

    Args:
        stem: of the notebook.
        more: how many with two slips are drawn for each exercise.
    """
    found = []
    for name, solved in solved_in_page(stem).items():
        codes = variants(solved.source)
        twice = sorted({two for one in codes if more for two in variants(one)} - {solved.source})
        for code in [*codes, *random.Random(0).sample(twice, min(more, len(twice)))]:
            names: dict = {}
            exec(code, names)
            found.append((name, code, record(solved.check, names[solved.solution.__name__])[0]))
    return found


def check_slips(page, cases: list[tuple[str, str, Feedback | None]]) -> None:
    """Right is what the check takes; a hint is the check's own, or says for what the result is not right."""
    found = answers(page, [case[:2] for case in cases])
    own = 0
    for (name, code, check), (state, said) in zip(cases, found, strict=True):
        right = check is not None and check.correct
        assert (state == "right") == right, f"{name}: {said!r} to {code!r}"
        if check and not right and " your function r" not in said:  # returns, raised
            assert whole(said) == whole(repr(check)), f"{name}: {code!r}"
            own += 1
    right = sum(check is not None and check.correct for _, _, check in cases)
    print(f"{len(cases)} slips: {right} are right all the same, {own} get the check's own hint")


def whole(said: str) -> str:
    """Words in which 2.0 is 2, and -0 is 0: a known mistake may have the one, and the answer the other."""
    return re.sub(r"-(?=0(\.0+)?(?![\d.]*[1-9]))", "", re.sub(r"(\d)\.0\b", r"\1", said))


@pytest.mark.parametrize(
    "stem", [pytest.param(s, marks=() if s == "04_memory" else pytest.mark.slow) for s in IN_PAGE]
)
def test_a_slip_in_a_solution_is_judged_as_in_the_notebook(stem, page) -> None:
    check_slips(page, slips(stem))


@pytest.mark.slow
@pytest.mark.parametrize("stem", IN_PAGE)
def test_two_slips_in_a_solution_are_judged_as_in_the_notebook(stem, page) -> None:
    check_slips(page, slips(stem, 400))
