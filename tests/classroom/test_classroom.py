"""What `accum class` writes, read by readers that share no code with it."""

import csv
import json
import pathlib
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hatchling.builders.wheel import WheelBuilder

from accum_lib.__main__ import main
from accum_lib.accumulate import windows
from accum_lib.classroom.collect import collect
from accum_lib.classroom.end_quiz import end_quiz
from accum_lib.classroom.quizzes import Question, gift, plain, questions, write_qti
from accum_lib.classroom.student import write
from accum_lib.lessons.kit.contents import lessons
from accum_lib.words import language, speaking

ROOT = pathlib.Path(__file__).resolve().parents[2]
COURSE = lessons(ROOT / "notebooks")
GUESS, OTHER = (name for lesson in COURSE[1:2] for name in lesson.predictions[:2])
TASK = COURSE[1].exercises[0]


# --- A student's copy


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("student")
    write(ROOT, folder / "student.zip")
    with zipfile.ZipFile(folder / "student.zip") as archive:
        archive.extractall(folder)
    return folder / "gradient_accumulation"


def spoilers(copy: pathlib.Path) -> list[str]:
    """What only a teacher or a developer needs."""
    parts = {"solutions", "tests", "tools", "src", "mistakes", "benchmarks"}
    found = [p.relative_to(copy) for p in copy.rglob("*") if parts & set(p.relative_to(copy).parts)]
    return [path.as_posix() for path in found]


def test_a_students_copy_has_no_solutions_tests_and_tools(copy) -> None:
    assert spoilers(copy) == []
    assert {path.name for path in copy.iterdir()} >= {"README.md", "notebooks", "start.py", "accum_lib"}
    for folder in ("notebooks", "notebooks/zh"):
        there, here = (
            {p.name: p.read_bytes() for p in (root / folder).glob("*.ipynb")} for root in (copy, ROOT)
        )
        assert there == here
    (copy / "notebooks" / "solutions").mkdir()
    assert spoilers(copy) == ["notebooks/solutions"]
    (copy / "notebooks" / "solutions").rmdir()


def test_a_students_copy_can_be_installed_and_started(copy) -> None:
    packed = {file.distribution_path for file in WheelBuilder(str(copy)).recurse_included_files()}
    assert packed == {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    done = subprocess.run([sys.executable, "start.py"], cwd=copy, capture_output=True, text=True, check=True)
    assert "python start.py lab" in done.stdout


def test_the_same_course_is_the_same_file_and_outside_a_clone_it_is_said(tmp_path, capsys) -> None:
    for name in ("one.zip", "two.zip"):
        assert main(["class", "student", "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with pytest.raises(ValueError, match="is made from a clone of the repository"):
        write(tmp_path, tmp_path / "student.zip")


# --- What was handed in


def hand_in(folder: pathlib.Path, name: str, predictions: dict, exercises: list) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"predictions": predictions, "exercises": exercises}), encoding="utf-8")


