"""The course as a student gets it: notebooks, library and set-up, without solutions, tests and tools."""

import pathlib
import zipfile

from accum_lib.words import LANGUAGES, folder_for

FILES = (
    "start.py", "pyproject.toml", "requirements.txt", "constraints.txt", "LICENSE", "LICENSE-CONTENT",
    "THIRD-PARTY.md",
)  # fmt: skip
LIBRARY = (".py", ".typed", ".js", ".css", ".json", ".po")
README = """\
# Gradient accumulation you can see and touch

    python start.py lab

sets everything up and opens the first notebook, `notebooks/00_start_here.ipynb` (Python 3.11 or newer; in
PowerShell: `py start.py lab`). What you predict and solve is kept in the file `.progress.json` beside this
page: hand it in if you are asked to. Nothing leaves your machine by itself.

`python start.py lab` 会完成安装并打开第一个笔记本（需要 Python 3.11 或更新版本）；中文笔记本在
`notebooks/zh/` 中。你的预测和完成的练习保存在本页旁边的 `.progress.json` 中，老师要求时请提交它。
"""
TIME = (2020, 1, 1, 0, 0, 0)  # of every entry, so that the same course is the same file


def members(root: pathlib.Path) -> dict[str, bytes]:
    """Each file of the copy and what it holds.

    Raises:
        ValueError: the folder is no clone of the project.
    """
    if not (root / "notebooks").is_dir() or not (root / "start.py").is_file():
        raise ValueError(
            f"{root} holds no notebooks: a student's copy is made from a clone of the repository, "
            "with the library that is installed from it"
        )
    folders = [folder_for(language, root / "notebooks") for language in LANGUAGES]
    paths = [root / name for name in FILES]
    paths += [path for folder in folders for path in folder.glob("[0-9][0-9]_*.ipynb")]
    library = (root / "accum_lib").rglob("*")
    paths += [p for p in library if p.suffix in LIBRARY and not p.name.startswith("notebook_")]
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(paths)}
    return {"README.md": README.encode(), **found}


def write(root: pathlib.Path, out: pathlib.Path) -> int:
    """Write the copy as a zip file, below a folder of its own; how many files it holds."""
    files = members(root)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(f"gradient_accumulation/{name}", TIME)
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return len(files)
