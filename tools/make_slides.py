"""Slides from the notebooks as they were saved: prose and still pictures, no code, one file each, no network.

    python tools/make_slides.py [NAME ...]   writes build/slides/NAME.slides.html; all if none is named

``--language zh`` (or the environment's ACCUM_LANGUAGE) takes the Chinese ones, into build/slides/zh.
Each section ("## ...") is a slide; what does not fit on one goes on below it.
"""

import argparse
import base64
import math
import pathlib
import re
import struct
import sys
from dataclasses import dataclass
from typing import Any

import nbformat
from nbconvert.exporters import SlidesExporter
from nbformat.v4 import new_code_cell, new_markdown_cell

from accum_lib.words import LANGUAGES, columns, folder_for, language

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "tools" / "slides"
HEIGHT = 690  # pixels of a slide of 800 that are there to be filled
WIDTH, PICTURE = 1160, 590  # pixels at most, as in slides.css
LINE, CHARACTERS = 37, 84  # pixels; characters in a line
TABLE_ROW, PLAIN_LINE, PLAIN_CHARACTERS = 42, 26, 100


@dataclass
class Piece:
    """Part of a slide: a cell, and about how many pixels high it will be."""

    cell: nbformat.NotebookNode
    height: float


def slides_of(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook cut into cells that carry the slide type that nbconvert looks for."""
    cells = []
    for section in _sections(notebook):
        title = re.search(r"^#+ (.+)", section[0].cell.source, re.MULTILINE)
        for number, screen in enumerate(_screens(section)):
            if number and title:
                screen.insert(0, Piece(_again(title[1]), 0))
            kind = "subslide" if number else "slide"
            for position, piece in enumerate(screen):
                piece.cell.metadata["slideshow"] = {"slide_type": "-" if position else kind}
                cells.append(piece.cell)
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def export(notebook: nbformat.NotebookNode, name: str, spoken: str = "en") -> str:
    """The slides as HTML."""
    exporter = SlidesExporter(
        template_name="slides",
        extra_template_basedirs=[str(HERE.parent)],
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        language_code=spoken,
    )
    own = {
        "reveal_js": HERE / "reveal" / "reveal.js",
        "reveal_css": HERE / "reveal" / "reveal.css",
        "slides_css": HERE / "slides.css",
    }
    resources: dict[str, Any] = {"metadata": {"name": name}}
    resources["own"] = {key: path.read_text(encoding="utf-8") for key, path in own.items()}
    return exporter.from_notebook_node(slides_of(notebook), resources=resources)[0]


def _sections(notebook: nbformat.NotebookNode) -> list[list[Piece]]:
    """Pieces, cut before each heading of the second level."""
    sections: list[list[Piece]] = [[]]
    for cell in notebook.cells:
        if cell.get("id") == "languages":
            continue  # there are no slides in the other languages to lead to
        for piece in _pieces(cell):
            if piece.cell.cell_type == "markdown" and piece.cell.source.startswith("## ") and sections[-1]:
                sections.append([])
            sections[-1].append(piece)
    return [section for section in sections if section]


def _screens(section: list[Piece]) -> list[list[Piece]]:
    """Pieces on screens that hold them, in their order; no screen ends with a line that leads on."""
    screens: list[list[Piece]] = [[]]
    for piece in section:
        used = sum(p.height for p in screens[-1]) + (LINE if len(screens) > 1 else 0)  # the title, once more
        if used + piece.height > HEIGHT and not all(_leads(p) for p in screens[-1]):
            screens.append([])
            while _leads(screens[-2][-1]):
                screens[-1].insert(0, screens[-2].pop())
        screens[-1].append(piece)
    return screens


def _leads(piece: Piece) -> bool:
    """A heading, or a line such as "**Things to try**" or "Line by line:": nothing without what follows."""
    source = piece.cell.source.rstrip()
    return piece.cell.cell_type == "markdown" and bool(re.match(r"#|\*\*[^*]+\*\*$|(?s:.*[:：]$)", source))


def _pieces(cell: nbformat.NotebookNode) -> list[Piece]:
    if cell.cell_type == "markdown":
        return [Piece(new_markdown_cell(_linked(b)), _height(b)) for b in _blocks(cell.source)]
    if cell.cell_type != "code" or not cell.outputs or re.search(r"^check_\w+\(.*\Z", cell.source, re.M):
        return []  # a check's verdict on a blank is nothing to show
    for output in cell.outputs:
        data = output.get("data", {})
        if "text/html" in data:
            data["text/html"] = _linked("".join(data["text/html"]))
    return [Piece(_one_output(cell, output), _output_height(output)) for output in cell.outputs]


def _blocks(source: str) -> list[str]:
    """Markdown cut at blank lines, but not inside a fence."""
    parts = re.split(r"(^```.*?^```)", source, flags=re.MULTILINE | re.DOTALL)
    blocks = [[p] if p.startswith("```") else re.split(r"\n\s*\n", p) for p in parts]
    return [block.strip("\n") for many in blocks for block in many if block.strip()]


def _height(block: str) -> float:
    lines = block.split("\n")
    if block.startswith("```"):
        return PLAIN_LINE * len(lines)
    if block.startswith("|"):
        return sum(TABLE_ROW * _rows(line) for line in lines)
    items = re.split(r"\n(?=\s*(?:[-*]|\d+\.) )", block)
    return sum(map(_rows, items)) * LINE * (1.3 if block.startswith("#") else 1) + 14


def _rows(text: str) -> int:
    """The lines that it takes, without what its links lead to."""
    return math.ceil(columns(re.sub(r"\]\(.*?\)", "", text)) / CHARACTERS)


def _one_output(cell: nbformat.NotebookNode, output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return new_code_cell(cell.source, outputs=[output])


def _output_height(output: nbformat.NotebookNode) -> float:
    data = output.get("data", {})
    if "image/png" in data:
        width, height = struct.unpack(">II", base64.b64decode(data["image/png"])[16:24])
        return min(PICTURE, WIDTH * height / width)
    if "text/markdown" in data:
        return sum(_height(block) for block in _blocks("".join(data["text/markdown"])))
    text = "".join(data.get("text/plain", output.get("text", "")))
    rows = sum(max(1, math.ceil(columns(line) / PLAIN_CHARACTERS)) for line in text.split("\n"))
    return rows * (LINE if "text/html" in data else PLAIN_LINE) + 14


def _again(title: str) -> nbformat.NotebookNode:
    """A section's title on the screens after its first: without an anchor, which would be there twice."""
    return new_markdown_cell(f'<h2 class="again">{re.sub(r"[`*]", "", title)}</h2>')


def _linked(text: str) -> str:
    """Links to notebooks lead to their slides."""
    return re.sub(r"(\]\(|href=')(\d\d_\w+)\.ipynb", r"\1\2.slides.html", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="such as 01_three_descents")
    parser.add_argument("--language", choices=list(LANGUAGES), default=language())
    arguments = parser.parse_args()
    source, target = (folder_for(arguments.language, ROOT / path) for path in ("notebooks", "build/slides"))
    target.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or sorted(path.stem for path in source.glob("*.ipynb")):
        notebook = nbformat.read(source / f"{name}.ipynb", as_version=4)
        path = target / f"{name}.slides.html"
        path.write_text(export(notebook, name, arguments.language), encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)} ({path.stat().st_size // 1024} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
