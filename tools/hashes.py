"""Write hashes/: every package that start.py installs, with the SHA-256 of its files on every platform.

    python tools/hashes.py      (make lock does it; needs a package index)

PyTorch is left out, with the libraries of a GPU that its builds bring: its archives differ from index to
index, and one with a CPU's kernels must install as well.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"uv": "", "lab": "requirements.txt", "test": "requirements-dev.txt"}  # each without those before
OF_TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")
OPTIONS = ("--universal", "--python-version", "3.11.5", "--generate-hashes", "--no-annotate", "--no-header")


def packages(text: str) -> list[str]:
    """The entries of a file that ``uv pip compile`` writes: a pinned name and its hashes."""
    return re.findall(r"^[\w.-]+==(?:.*\\\n)*.*$", text, re.MULTILINE)


def compiled(requirements: list[str]) -> list[str]:
    command = [sys.executable, "-m", "uv", "pip", "compile", "-c", "constraints.txt", *OPTIONS, *requirements]
    return packages(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    (ROOT / "hashes").mkdir(exist_ok=True)
    before: set[str] = set()
    for part, file in PARTS.items():
        found = compiled([file] if file else [str(ROOT / "hashes" / "uv.in")])
        new = [entry for entry in found if entry not in before and not OF_TORCH.match(entry)]
        (ROOT / "hashes" / f"{part}.txt").write_text("\n".join([*new, ""]))
        before.update(new)


if __name__ == "__main__":
    main()
