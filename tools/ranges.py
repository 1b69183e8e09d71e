"""The ends of the ranges that pyproject.toml declares, as requirements that pip installs.

    python tools/ranges.py oldest > requirements.txt   (or: newest)

``--torch 2.13.0`` takes that torch, where no other can be had; ``--without`` leaves packages out.
"""

import argparse
import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def ranges(project: dict) -> dict[str, str]:
    """Each package of the dependencies and the extras, torch first, and the oldest version that is declared.

    Raises:
        ValueError: a requirement is no range from one version on, or two extras differ.
    """
    found: dict[str, str] = {}
    extras = project["optional-dependencies"].values()
    for text in [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]:
        parts = re.fullmatch(r"([\w.-]+)>=([\w.]+)", text)
        if parts is None:
            raise ValueError(f"{text!r} is not of the form NAME>=VERSION")
        name, oldest = parts.groups()
        if found.setdefault(name, oldest) != oldest:
            raise ValueError(f"{name} is asked for from {found[name]} on and from {oldest} on: take one")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("end", choices=["oldest", "newest"])
    parser.add_argument("--torch", help="instead of the oldest one")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME")
    arguments = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, oldest in ranges(project).items():
        if name == "torch" and arguments.torch:
            print(f"torch=={arguments.torch}")
        elif name not in arguments.without:
            print(f"{name}{'==' if arguments.end == 'oldest' else '>='}{oldest}")


if __name__ == "__main__":
    main()
