"""What the notebooks hold, read from the notebooks themselves: question, minutes, predictions, exercises.

So the map of notebook 00 needs no list to keep up to date. Nothing here depends on the
language that a notebook is written in: names of questions and checks are code, the same in all of them.
"""

import json
import pathlib
import re
from dataclasses import dataclass
from typing import Any

from accum_lib.lessons.kit.letters import unmarked

ASKED = re.compile(r"^questions\.(\w+)\(.*?\)\.show\(\)", re.MULTILINE | re.DOTALL)
TOPICS = {  # under which name the reader's progress keeps a notebook's predictions
    "00_start_here": "descents",
    "01_three_descents": "descents",
    "02_equivalence": "equivalence",
    "03_variance": "variance",
    "04_memory": "memory",
    "05_when_it_breaks": "pitfalls",
    "06_roberta": "roberta",
    "07_beyond_text": "beyond",
    "08_distributed": "communication",
    "09_choose_k": "advice",
    "10_capstone": "capstone",
    "11_two_claims": "claims",
}
CHECKED = re.compile(r"^(check_\w+)\(", re.MULTILINE)
NAMED = re.compile(r"[0-9][0-9]_\w+\.ipynb")  # 00_start_here.ipynb: not a copy that the reader has made


@dataclass(frozen=True)
class Lesson:
    """One notebook.

    Attributes:
        file: the notebook's file name.
        title, question, minutes: as its first cell says.
        predictions: the questions that it asks, by topic and function, such as "descents.full_buffer".
        exercises: the checks that grade its exercises.
    """

    file: str
    title: str
    question: str
    minutes: int
    predictions: tuple[str, ...]
    exercises: tuple[str, ...]


def lessons(folder: pathlib.Path) -> list[Lesson]:
    """The notebooks of a folder, in their order.

    Raises:
        ValueError: a notebook's first cell lacks the title, the question or the minutes; or is no JSON.
    """
    return [read(path) for path in sorted(folder.glob("*.ipynb")) if NAMED.fullmatch(path.name)]


def read(path: pathlib.Path) -> Lesson:
    """One notebook's entry."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join(_source(cell) for cell in cells if cell["cell_type"] == "code")
    topic = TOPICS.get(path.stem, path.stem)
    asked = [f"{topic}.{name}" for name in ASKED.findall(code)]
    opening = _opening(path.name, unmarked(_source(cells[0])))
    return Lesson(path.name, *opening, _once(asked), _once(CHECKED.findall(code)))


def _opening(file: str, text: str) -> tuple[str, str, int]:
    """Title, question, minutes: "# title", "**Question.** text", "**Time:** 30 minutes", in any language."""
    head = re.search(r"^# ([^\n]+)\n\n\*\*[^*\n]+\*\*：? *(\S.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    minutes = re.search(r"^\*\*[^*]+\*\*：?\s*(\d+)", text, re.MULTILINE)
    if not (head and minutes):
        raise ValueError(f"{file}: its first cell should have a title, a question in bold, and the minutes")
    return head[1].strip(), " ".join(head[2].split()), int(minutes[1])


def _source(cell: dict[str, Any]) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def _once(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
