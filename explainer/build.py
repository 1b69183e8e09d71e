"""Build the explainer: one HTML file with its style, its scripts, its numbers and its translation inside.

python -m explainer.build [FILE]   writes build/explainer.html, or FILE
"""

import json
import pathlib
import re
import sys
from typing import Any

import accum_lib
from accum_lib.words import catalogue

HERE = pathlib.Path(__file__).resolve().parent
OUTPUT = HERE.parent / "build" / "explainer.html"
LARGEST = 6 * 2**20  # bytes: what an e-mail or a slow line takes
PICTURE = ("live", "figures", "stage", "hero")  # in the order in which they need each other
SCRIPTS = (*PICTURE, "sections", "main")
CHECK = """from accum_lib.check import assert_equivalent

def test_training_loop():
    assert_equivalent(train)  # train(model, optimizer, batches, accumulation_steps), one epoch"""


def build(data: dict[str, Any]) -> str:
    """The page with these numbers.

    Raises:
        ValueError: it would be larger than 6 MiB.
    """
    page = _put(_read("page.html"), "check", CHECK)
    page = _put(page, "/* {{style}} */", style())
    page = _put(page, "/* {{plot}} */", (HERE / "vendor" / "plot.js").read_text(encoding="utf-8"))
    page = _put(page, "/* {{script}} */", script(data))
    if len(page.encode()) > LARGEST:
        raise ValueError(f"the page would have {len(page.encode()):,} bytes; the most is {LARGEST:,}")
    return page


def style() -> str:
    """The colours and letters that the lessons have, too, and its own."""
    letters = HERE.parent / "accum_lib" / "lessons" / "kit" / "static" / "letters.css"
    own = [_read(name) for name in ("tokens.css", "hero.css", "style.css")]
    return letters.read_text(encoding="utf-8") + "".join(own)


def script(data: dict[str, Any]) -> str:
    """All scripts in one function, so that they share names with each other and with nothing else."""
    import torch  # only its version

    versions = {"version": accum_lib.__version__, "torch": torch.__version__}
    return _joined({"DATA": data, "TEXTS": translations(), "VERSIONS": versions}, SCRIPTS)


def opening(page: str, m: int, k: int) -> str:
    """The opening picture alone, of K micro-batches of M examples, with the numbers of a built page."""
    found = re.search(r"^const DATA = (.*);$", page, re.MULTILINE)
    if not found:
        raise ValueError("this is no page that `python -m explainer.build` has written: it holds no numbers")
    data, key = json.loads(found[1]), f"{m},{k}"
    peaks = {"sizes": data["memory"]["sizes"], "ways": {"fp32,off": data["memory"]["ways"]["fp32,off"]}}
    needed = {"cloud": data["cloud"], "flow": {"phases": {key: data["flow"]["phases"][key]}}, "memory": peaks}
    sources = "".join(_read(f"{name}.js") for name in PICTURE)
    texts = {english: said for english, said in translations().items() if f't("{english}"' in sources}
    speak = "words.texts = TEXTS; words.language = document.documentElement.dataset.language;"
    return _joined({"DATA": needed, "TEXTS": texts}, PICTURE, f"{speak}\nhero.watch({m}, {k});")


def _joined(constants: dict[str, Any], names: tuple[str, ...], end: str = "") -> str:
    lines = [f"const {name} = {_json(value)};" for name, value in constants.items()]
    body = "\n".join([*lines, *(_read(f"{name}.js") for name in names), end])
    return f'(() => {{\n"use strict";\n{body}\n}})();'


def translations() -> dict[str, str]:
    """The page's texts in Chinese. One that the library uses, too, is only in the library's part."""
    sources = "\n".join([_read("page.html"), *(_read(f"{name}.js") for name in SCRIPTS)])
    shared = {english: said for english, said in catalogue("zh").items() if f'"{english}"' in sources}
    return {**shared, **catalogue("zh", "explainer")}


def _json(value: Any) -> str:
    """As JSON that may stand in an HTML script: no "</script>" can occur in it.

    Raises:
        ValueError: a number is not finite, which JSON cannot say.
    """
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")


def _put(page: str, place: str, text: str) -> str:
    mark = place if "{" in place else f"{{{{{place}}}}}"
    if page.count(mark) != 1:
        raise ValueError(f"the page has {page.count(mark)} places {mark}; it must have one")
    return page.replace(mark, text)


def _read(name: str) -> str:
    return (HERE / "page" / name).read_text(encoding="utf-8")


def main() -> int:
    from explainer.data import everything

    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    print("Computing what the page shows (about half a minute) ...", flush=True)
    page = build(everything())
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    print(f"wrote {output} ({len(page.encode()) / 2**20:.2f} MiB): open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
