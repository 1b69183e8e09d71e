"""Run a lesson's notebooks, and record what they show as data that a page can show again.

python -m web.record NAME FILE   runs notebooks/NAME.ipynb and its translations, writes FILE as JSON

The cells run in an IPython shell without a front end. Explorers, questions and the hunt are recorded in
place of being displayed: with every setting, every answer, so that a page needs nobody to ask.
"""

import base64
import gzip
import json
import pathlib
import sys
import unittest.mock
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import nbformat
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from accum_lib.lessons.kit import lesson_map
from accum_lib.lessons.kit.grid import GridExplorer
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.variance.explorer import RaceTrack
from accum_lib.lessons.when_it_breaks.explorer import RIGHT, BugHunt, story
from accum_lib.words import LANGUAGES, _, folder_for, speaking
from tools import solutions
from web import exercises

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
NEVER_SHOWN = ("languages", "speak")  # cells that the notebook needs, and a page does not
Block = dict[str, Any]


class LessonError(Exception):
    """A cell of a notebook, or a setting of an explorer, could not be computed."""


def lesson(name: str) -> dict[str, list[Block]]:
    """The blocks of a lesson's page, in the notebook's order, for every language that it is written in."""
    paths = {code: folder_for(code, NOTEBOOKS) / f"{name}.ipynb" for code in LANGUAGES}
    found = {code: record(path, code) for code, path in paths.items() if path.exists()}
    for code, blocks in found.items():
        specs = exercises.specs(name, code)
        for block in blocks:
            if check := block.get("check"):
                block["exercise"] = specs[check]
    return found


def record(path: pathlib.Path, language: str) -> list[Block]:
    """Run one notebook.

    Raises:
        LessonError: a cell raised, an explorer's setting or an answer could not be computed.
    """
    blocks: list[Block] = []

    def put(block: Block) -> None:
        if blocks and block["kind"] == blocks[-1]["kind"] == "text":
            blocks[-1]["text"] += block["text"]
        else:
            blocks.append(block)

    with speaking(language), _shell(put) as shell:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown" and cell.id not in NEVER_SHOWN:
                blocks.append({"kind": "prose", "text": cell.source})
            elif cell.cell_type == "code":
                _run(shell, cell, blocks, path)
    return blocks


def _run(
    shell: InteractiveShell, cell: nbformat.NotebookNode, blocks: list[Block], path: pathlib.Path
) -> None:
    check = solutions.check_of(cell.source)
    if cell.id not in NEVER_SHOWN:
        blocks.append({"kind": "code", "source": cell.source, "check": check})
    before = len(blocks)
    result = shell.run_cell(cell.source, store_history=False)
    if not result.success:
        error = result.error_in_exec or result.error_before_exec
        raise LessonError(f"{path.name}, {cell.id}: {type(error).__name__}: {error}")
    if check:
        del blocks[before:]  # a check's verdict on a blank is nothing to show


@contextmanager
def _shell(put: Callable[[Block], None]) -> Iterator[InteractiveShell]:
    """An IPython shell, of which everything that it shows is put into one list."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(user_ns={})
    shell.display_pub = _Publisher(put)
    shell.display_trap.hook = _Results(put, shell)
    shows: list[tuple[type, Callable[..., Any]]] = [
        (GridExplorer, lambda explorer: put(_explorer(explorer))),
        (Quiz, lambda quiz: put(_quiz(quiz))),
        (BugHunt, lambda hunt: put(_hunt(hunt))),
        (RaceTrack, lambda track: track.run()),
    ]
    with ExitStack() as stack:
        for kind, show in shows:
            stack.enter_context(unittest.mock.patch.object(kind, "show", show))
        in_place_of_map = partial(put, {"kind": "map"})
        stack.enter_context(unittest.mock.patch.object(lesson_map, "progress_map", in_place_of_map))
        stack.enter_context(unittest.mock.patch.object(sys, "stdout", _Stream(put)))
        yield shell


class _Stream:
    """Standard output as blocks of text."""

    def __init__(self, put: Callable[[Block], None]) -> None:
        self._put = put

    def write(self, text: str) -> int:
        if text:
            self._put({"kind": "text", "text": text})
        return len(text)

    def flush(self) -> None:
        """There is nothing to wait for."""


class _Publisher(DisplayPublisher):
    """What a cell displays."""

    def __init__(self, put: Callable[[Block], None]) -> None:
        super().__init__()
        self._put = put

    def publish(self, data: dict[str, Any], metadata: Any = None, **more: Any) -> None:
        for block in _shown(data, metadata or {}):
            self._put(block)


class _Results(DisplayHook):
    """What a cell's last line gives."""

    def __init__(self, put: Callable[[Block], None], shell: InteractiveShell) -> None:
        super().__init__(shell=shell)
        self._put = put

    def __call__(self, result: Any = None) -> None:
        if result is not None and self.shell is not None:
            for block in _shown(*self.shell.display_formatter.format(result)):
                self._put(block)


