"""What teachers are told: minutes that add up, links that lead somewhere, every notebook in its place."""

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
TEACHERS = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
BELIEFS = ("summed", "less memory", "accuracy", "all models", "less communication", "leaking tail")
CHINESE = (NOTEBOOKS / "zh" / "README.md").read_text(encoding="utf-8")
PLACE = re.compile(r"\[(\d\d), sections? (\d(?: and \d)?)\]\(([^)]+)\)")
CHINESE_PLACE = re.compile(r"\[(\d\d)，第 (\d(?:、\d)?) 节\]\(([^)]+)\)")


def part(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    return re.split(r"^## ", text.split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    lines = [line for line in text.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def tables(text: str) -> list[list[list[str]]]:
    """The rows of each table of a page."""
    found = re.findall(r"(?:^\|.*(?:\n|$))+", text, flags=re.MULTILINE)
    return [rows(table) for table in found]


def minutes(text: str, length: int) -> list[int]:
    return [int(row[0]) for row in rows(part(text, f"A lesson of {length} minutes"))]


def dead_links(text: str, folder: pathlib.Path) -> list[str]:
    links = re.findall(r"\]\(([^)#]+)", text)
    return [link for link in links if "://" not in link and not (folder / link).exists()]


def wrong_places(text: str) -> list[str]:
    """ "[01, section 2](01_three_descents.ipynb)" must name that notebook, and a section that it has."""
    return [
        f"{number}, section {section}"
        for number, sections, file in PLACE.findall(text)
        for section in sections.split(" and ")
        if not file.startswith(number) or f"## {section}. " not in prose(NOTEBOOKS / file)
    ]


def prose(path: pathlib.Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize("length", [50, 90])
def test_the_minutes_of_a_lesson_add_up(length) -> None:
    assert sum(minutes(TEACHERS, length)) == length
    assert "**Goals:**" in part(TEACHERS, f"A lesson of {length} minutes")
    for row in rows(part(TEACHERS, f"A lesson of {length} minutes")):
        assert all(row), f"a cell of {row} is empty"


def test_the_longer_lesson_begins_as_the_shorter_does() -> None:
    assert minutes(TEACHERS, 90)[0] == sum(minutes(TEACHERS, 50)[:-1])


def test_every_notebook_has_its_place_in_a_lesson() -> None:
    lessons = TEACHERS.split("\n## A lesson of 50 minutes\n")[1].split("\n## Words\n")[0]
    names = sorted(path.name for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
    assert [name for name in names if f"({name})" not in lessons] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if f"(notebooks/{name})" not in readme] == []


@pytest.mark.parametrize(
    "file", ["README.md", "README.zh.md", "CONTRIBUTING.md", "notebooks/README.md", "notebooks/zh/README.md"]
)
def test_links_lead_to_files(file) -> None:
    path = ROOT / file
    assert dead_links(path.read_text(encoding="utf-8"), path.parent) == []


def test_the_places_exist() -> None:
    assert len(PLACE.findall(TEACHERS)) > 20
    assert wrong_places(TEACHERS) == []


def test_the_chinese_page_has_the_same_minutes_places_and_commands() -> None:
    there = [(n, re.findall(r"\d", sections), file) for n, sections, file in CHINESE_PLACE.findall(CHINESE)]
    here = [(n, re.findall(r"\d", sections), file) for n, sections, file in PLACE.findall(TEACHERS)]
    assert there == here
    for english, chinese in zip(tables(TEACHERS), tables(CHINESE), strict=True):
        assert len(english) == len(chinese)
        for one, other in zip(english, chinese, strict=True):
            assert all(other), f"a cell of {other} is empty"
            assert not one[0].isdecimal() or one[0] == other[0]
    for number, file in re.findall(r"\[(\d\d)\b[^]]*\]\(([^)]+)\)", CHINESE):
        assert file.startswith(number)
        assert (NOTEBOOKS / "zh" / file).exists()
    for command in re.findall(r"`(?:make \w+|progress\.reset\(\)|[\w/.]*tools/solutions\.py)", TEACHERS):
        assert command in CHINESE, command


def test_a_chinese_page_that_drifts_would_be_noticed() -> None:
    assert tables("| a |\n|---|\n| 1 |\n\n| b |\n|---|\n| 2 |\n| 3 |") == [[["1"]], [["2"], ["3"]]]
    drifted = CHINESE.replace("[00，第 1 节]", "[00，第 2 节]")
    assert CHINESE_PLACE.findall(drifted) != CHINESE_PLACE.findall(CHINESE)


def test_every_belief_of_the_articles_is_tested_somewhere() -> None:
    found = rows(part(TEACHERS, "What people believe, and where it is tested"))
    for belief in BELIEFS:
        assert [row for row in found if belief in row[0]], belief
    for belief, where, seen in found:
        assert PLACE.search(where), belief
        assert seen


def test_the_checks_of_the_page_can_fail() -> None:
    assert dead_links("see [x](nowhere.ipynb) and [y](README.md)", NOTEBOOKS) == ["nowhere.ipynb"]
    assert wrong_places("[01, sections 2 and 9](01_three_descents.ipynb)") == ["01, section 9"]
    assert wrong_places("[02, section 2](01_three_descents.ipynb)") == ["02, section 2"]
    assert sum(minutes(TEACHERS.replace("| 5 | The problem", "| 6 | The problem"), 50)) == 51
    assert minutes("\n## A lesson of 50 minutes\n| m | w |\n|---|---|\n| 5 | a |\n| 7 | b |\n", 50) == [5, 7]


def test_how_it_is_shown_and_solved_is_said() -> None:
    for command in ("make site", "make lab", "tools/solutions.py", "progress.reset()"):
        assert command in TEACHERS, command
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)`", TEACHERS):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        assert f"make {target} " in makefile, "and make help says so"
