"""Set everything up, then do something with it. Any Python from 3.11 on, nothing else:

    python start.py lab         JupyterLab on the first notebook
    python start.py test        the checks and tests
    python start.py test-all    the same with more cases, more settings, and whole scripts
    python start.py lint        the checks alone
    python start.py site        the lessons as web pages that need no kernel: build/site
    python start.py set-up lab  (or: test) installs, and no more

The first run downloads and installs into .venv; later runs take seconds. A run that was interrupted is taken
up again. From the environment: ACCUM_VENV names another folder than .venv, ACCUM_LANGUAGE=zh opens the
Chinese notebooks, LAB_FLAGS goes to JupyterLab, WORKERS is the number of processes that share the tests.
Settings of pip and proxies are left as they are.
"""

import hashlib
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent
WINDOWS = os.name == "nt"
NEEDED = (3, 11)
PARTS = {"lab": "", "test": "lab"}  # what is installed for what, and the part that comes before
FILES = ("constraints.txt", "pyproject.toml")  # with the requirements, what decides whether to install again
LINT = (
    ["-m", "ruff", "check", "."],
    ["-m", "ruff", "format", "--check", "."],
    ["-m", "mypy"],
    ["-m", "vulture"],
    ["-c", "import sys; from importlinter.cli import lint_imports_command as c; sys.argv[1:] = []; c()"],
    ["tools/notebooks.py", "check"],
    ["tools/catalogue.py", "check"],
)
PYTEST = ["-m", "pytest", "--dist", "loadfile", "--durations=15"]
MORE = ["-m", "slow or not slow", "--hypothesis-profile=thorough"]


def say(text):
    print(text, flush=True)


def stop(text):
    """Say what is wrong, and end."""
    print(f"error: {text}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def place():
    """The folder of the virtual environment: in the clone; with the user's data if that is read-only."""
    named = os.environ.get("ACCUM_VENV")
    if named:
        return pathlib.Path(named).resolve()
    here = ROOT / ".venv"
    if os.access(here if here.exists() else ROOT, os.W_OK):
        return here
    base = os.environ.get("LOCALAPPDATA") if WINDOWS else os.environ.get("XDG_DATA_HOME")
    name = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]  # each clone has its own
    there = pathlib.Path(base or pathlib.Path.home() / ".local" / "share") / "accum_lib" / f"venv-{name}"
    say(f"{ROOT} is read-only: the virtual environment is in {there}")
    return there


def python(venv):
    """Its interpreter."""
    return venv / "Scripts" / "python.exe" if WINDOWS else venv / "bin" / "python"


def environment(venv):
    """The caller's, with the environment's programs first."""
    added = {
        "PATH": os.pathsep.join([str(python(venv).parent), os.environ.get("PATH", "")]),
        "VIRTUAL_ENV": str(venv),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONUTF8": "1",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),
        "JUPYTER_CONFIG_PATH": str(ROOT / "tools" / "jupyter"),
    }
    # With this variable each of many processes would compile the modules of PyTorch and Transformers again.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **added}


def run(venv, words, quiet=False):
    """The exit code of the environment's Python with these arguments, in the clone."""
    silent = subprocess.DEVNULL if quiet else None
    command = [str(python(venv)), *map(str, words)]
    child = subprocess.Popen(command, cwd=ROOT, env=environment(venv), stdout=silent, stderr=silent)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # Ctrl-C goes to both: what it means, the other one decides
            continue


def must(venv, *words):
    """Run it; end with its exit code if it fails, since what comes next needs it."""
    code = run(venv, words)
    if code:
        raise SystemExit(code)


def make(venv):
    """A virtual environment that works; one that is half made, or whose Python is gone, is made again."""
    if python(venv).exists() and run(venv, ["-m", "pip", "--version"], quiet=True) == 0:
        return
    if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists():
        stop(f"{venv} holds something else: move it away, or name another folder in ACCUM_VENV")
    say(f"Making a virtual environment in {venv} ...")
    again = ["--clear"] if venv.exists() else []
    try:
        code = subprocess.call([sys.executable, "-m", "venv", *again, str(venv)])
    except OSError as error:
        stop(f"{sys.executable} cannot be started: {error}")
    if code:
        stop(f"{venv} could not be made. Debian and Ubuntu need apt-get install python3-venv")


