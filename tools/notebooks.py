"""Build the notebooks from their scripts, run them, and check that nothing has drifted.

    python tools/notebooks.py build [NAME ...]   scripts -> executed notebooks with still pictures
    python tools/notebooks.py check              fails if a notebook's cells differ from its script

The scripts in notebooks/src are what one edits and reviews; the notebooks are what students open.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import unittest.mock

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "notebooks" / "src"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # points at a kernel that is gone
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def from_script(script: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook without outputs, with cell ids that stay the same from build to build."""
    notebook = jupytext.read(script)
    notebook.metadata = nbformat.from_dict(METADATA)
    for index, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{index:02}", nbformat.NotebookNode()
    return notebook


def build_all(scripts: list[pathlib.Path]) -> None:
    """Execute them with an empty progress: the reader's own is neither shown in a notebook nor changed."""
    with tempfile.TemporaryDirectory() as folder:
        nobodys = {"ACCUM_PROGRESS_FILE": str(pathlib.Path(folder) / "progress.json")}
        with unittest.mock.patch.dict(os.environ, nobodys):
            for script in scripts:
                build(script)


def build(script: pathlib.Path) -> None:
    """Execute a script's notebook and write it beside the others, light enough to commit."""
    notebook = from_script(script)
    where = {"metadata": {"path": str(target(script).parent)}}
    NotebookClient(notebook, timeout=300, coalesce_streams=True, resources=where).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()
        if "outputs" in cell:
            cell.outputs = [lighten(output) for output in cell.outputs]
    nbformat.write(notebook, target(script))
    print(f"built {target(script).relative_to(ROOT)} ({target(script).stat().st_size // 1024} KiB)")


def lighten(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop the live widget, whose state is megabytes, and a picture's second copy in HTML.

    The still picture and its text stay.
    """
    if "data" in output:
        output.data.pop(WIDGET_VIEW, None)
        if "image/png" in output.data:
            output.data.pop("text/html", None)
    return output


def drifted(script: pathlib.Path) -> bool:
    """Whether the committed notebook's cells are not those of its script."""
    if not target(script).exists():
        return True
    committed = nbformat.read(target(script), as_version=4)
    return cells(committed) != cells(from_script(script))


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def target(script: pathlib.Path) -> pathlib.Path:
    return SOURCES.parent / f"{script.stem}.ipynb"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["build", "check"])
    parser.add_argument("names", nargs="*", help="such as 00_start_here; all if none is given")
    arguments = parser.parse_args()
    scripts = [SOURCES / f"{n}.py" for n in arguments.names] or sorted(SOURCES.glob("*.py"))
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    if arguments.command == "build":
        build_all(scripts)
        return 0
    stale = [script.stem for script in scripts if drifted(script)]
    orphans = {p.stem for p in SOURCES.parent.glob("*.ipynb")} - {s.stem for s in SOURCES.glob("*.py")}
    for name in stale:
        print(f"{name}.ipynb is not what src/{name}.py says: run 'make notebooks'")
    for name in orphans:
        print(f"{name}.ipynb has no script in notebooks/src")
    return 1 if stale or orphans else 0


if __name__ == "__main__":
    sys.exit(main())