class Table(HTMLParser):
    """The cells of a page's table, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag, attrs) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def test_the_table_says_who_predicted_what_and_solved_which(tmp_path, capsys) -> None:
    hand_in(tmp_path / "in", "anna.json", {GUESS: True, OTHER: False}, [TASK])
    hand_in(tmp_path / "in", "Jörg Müller/.progress.json", {GUESS: False}, [])
    hand_in(tmp_path / "in", "<b>=1+1.json", {}, [])
    assert main(["class", "collect", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "class.csv").open(encoding="utf-8-sig", newline="") as file:
        found = {row["student"]: row for row in csv.DictReader(file)}
    assert set(found) == {"anna", "Jörg Müller", "<b>=1+1"}
    assert (found["anna"][GUESS], found["anna"][OTHER], found["anna"][TASK]) == ("right", "wrong", "solved")
    assert (found["Jörg Müller"][GUESS], found["Jörg Müller"][OTHER]) == ("wrong", "")
    page = (tmp_path / "out" / "class.html").read_text(encoding="utf-8")
    table = Table()
    table.feed(page)
    head, *body, feet = table.rows
    assert {row[0]: row for row in body}["anna"][head.index(OTHER)] == "wrong"
    assert feet[head.index(GUESS)] == "1 of 2 wrong"
    assert feet[head.index(TASK)] == "1 solved"
    assert "<b>=" not in page
    assert not re.search(r"(?:src|href)=", page), "nothing is fetched"


def test_what_a_spreadsheet_would_run_is_text(tmp_path) -> None:
    hand_in(tmp_path / "in", "=HYPERLINK(1).json", {}, [])
    assert main(["class", "collect", str(tmp_path / "in"), "--out", str(tmp_path)]) == 0
    assert "\n'=HYPERLINK(1)," in (tmp_path / "class.csv").read_text(encoding="utf-8-sig")


WRONG = {
    "broken.json": ("{", "is no JSON"),
    "list.json": ("[]", "is not what a notebook writes"),
    "edited.json": (json.dumps({"predictions": {}, "exercises": ["check_all"]}), "no notebook has"),
    "words.json": (json.dumps({"predictions": {GUESS: "yes"}, "exercises": []}), "is not what a notebook"),
    "twice.json": (json.dumps({"predictions": {}, "exercises": [TASK, TASK]}), "twice"),
    "large.json": (" " * 1_000_001, "far too large"),
    "deep.json": ("[" * 100_000, "is not what a notebook writes"),
}


def test_each_wrong_file_gets_a_sentence_and_the_others_are_kept(tmp_path, capsys) -> None:
    hand_in(tmp_path, "anna.json", {GUESS: True}, [])
    for name, (text, _) in WRONG.items():
        (tmp_path / name).write_text(text)
    assert main(["class", "collect", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "students: 1" in said
    page = (tmp_path / "out" / "class.html").read_text(encoding="utf-8")
    for name, (_, sentence) in WRONG.items():
        line = next(line for line in said.splitlines() if line.startswith(f"left out: {name}: "))
        assert sentence in line
        assert name in page


def test_no_folder_and_an_empty_one_are_told(tmp_path, capsys) -> None:
    assert main(["class", "collect", str(tmp_path / "none")]) == 2
    assert main(["class", "collect", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "is no folder: name the one that holds" in err
    assert "holds no .json file" in err


def test_without_the_course_the_files_own_names_count(tmp_path) -> None:
    hand_in(tmp_path, "anna.json", {"a.b": True}, ["check_x"])
    found = collect(tmp_path)
    assert (found.questions, found.exercises, found.faults) == (("a.b",), ("check_x",), ())


# --- Quizzes


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions(ROOT / "notebooks" / "00_start_here.ipynb")


AWKWARD = Question("a.b", "Is {x} = 1 ~ #2: \\ <y>?", ("a=b", "~c", "d: {e}"), 1, ("no #", "yes }", "no \\"))


def read_gift(text: str) -> list[tuple[str, str, list[tuple[str, str, bool]]]]:
    """Name, text, and options with feedback; written after Moodle's description of the format."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        if not block.strip() or block.startswith(("$CATEGORY", "//")):
            continue
        name, rest = re.match(r"::((?:\\.|[^:\\])*)::(.*)", block, re.DOTALL).groups()
        stem, answers = re.match(r"\[plain\]((?:\\.|[^{\\])*)\{((?:\\.|[^}\\])*)\}", rest, re.DOTALL).groups()
        options = []
        for mark, option, said in re.findall(r"([=~])((?:\\.|[^=~#\\])*)#((?:\\.|[^=~#\\])*)", answers):
            options.append((bare(option), bare(said), mark == "="))
        found.append((bare(name), bare(stem), options))
    return found


def bare(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text).strip()


def as_read(question: Question) -> tuple:
    pairs = enumerate(zip(question.options, question.feedback, strict=True))
    return question.name, question.text, [(*pair, index == question.right) for index, pair in pairs]


def test_gift_holds_each_question_with_its_options_and_feedback(asked) -> None:
    (name, stem, options), awkward = read_gift(gift([*asked, AWKWARD], "Course"))
    assert name == "descents.full_buffer"
    assert stem.startswith("Your prediction: ")
    assert [option for option, _, right in options if right] == ["the same"]
    assert all("Relative difference" in said for _, said, _ in options)
    assert awkward == as_read(AWKWARD)


def test_an_option_that_is_not_escaped_would_be_noticed(monkeypatch) -> None:
    monkeypatch.setattr("accum_lib.classroom.quizzes._gift", str)
    assert read_gift(gift([AWKWARD], "Course")) != [as_read(AWKWARD)]


def read_qti(path: pathlib.Path) -> list[tuple]:
    """The same from a QTI 2.1 package, following its manifest as a platform does."""
    with zipfile.ZipFile(path) as archive:
        roots = {name: ET.fromstring(archive.read(name)) for name in archive.namelist()}
    space = {"p": "http://www.imsglobal.org/xsd/imscp_v1p1", "q": "http://www.imsglobal.org/xsd/imsqti_v2p1"}
    resources = roots["imsmanifest.xml"].findall("p:resources/p:resource", space)
    listed = {r.get("identifier"): r for r in resources}
    assert {r.get("href") for r in resources} | {"imsmanifest.xml"} == set(roots)
    needed = [d.get("identifierref") for d in listed["test"].findall("p:dependency", space)]
    order = [ref.get("identifier") for ref in roots["test.xml"].iter(f"{{{space['q']}}}assessmentItemRef")]
    assert needed == order
    found = []
    for identifier in order:
        assert listed[identifier].get("type") == "imsqti_item_xmlv2p1"
        root = roots[listed[identifier].get("href")]
        assert re.fullmatch(r"[A-Za-z_][\w.-]*", root.get("identifier"))
        right = root.findtext("q:responseDeclaration/q:correctResponse/q:value", None, space)
        interaction = root.find("q:itemBody/q:choiceInteraction", space)
        response = root.find("q:responseDeclaration", space).get("identifier")
        assert interaction.get("responseIdentifier") == response
        outcomes = [d.get("identifier") for d in root.findall("q:outcomeDeclaration", space)]
        said = {f.get("identifier"): f.text for f in root.findall("q:modalFeedback", space)}
        assert {f.get("outcomeIdentifier") for f in root.findall("q:modalFeedback", space)} <= set(outcomes)
        options = [(c.text, said[c.get("identifier")], c.get("identifier") == right)
                   for c in interaction.findall("q:simpleChoice", space)]  # fmt: skip
        found.append((root.get("title"), interaction.findtext("q:prompt", None, space), options))
    return found


