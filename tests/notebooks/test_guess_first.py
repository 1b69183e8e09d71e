"""Guess first: nothing that is on the screen before a question says one of its options.

Read from the notebooks as they are saved: their prose, what their cells print, and the words beside pictures.
A sentence that gives an answer away in words of its own is not found; one that shares an option's words is.
"""

import pathlib
import re

import nbformat
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
OPTION = re.compile(r"^ +\( \) (.+)$", re.MULTILINE)
FEWEST = 3  # words of an option: "the same" may stand in any sentence


def plain(text: str) -> str:
    """Lower case, without marks of Markdown and with single spaces."""
    return " ".join(re.sub(r"[`*_<>|$]", " ", text.lower()).split())


def shown(cell: nbformat.NotebookNode) -> str:
    """What of a cell can be read before a question below it is answered."""
    if cell.cell_type == "markdown":
        return cell.source
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs
    )


def given_away(notebook: nbformat.NotebookNode) -> list[str]:
    """The options of each question that stand in what comes before it."""
    before, found = "", []
    for cell in notebook.cells:
        text = shown(cell)
        if cell.cell_type == "code" and (options := OPTION.findall(text)):
            said = [option for option in options if len(option.split()) >= FEWEST]
            found += [option for option in said if plain(option) in plain(before)]
            continue  # the options of other questions are no answers
        before += "\n" + text
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_option_is_said_before_its_question(path) -> None:
    notebook = nbformat.read(path, as_version=4)
    asked = sum(".show()" in c.source and "questions." in c.source for c in notebook.cells)
    with_options = sum(bool(OPTION.search(shown(c))) for c in notebook.cells if c.cell_type == "code")
    assert with_options >= min(asked, 1), "questions are read from the saved outputs"
    assert given_away(notebook) == []


def test_an_answer_in_the_goals_would_be_noticed() -> None:
    path = next(p for p in NOTEBOOKS if p.stem == "09_choose_k")
    notebook = nbformat.read(path, as_version=4)
    question = next(c for c in notebook.cells if c.cell_type == "code" and OPTION.search(shown(c)))
    option = next(o for o in OPTION.findall(shown(question)) if len(o.split()) >= FEWEST)
    notebook.cells[0].source += f"\n\nYou will see that {option}."
    assert given_away(notebook) == [option]
