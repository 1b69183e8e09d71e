"""Build the course as a site of static pages, which need no kernel, no server and no network.

    python -m web.build [FOLDER] [--only LESSON ...] [--zip]   writes build/site, or FOLDER

Every lesson is run in a process of its own, two at a time. What it shows is kept in build/site-parts under a
hash of all that it was computed from: a lesson is computed again only if something of that has changed.
"""

import argparse
import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

from accum_lib.lessons.kit.contents import lessons
from accum_lib.lessons.kit.grid import LEAN
from accum_lib.words import LANGUAGES, folder_for
from explainer.build import opening
from web import calculator, exercises
from web.pages import Place, Site
from web.record import NOTEBOOKS, ROOT

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ROOT / "build" / "site-parts"
PROCESSES = 2
STYLES = ("style.css", "exercise.css", "calculator.css")
ALONE = ("08_distributed",)  # measures processes of its own, which another lesson beside them would slow down
SCRIPTS = ("progress", "page", "quiz", "present", "search")  # page.js, in this order
CALCULATOR = "calculator-"  # begins the jobs that compute its models
FIRST = "00_start_here"
OPENING = (4, 4)  # M and K of the front page's picture, as its words say
Parts = dict[str, pathlib.Path]


def build(folder: pathlib.Path, only: list[str] | None = None, parts: pathlib.Path = PARTS) -> None:
    """Write the site into a folder, in place of what a build has left there.

    Raises:
        ValueError: there is no such lesson, or the folder holds something else.
        subprocess.CalledProcessError: a notebook could not be run.
    """
    names = [pathlib.PurePath(lesson.file).stem for lesson in lessons(NOTEBOOKS)]
    if strange := set(only or []) - set(names):
        raise ValueError(f"there is no lesson {', '.join(sorted(strange))}; there are {', '.join(names)}")
    names = [name for name in names if not only or name in only]
    jobs = [*names, *([] if only else ["explainer", *map(CALCULATOR.__add__, calculator.MODELS)])]
    found = compute(jobs, parts)
    clear(folder)
    write(folder, names, found)


def compute(jobs: list[str], parts: pathlib.Path) -> Parts:
    """Run what has not been run on the same inputs; the file of each."""
    parts.mkdir(parents=True, exist_ok=True)
    files = {job: parts / f"{job}-{digest(job)}.{'html' if job == 'explainer' else 'json'}" for job in jobs}
    due = sorted(
        (job for job, file in files.items() if not file.exists()), reverse=True
    )  # the longest are last
    for job in sorted(set(jobs) - set(due)):
        print(f"  {job}: as before", flush=True)
    finished = itertools.count(1)
    for together in ([job for job in due if job in ALONE], [job for job in due if job not in ALONE]):
        with ThreadPoolExecutor(PROCESSES) as pool:
            running = {pool.submit(_run, job, files[job]): job for job in together}
            for future in as_completed(running):
                said = f"{future.result():.0f} s ({next(finished)} of {len(due)})"
                print(f"  {running[future]}: {said}", flush=True)
    return files


def _run(job: str, file: pathlib.Path) -> float:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=file.parent) as own:
        made = pathlib.Path(own) / file.name
        what = [*_module(job), str(made)]
        empty = {"ACCUM_PROGRESS_FILE": str(pathlib.Path(own) / "progress.json"), "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-m", *what], cwd=ROOT, env={**os.environ, **empty}, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for stale in file.parent.glob(f"{job}-*"):
            stale.unlink()
        made.rename(file)
    return time.monotonic() - started


def _module(job: str) -> list[str]:
    if job == "explainer":
        return ["explainer.build"]
    if job.startswith(CALCULATOR):
        return ["web.calculator", job.removeprefix(CALCULATOR)]
    return ["web.record", job]


def digest(job: str) -> str:
    """Of everything that a job's numbers and words depend on."""
    sources = [*(ROOT / "accum_lib").rglob("*"), ROOT / "constraints.txt"]
    if job.startswith(CALCULATOR):  # lessons are not in it
        ground = [*(ROOT / "accum_lib").glob("*.py"), *(ROOT / "accum_lib" / "memory").rglob("*")]
        sources = [*ground, ROOT / "constraints.txt", HERE / "calculator.py"]
    elif job == "explainer":
        sources += (ROOT / "explainer").rglob("*")
    else:
        notebooks = (folder_for(code, NOTEBOOKS) / f"{job}.ipynb" for code in LANGUAGES)
        sources += notebooks
        sources += [HERE / name for name in ("record.py", "exercises.py", "variants.py")]
        sources += [ROOT / "tools" / "solutions.py", *(NOTEBOOKS / "solutions").glob(f"{job}.py")]
        sources += (NOTEBOOKS / "mistakes").glob(f"{job}.py")
    found = hashlib.sha256(os.environ.get(LEAN, "").encode())
    for path in sorted(p for p in sources if p.is_file() and "__pycache__" not in p.parts):
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


# --- Pages