def test_qti_holds_the_same(asked, tmp_path) -> None:
    write_qti([*asked, AWKWARD], "Course", tmp_path / "quiz.zip")
    assert read_qti(tmp_path / "quiz.zip") == [as_read(question) for question in [*asked, AWKWARD]]
    wrong = Question(AWKWARD.name, AWKWARD.text, AWKWARD.options, 0, AWKWARD.feedback)
    write_qti([wrong], "Course", tmp_path / "wrong.zip")
    assert read_qti(tmp_path / "wrong.zip") != [as_read(AWKWARD)], "another right option is seen"


def test_in_chinese_they_are_chinese() -> None:
    with speaking("zh"):
        (question,) = questions(ROOT / "notebooks" / "zh" / "00_start_here.ipynb")
    assert "你的预测" in question.text
    assert "答案是：相同。" in question.feedback[0]
    assert language() == "en", "as it was before"


def test_the_command_writes_both_and_refuses_what_is_not_there(tmp_path, monkeypatch, capsys) -> None:
    assert main(["class", "quiz", "00", "--out", str(tmp_path)]) == 0
    assert len(read_gift((tmp_path / "quiz.gift").read_text(encoding="utf-8"))) == 1
    assert len(read_qti(tmp_path / "quiz.zip")) == 1
    assert main(["class", "quiz", "77"]) == 2
    assert "there is no notebook '77'" in capsys.readouterr().err


def test_the_end_quiz_has_twelve_questions_and_a_reason_for_each_option() -> None:
    asked = end_quiz()
    assert len({question.name for question in asked}) == len(asked) == 12
    for question in asked:
        assert len(set(question.options)) == len(set(question.feedback)) == len(question.options) >= 3
        right = question.options[question.right]
        for index, said in enumerate(question.feedback):
            assert said.startswith("Right. ") == (index == question.right)
            assert (f"It is: {right}." in said) == (index != question.right)
    assert {question.right for question in asked} == {0, 1, 2, 3}, "the right one is anywhere"
    known = [name for lesson in COURSE for name in lesson.predictions]
    assert not {question.name for question in asked} & set(known), "no notebook asks the same"


def test_the_end_quizs_numbers_are_right() -> None:
    said = {question.name: question.options[question.right] for question in end_quiz()}
    groups = [len(window) for window in windows(range(103), 8)]
    assert said["end.counting"] == f"{len(groups)} updates; the last averages {groups[-1]}"
    assert said["end.tokens"] == str((30 * 1.0 + 10 * 3.0) / 40)
    assert said["end.summed"] == str(0.1 * 4)
    saved = {b: 1 - (1 + 500 / (2 * b)) / (1 + 500 / b) for b in (64, 1024, 8192)}
    assert [round(100 * part) for part in saved.values()] == [44, 16, 3]
    fits = max(m for m in (1, 2, 4, 8, 16, 32) if 14 + 1.5 * m <= 22)
    assert said["end.card"] == f"M = {fits}, K = {32 // fits}"
    weights = [1 / (2 * count) for count in (300, 100)]
    assert weights[1] / weights[0] == pytest.approx(3)


def test_the_command_writes_the_end_quiz_and_the_table_knows_it(tmp_path) -> None:
    assert main(["class", "quiz", "end", "--out", str(tmp_path)]) == 0
    asked = [as_read(question) for question in end_quiz()]
    assert read_gift((tmp_path / "quiz.gift").read_text(encoding="utf-8")) == asked
    assert read_qti(tmp_path / "quiz.zip") == asked
    hand_in(tmp_path / "in", "anna.json", {"end.card": True}, [])
    assert main(["class", "collect", str(tmp_path / "in"), "--out", str(tmp_path)]) == 0
    hand_in(tmp_path / "in", "anna.json", {"end.nothing": True}, [])
    assert main(["class", "collect", str(tmp_path / "in"), "--out", str(tmp_path)]) == 1


def test_a_notebook_whose_cell_fails_is_named(tmp_path) -> None:
    cells = [{"cell_type": "code", "source": ["1 / 0  # questions."]}]
    (tmp_path / "bad.ipynb").write_text(json.dumps({"cells": cells}))
    with pytest.raises(ValueError, match=r"bad\.ipynb: a cell failed with ZeroDivisionError"):
        questions(tmp_path / "bad.ipynb")


def test_markup_is_taken_away() -> None:
    assert plain("It is: <b>a &lt; b</b>.\n  Yes") == "It is: a < b. Yes"