def _shown(data: dict[str, Any], metadata: dict[str, Any]) -> Iterator[Block]:
    """One output in the richest form that a page can show; of other widgets (progress bars) nothing."""
    if WIDGET in data:
        return
    if "image/png" in data:
        yield {"kind": "image", "png": data["image/png"], "alt": data.get("text/plain", "")}
    elif "text/markdown" in data:
        yield {"kind": "prose", "text": data["text/markdown"], "output": True}
    elif "text/html" in data:
        yield {"kind": "html", "html": data["text/html"]}
    else:
        yield {"kind": "text", "text": data.get("text/plain", "") + "\n"}


# --- What a reader can set


def _explorer(explorer: GridExplorer) -> Block:
    """All that its front end asks of the model: JSON, then the numbers, compressed."""
    explorer.fill()
    if explorer.errors:
        raise LessonError(f"a setting of an explorer could not be computed: {explorer.errors[0]}")
    names = ("controls", "words", "figure", "cells", "selection")
    state = json.dumps(
        {name: getattr(explorer, name) for name in names},
        default=lambda number: number.item(),  # NumPy's
        allow_nan=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    packed = gzip.compress(state.encode() + b"\0" + explorer.numbers, compresslevel=9, mtime=0)
    return {
        "kind": "explorer",
        "data": base64.b64encode(packed).decode(),
        "height": explorer.figure["layout"]["height"],
        "controls": len(explorer.controls),
        "settings": len(explorer.cells),
        "summary": explorer.cells[",".join(map(str, explorer.selection.values()))]["summary"],
    }


def _quiz(quiz: Quiz) -> Block:
    """The question with its answer, computed now, in the words in which the notebook gives it."""
    solved = quiz.solved()
    return {
        "kind": "quiz",
        "name": quiz.name or "",
        "question": _("<b>Your prediction:</b> {question}", question=solved.question),
        "options": list(solved.options),
        "right": solved.right,
        "button": _("Show what happens"),
        "said": list(solved.said),
    }


def _hunt(hunt: BugHunt) -> Block:
    """The clues, and the story of every loop."""
    stories = [[code, story(code, loop)] for code, loop in hunt.suspects]
    verdict = "<b>{verdict}</b> {story}<p>Named so far: {named} of {all}.</p>"
    return {
        **_explorer(hunt.explorer),
        "hunt": {
            "stories": stories,
            "options": [[code, words] for words, code in hunt.guess.options],
            "ask": hunt.guess.description,
            "button": hunt.button.description,
            "hit": _("Well seen."),
            "miss": _("Not that one."),
            "verdict": _(verdict, verdict="{verdict}", story="{story}", named="{named}", all="{all}"),
            "right": RIGHT,
        },
    }


def main() -> int:
    name, output = sys.argv[1], pathlib.Path(sys.argv[2])
    text = json.dumps(lesson(name), ensure_ascii=False, sort_keys=True, indent=1)
    output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