def write(folder: pathlib.Path, names: list[str], parts: Parts) -> None:
    """All pages and what they share."""
    models = [part for job, part in parts.items() if job.startswith(CALCULATOR)]
    grid = calculator.grid([json.loads(part.read_text(encoding="utf-8")) for part in models])
    for language in LANGUAGES:
        there = [
            le for le in lessons(folder_for(language, NOTEBOOKS)) if pathlib.PurePath(le.file).stem in names
        ]
        site = Site(language, there, place(), "explainer" in parts, grid)
        own = folder_for(language, folder)
        own.mkdir(parents=True, exist_ok=True)
        pages = site.plain() | site.api() | site.calculator()
        for lesson in site.lessons:
            blocks = json.loads(parts[lesson["name"]].read_text(encoding="utf-8"))[language]
            pages[lesson["name"]] = site.lesson(lesson["name"], blocks)
            if lesson["name"] == FIRST or "index" not in pages:
                pages["index"] = site.front(blocks if lesson["name"] == FIRST else None)
        for name, text in pages.items():
            (own / f"{name}.html").write_text(text, encoding="utf-8")
    files = shared()
    if "explainer" in parts:
        text = parts["explainer"].read_text(encoding="utf-8")
        (folder / "explainer.html").write_text(explainer(text), encoding="utf-8")
        files["opening.js"] = opening(text, *OPENING).encode()
    for name, data in files.items():
        path = folder / "static" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def explainer(page: str) -> str:
    """The explainer's page with a way back, and links to lessons where it has some to notebooks."""
    page = re.sub(r"\.\./notebooks/((?:zh/)?\d\d_\w+)\.ipynb", r"./\1.html", page)
    page = page.replace("../notebooks/", "./")  # where its script puts the language's folder
    back = '<a href="./index.html">← The lessons · <span lang="zh-Hans">课程</span></a>'
    return page.replace('<div class="bar">', f'<div class="bar">{back}', 1)


def shared() -> dict[str, bytes]:
    """Style, scripts and plotly.js, once for all pages."""
    grid = ROOT / "accum_lib" / "lessons" / "kit" / "static"
    front_end = (grid / "grid.js").read_text(encoding="utf-8")
    if front_end.count("export default { render };") != 1:
        raise ValueError(f"{grid / 'grid.js'} should end in 'export default {{ render }};'")
    front_end = front_end.replace("export default { render };", "return { render };")
    stand_in = _static("explorers.js").replace("/* {{front end}} */", front_end)
    styles = [grid / "letters.css", grid / "grid.css"]
    styles += [ROOT / "explainer" / "page" / name for name in ("tokens.css", "hero.css")]
    styles += [HERE / "static" / name for name in STYLES]
    files = {
        "style.css": "".join(path.read_text(encoding="utf-8") for path in styles),
        "page.js": "".join(f"(() => {{\n{_static(f'{name}.js')}}})();\n" for name in SCRIPTS),
        "explorers.js": f"(() => {{\n{_static('narrow.js')}{stand_in}}})();\n",
        "plotly.js": (HERE / "vendor" / "plotly-basic.min.js").read_text(encoding="utf-8"),
        "exercise.js": _static("exercise.js"),
        "calculator.js": f"(() => {{\n{_static('calculator.js')}}})();\n",
        "micropython.js": exercises.runtime(),
    }
    return {name: text.encode() for name, text in files.items()}


def _static(name: str) -> str:
    return (HERE / "static" / name).read_text(encoding="utf-8")


def place() -> Place:
    """Where the notebooks are published, as web/site.toml or the environment says."""
    said = tomllib.loads((HERE / "site.toml").read_text(encoding="utf-8"))
    return Place(os.environ.get("ACCUM_SITE_REPOSITORY", said["repository"]), said["branch"])


def clear(folder: pathlib.Path) -> None:
    """Remove an older site.

    Raises:
        ValueError: the folder is not empty, and is no site.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "static" / "page.js").exists():
            raise ValueError(f"{folder} holds files that are no site: name an empty folder, or another one")
        shutil.rmtree(folder)


def pack(folder: pathlib.Path, file: pathlib.Path) -> None:
    """The site as one archive, the same bytes for the same pages."""
    with zipfile.ZipFile(file, "w") as archive:
        for path in _files(folder):
            entry = zipfile.ZipInfo(f"course/{path.relative_to(folder).as_posix()}", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def _files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=ROOT / "build" / "site")
    parser.add_argument(
        "--only", nargs="+", metavar="LESSON", help="such as 00_start_here; others are left out"
    )
    parser.add_argument("--zip", action="store_true", help="also write course.zip beside the folder")
    arguments = parser.parse_args()
    print("Running the lessons and the calculator, two at a time (from nothing: minutes) ...", flush=True)
    started = time.monotonic()
    try:
        build(arguments.folder, arguments.only)
    except (ValueError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in _files(arguments.folder))
    if arguments.zip:
        pack(arguments.folder, arguments.folder.with_name("course.zip"))
    seconds = time.monotonic() - started
    print(f"wrote {arguments.folder} ({size / 1e6:.1f} MB, {seconds:.0f} s): open index.html in it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
