"""The questions of the lessons for a learning platform: GIFT (Moodle) and QTI 2.1 (Canvas and others).

A notebook's own cells are run, up to its last question, and the answers are those that it computes.
"""

import contextlib
import html
import io
import json
import pathlib
import re
import unittest.mock
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from accum_lib.lessons.kit.grid import GridExplorer
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.words import _, language, speaking

QTI = "http://www.imsglobal.org/xsd/imsqti_v2p1"
PACKAGE = "http://www.imsglobal.org/xsd/imscp_v1p1"
TIME = (2020, 1, 1, 0, 0, 0)  # of every entry of the zip


@dataclass(frozen=True)
class Question:
    """One question with its answer, and with what is said for each option.

    Attributes:
        name: as in the reader's progress.
        text, options: as the notebook asks.
        right: the index of the right option.
        feedback: for each option.
    """

    name: str
    text: str
    options: tuple[str, ...]
    right: int
    feedback: tuple[str, ...]


def questions(notebook: pathlib.Path) -> list[Question]:
    """What the notebook asks, in its order, with answers that are computed now; it may take a minute.

    Raises:
        ValueError: a cell of it does not run.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    asking = [index for index, source in enumerate(code) if "questions." in source]
    found: list[Question] = []
    names: dict[str, Any] = {"__name__": "__main__"}
    with speaking(language()), _recording(found), contextlib.redirect_stdout(io.StringIO()):
        for source in code[: asking[-1] + 1] if asking else []:
            try:
                exec(compile(source, notebook.name, "exec"), names)
            except Exception as error:
                raise ValueError(
                    f"{notebook.name}: a cell failed with {type(error).__name__}: {error}"
                ) from error
    return found


@contextlib.contextmanager
def _recording(found: list[Question]) -> Iterator[None]:
    """Inside, what is shown is not displayed: questions are answered and kept."""

    def ask(quiz: Quiz) -> None:
        solved = quiz.solved()
        shown = tuple(map(plain, solved.options))
        said = tuple(map(plain, solved.said))
        asked = plain(_("Your prediction: {question}", question=solved.question))
        found.append(Question(quiz.name or f"question.{len(found) + 1}", asked, shown, solved.right, said))

    with (
        unittest.mock.patch.object(Quiz, "show", ask),
        unittest.mock.patch.object(GridExplorer, "show"),
    ):
        yield


def plain(text: str) -> str:
    """Without the little HTML that a notebook shows."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


def gift(asked: Sequence[Question], category: str) -> str:
    """The questions in Moodle's GIFT format."""
    parts = [f"$CATEGORY: {category}\n"]
    for question in asked:
        lines = [f"::{_gift(question.name)}::[plain]{_gift(question.text)} {{"]
        for index, (option, said) in enumerate(zip(question.options, question.feedback, strict=True)):
            mark = "=" if index == question.right else "~"
            lines.append(f"\t{mark}{_gift(option)}#{_gift(said)}")
        parts.append("\n".join([*lines, "}\n"]))
    return "\n".join(parts)


def _gift(text: str) -> str:
    return re.sub(r"([\\~=#{}:])", r"\\\1", text)


def write_qti(asked: Sequence[Question], title: str, out: pathlib.Path) -> None:
    """The questions as a QTI 2.1 content package: a zip with a manifest, a test, and an item for each."""
    items = {f"items/{_identifier(q.name)}.xml": item(q) for q in asked}
    files = {"imsmanifest.xml": _manifest(asked), "test.xml": _test(asked, title), **items}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, root in files.items():
            ET.indent(root)
            text = ET.tostring(root, encoding="utf-8", xml_declaration=True)
            archive.writestr(zipfile.ZipInfo(name, TIME), text, zipfile.ZIP_DEFLATED)


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _letter(index: int) -> str:
    return "ABCDEFGHIJ"[index]