def install(venv, part):
    """With uv, which takes a quarter of the time; where it is not to be had, with pip. Both check hashes."""
    what = ["install", "--quiet", "--no-deps", "--require-hashes", "-r"]
    here = run(venv, ["-m", "uv", "--version"], quiet=True) == 0
    if here or run(venv, ["-m", "pip", *what, "hashes/uv.txt"], quiet=True) == 0:
        if run(venv, ["-m", "uv", "pip", *what, f"hashes/{part}.txt", "--python", python(venv)]) == 0:
            return
        say("uv could not install everything: pip tries ...")
    must(venv, "-m", "pip", *what, f"hashes/{part}.txt")


def stamp_of(part):
    """What the files say that decide what is installed."""
    wanted = (
        ["requirements.txt", "hashes/lab.txt"] if part == "lab" else ["requirements*.txt", "hashes/*.txt"]
    )
    files = [*(file for name in wanted for file in sorted(ROOT.glob(name))), *(ROOT / name for name in FILES)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def set_up(venv, part):
    """Install what the part needs, unless that was done; the stamp is written last."""
    if PARTS[part]:
        set_up(venv, PARTS[part])
    else:
        make(venv)
    stamp, current = venv / part, stamp_of(part)
    if stamp.exists() and stamp.read_text() == current:
        return
    say(f"Installing what '{part}' needs (once; a minute or two) ...")
    pip = (venv, "-m", "pip", "install", "--quiet")
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    torch = [line for line in lines if line.startswith("torch==")]
    if part == "lab":  # torch first, by pip: pip's settings (an index, a folder of wheels) say which build
        must(*pip, "--no-deps", *torch)
    install(venv, part)
    if part == "lab":
        must(*pip, "-c", "constraints.txt", *torch)  # what this build needs besides, such as CUDA's libraries
        must(*pip, "--no-deps", "--no-build-isolation", "-e", ".")
    stamp.write_text(current)


def lab(venv):
    language = os.environ.get("ACCUM_LANGUAGE") or "en"
    first = pathlib.Path("notebooks", *([] if language == "en" else [language]), "00_start_here.ipynb")
    if not (ROOT / first).exists():
        stop(f"there are no notebooks in the language '{language}': take en or zh")
    set_up(venv, "lab")
    say(f"Opening JupyterLab on {first} (Ctrl-C twice ends it) ...")
    page = f"--LabApp.default_url=/doc/tree/{first.as_posix()}"  # one document, without the column of files
    return run(venv, ["-m", "jupyterlab", page, *shlex.split(os.environ.get("LAB_FLAGS", ""))])


def lint(venv):
    set_up(venv, "test")
    say("Checking style, types, dead code, imports, notebooks against their scripts, translations ...")
    for words in LINT:
        must(venv, *words)
    return 0


def check(venv, more=()):
    lint(venv)
    say("Running the tests, every notebook, and the browser suite ...")
    return run(venv, [*PYTEST, "-n", os.environ.get("WORKERS", "2"), *more])


def site(venv):
    set_up(venv, "lab")
    say("Writing the lessons as web pages to build/site (minutes; later only what has changed) ...")
    return run(venv, ["-m", "web.build", "--zip"])


TASKS = {"lab": lab, "test": check, "test-all": lambda venv: check(venv, MORE), "lint": lint, "site": site}


def main(words):
    """Do what the first word says; its exit code."""
    if sys.version_info < NEEDED:
        stop(f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}")
    if words[:1] == ["set-up"] and words[1:] in (["lab"], ["test"]):
        set_up(place(), words[1])
        return 0
    if len(words) != 1 or words[0] not in TASKS:
        print(__doc__)
        return 0 if words in ([], ["--help"], ["-h"]) else 2
    return TASKS[words[0]](place())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
