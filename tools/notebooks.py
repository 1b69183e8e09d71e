"""Build the notebooks from their scripts, run them, and check that nothing has drifted.

    python tools/notebooks.py build [NAME ...]   scripts -> executed notebooks with still pictures
    python tools/notebooks.py check              fails if a notebook's cells differ from its script
    python tools/notebooks.py address            gives all a first cell for hosts that have nothing installed

The scripts in notebooks/src are what one edits and reviews; the notebooks are what students open. Each script
makes a notebook in English and one in every other language: same code, its prose from the catalogue.
``--language zh`` takes one language alone.

Once web/site.toml names the repository's address, each notebook begins with a cell that does nothing where
the library is installed, and installs it from there elsewhere, as on Colab and Kaggle; ``address`` adds it to
notebooks that are built, and keeps their outputs.
"""

import argparse
import os
import pathlib
import re
import sys
import tempfile
import tomllib
import unittest.mock
from collections.abc import Iterator

import jupytext
import nbformat
from catalogue import translations
from nbclient import NotebookClient
from prose import relinked, translated

from accum_lib.lessons.kit.letters import formula
from accum_lib.words import FOLDERS, LANGUAGES, folder_for

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "notebooks" / "src"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # points at a kernel that is gone
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SET_UP = """\
import importlib.util

if importlib.util.find_spec("accum_lib") is None:  # on Colab, Kaggle and the like; their torch stays as it is
    %pip install --quiet "accum_lib[notebooks] @ git+{address}"
"""
SPEAK = 'from accum_lib.words import use_language\n\nuse_language("{language}")'


def from_script(script: pathlib.Path, language: str = "en") -> nbformat.NotebookNode:
    """The notebook without outputs, with cell ids that stay the same from build to build."""
    notebook = jupytext.read(script)
    notebook.metadata = nbformat.from_dict(METADATA)
    for index, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{index:02}", metadata(cell)
    if language != "en":
        translate(notebook, language)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = lettered(cell.source)
    if address():
        notebook.cells.insert(1, _cell("code", "set-up", SET_UP.format(address=address()).strip()))
    notebook.cells.insert(1, _cell("markdown", "languages", switch(script, language)))  # below the title
    return notebook


def metadata(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Its tags; and code that only shows a question or an explorer is folded in JupyterLab."""
    kept = {"tags": cell.metadata.tags} if "tags" in cell.metadata else {}
    if cell.cell_type == "code" and cell.source.endswith(".show()"):
        kept["jupyter"] = {"source_hidden": True}
    return nbformat.from_dict(kept)


def address() -> str:
    """Where the repository can be had, as the site's settings say; "" if nobody has said it."""
    settings = ROOT / "web" / "site.toml"
    return tomllib.loads(settings.read_text(encoding="utf-8"))["repository"] if settings.exists() else ""


def put_address(script: pathlib.Path, language: str) -> None:
    """Bring a built notebook's first cell of code up to date; all others stay, with their outputs."""
    path = target(script, language)
    built = nbformat.read(path, as_version=4)
    built.cells = [cell for cell in built.cells if cell.id != "set-up"]
    for index, cell in enumerate(from_script(script, language).cells):
        if cell.id == "set-up":
            built.cells.insert(index, cell)
    nbformat.write(built, path)


def translate(notebook: nbformat.NotebookNode, language: str) -> None:
    """Its prose in another language, and a first cell of code that makes the library speak it."""
    catalogue = translations(FOLDERS[language])
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(translated(cell.source, catalogue))
    notebook.cells.insert(1, _cell("code", "speak", SPEAK.format(language=language)))


def lettered(text: str) -> str:
    """Its formulas in code marks as HTML, whose letters JupyterLab shows in the course's colours."""
    parts = re.split(r"(^```.*?^```|^#.*?$)", text, flags=re.MULTILINE | re.DOTALL)  # code and headings stay
    return "".join(
        part if i % 2 else re.sub(r"`([^`\n]+)`", lambda found: formula(found[1]) or found[0], part)
        for i, part in enumerate(parts)
    )


def switch(script: pathlib.Path, language: str) -> str:
    """A line that leads to the same notebook in the other languages."""
    up = "" if language == "en" else "../"
    place = {other: f"{up}{'' if other == 'en' else other + '/'}{script.stem}.ipynb" for other in LANGUAGES}
    return " · ".join(
        f"**{name}**" if other == language else f"[{name}]({place[other]})"
        for other, name in LANGUAGES.items()
    )


def _cell(kind: str, name: str, source: str) -> nbformat.NotebookNode:
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    return make(source, id=name)


def build_all(scripts: list[pathlib.Path], languages: list[str]) -> None:
    """Execute them with an empty progress: the reader's own is neither shown in a notebook nor changed."""
    with tempfile.TemporaryDirectory() as folder:
        empty = {"ACCUM_PROGRESS_FILE": str(pathlib.Path(folder) / "progress.json")}
        with unittest.mock.patch.dict(os.environ, empty):
            for language in languages:
                for script in reversed(scripts):  # 00 last: its map reads the others
                    build(script, language)


def build(script: pathlib.Path, language: str = "en") -> None:
    """Execute a script's notebook and write it beside the others, light enough to commit."""
    notebook, path = from_script(script, language), target(script, language)
    path.parent.mkdir(exist_ok=True)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, coalesce_streams=True, resources=where).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = metadata(cell)
        if "outputs" in cell:
            cell.outputs = [lighten(output) for output in cell.outputs]
    nbformat.write(notebook, path)
    print(f"built {path.relative_to(ROOT)} ({path.stat().st_size // 1024} KiB)")