def item(question: Question) -> ET.Element:
    """One multiple choice with one right answer, worth a point, and feedback for each option."""
    root = ET.Element("assessmentItem", {
        "xmlns": QTI, "identifier": _identifier(question.name), "title": question.name, "adaptive": "false",
        "timeDependent": "false",
    })  # fmt: skip
    response = ET.SubElement(root, "responseDeclaration", {
        "identifier": "RESPONSE", "cardinality": "single", "baseType": "identifier",
    })  # fmt: skip
    ET.SubElement(ET.SubElement(response, "correctResponse"), "value").text = _letter(question.right)
    for name, kind in (("SCORE", "float"), ("FEEDBACK", "identifier")):
        ET.SubElement(
            root, "outcomeDeclaration", {"identifier": name, "cardinality": "single", "baseType": kind}
        )
    body = ET.SubElement(root, "itemBody")
    choice = ET.SubElement(body, "choiceInteraction", {
        "responseIdentifier": "RESPONSE", "shuffle": "false", "maxChoices": "1",
    })  # fmt: skip
    ET.SubElement(choice, "prompt").text = question.text
    for index, option in enumerate(question.options):
        ET.SubElement(choice, "simpleChoice", {"identifier": _letter(index)}).text = option
    processing = ET.SubElement(root, "responseProcessing")
    condition = ET.SubElement(processing, "responseCondition")
    for branch, points in (("responseIf", "1"), ("responseElse", "0")):
        made = ET.SubElement(condition, branch)
        if branch == "responseIf":
            match = ET.SubElement(made, "match")
            ET.SubElement(match, "variable", {"identifier": "RESPONSE"})
            ET.SubElement(match, "correct", {"identifier": "RESPONSE"})
        value = ET.SubElement(made, "setOutcomeValue", {"identifier": "SCORE"})
        ET.SubElement(value, "baseValue", {"baseType": "float"}).text = points
    said = ET.SubElement(processing, "setOutcomeValue", {"identifier": "FEEDBACK"})
    ET.SubElement(said, "variable", {"identifier": "RESPONSE"})
    for index, text in enumerate(question.feedback):
        feedback = {"outcomeIdentifier": "FEEDBACK", "identifier": _letter(index), "showHide": "show"}
        ET.SubElement(root, "modalFeedback", feedback).text = text
    return root


def _test(asked: Sequence[Question], title: str) -> ET.Element:
    root = ET.Element("assessmentTest", {"xmlns": QTI, "identifier": "accum_lib", "title": title})
    part = ET.SubElement(root, "testPart", {
        "identifier": "part", "navigationMode": "nonlinear", "submissionMode": "individual",
    })  # fmt: skip
    section = ET.SubElement(part, "assessmentSection", {
        "identifier": "section", "title": title, "visible": "true",
    })  # fmt: skip
    for question in asked:
        name = _identifier(question.name)
        ET.SubElement(section, "assessmentItemRef", {"identifier": name, "href": f"items/{name}.xml"})
    return root


def _manifest(asked: Sequence[Question]) -> ET.Element:
    root = ET.Element("manifest", {"xmlns": PACKAGE, "identifier": "accum_lib_quiz"})
    metadata = ET.SubElement(root, "metadata")
    ET.SubElement(metadata, "schema").text = "QTIv2.1 Package"
    ET.SubElement(metadata, "schemaversion").text = "1.0.0"
    ET.SubElement(root, "organizations")
    resources = ET.SubElement(root, "resources")
    names = [_identifier(question.name) for question in asked]
    listed = [("test", "imsqti_test_xmlv2p1", "test.xml", names)]
    listed += [(name, "imsqti_item_xmlv2p1", f"items/{name}.xml", []) for name in names]
    for identifier, kind, href, needs in listed:
        made = ET.SubElement(resources, "resource", {"identifier": identifier, "type": kind, "href": href})
        ET.SubElement(made, "file", {"href": href})
        for need in needs:
            ET.SubElement(made, "dependency", {"identifierref": need})
    return root
