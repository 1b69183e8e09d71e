"""The page's texts: found in its sources, and what they are in Chinese.

    python -m explainer.texts   takes up new texts in zh_CN.po, drops those that are gone

Texts stand as ``t("…")`` in the scripts and as the content of elements with ``data-t`` in the page.
"""

import ast
import pathlib
import re
import sys

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po
from bs4 import BeautifulSoup

HERE = pathlib.Path(__file__).resolve().parent
CATALOGUE = HERE / "zh_CN.po"
CALL = re.compile(r'\bt\(\s*("(?:[^"\\\n]|\\.)*")')


def wanted() -> list[str]:
    """Every text that a reader sees, in English, once."""
    found = _in_page((HERE / "page" / "page.html").read_text(encoding="utf-8"))
    for path in sorted((HERE / "page").glob("*.js")):
        found += [ast.literal_eval(text) for text in CALL.findall(path.read_text(encoding="utf-8"))]
    return list(dict.fromkeys(found))


def _in_page(html: str) -> list[str]:
    soup = BeautifulSoup(html, "html.parser")
    return [" ".join(node.decode_contents().split()) for node in soup.select("[data-t]")]


def translations() -> dict[str, str]:
    """English to Chinese, as far as it is known."""
    with CATALOGUE.open(encoding="utf-8") as file:
        return {str(e.id): str(e.string) for e in read_po(file) if e.id and e.string and not e.fuzzy}


def extract() -> Catalog:
    """The catalogue of the texts that there are now, with the translations that are known."""
    known = translations() if CATALOGUE.exists() else {}
    catalogue = Catalog(locale="zh_CN", charset="utf-8")
    for text in wanted():
        catalogue.add(text, known.get(text, ""))
    return catalogue


def faults(known: dict[str, str]) -> list[str]:
    """What is wrong with them: missing, of a text that is gone, or with other {values} or tags."""
    texts = wanted()
    missing = [f"untranslated: {text}" for text in texts if text not in known]
    stale = [f"of a text that is gone: {text}" for text in known if text not in texts]
    parts = re.compile(r"\{\w+\}|<[^>]+>")
    broken = [
        f"other values or tags: {text}"
        for text, said in known.items()
        if sorted(parts.findall(text)) != sorted(parts.findall(said))
    ]
    return missing + stale + broken


def main() -> int:
    catalogue = extract()
    with CATALOGUE.open("wb") as file:
        write_po(file, catalogue, width=110, omit_header=True)
    print(f"{len(catalogue)} texts, {sum(not m.string for m in catalogue if m.id)} of them untranslated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