def lighten(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop the live widget, whose state is megabytes, and a picture's second copy in HTML.

    The still picture and its text stay.
    """
    if "data" in output:
        output.data.pop(WIDGET_VIEW, None)
        if "image/png" in output.data:
            output.data.pop("text/html", None)
    return output


def drifted(script: pathlib.Path, language: str = "en") -> bool:
    """Whether the committed notebook's cells are not those of its script."""
    path = target(script, language)
    if not path.exists():
        return True
    return cells(nbformat.read(path, as_version=4)) != cells(from_script(script, language))


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str, nbformat.NotebookNode]]:
    return [(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]


def target(script: pathlib.Path, language: str = "en") -> pathlib.Path:
    """The place of a script's notebook: the English one above, the others in a folder for each language."""
    return folder_for(language, SOURCES.parent) / f"{script.stem}.ipynb"


def faults(scripts: list[pathlib.Path], languages: list[str]) -> Iterator[str]:
    """What does not fit together, a line each."""
    known = {script.stem for script in SOURCES.glob("*.py")}
    for language in languages:
        for script in scripts:
            if drifted(script, language):
                name = target(script, language).relative_to(SOURCES.parent)
                yield f"{name} is not what src/{script.name} and the catalogue say: run 'make notebooks'"
        for path in target(SOURCES / "any.py", language).parent.glob("*.ipynb"):
            if path.stem not in known:
                yield f"{path.relative_to(SOURCES.parent)} has no script in notebooks/src"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["build", "check", "address"])
    parser.add_argument("names", nargs="*", help="such as 00_start_here; all if none is given")
    parser.add_argument("--language", choices=list(LANGUAGES), help="this one alone")
    arguments = parser.parse_args()
    scripts = [SOURCES / f"{n}.py" for n in arguments.names] or sorted(SOURCES.glob("*.py"))
    languages = [arguments.language] if arguments.language else list(LANGUAGES)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    if arguments.command == "build":
        build_all(scripts, languages)
        return 0
    if arguments.command == "address":
        for name in languages:
            for script in scripts:
                put_address(script, name)
        print(f"the address is {address() or 'not set: repository in web/site.toml'}")
        return 0
    found = list(faults(scripts, languages))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
