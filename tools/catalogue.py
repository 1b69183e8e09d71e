"""The catalogue of translations: find every text that a reader sees, and check its translation.

    python tools/catalogue.py extract   take up new texts, drop those that are gone, keep translations
    python tools/catalogue.py check     fails if a text is untranslated, stale or broken in translation

Texts of the library stand in its code as ``_("…")`` or ``N_("…")``; those of the notebooks are the blocks
of their Markdown; those of the explainer stand in its scripts as ``t("…")`` and in its page in elements with
``data-t``, or as ``data-t-label``. Each text is listed once, in the first of the files in which it occurs.
One that has been changed keeps its old translation, marked "fuzzy"; remove the mark after going over it.
"""

import argparse
import ast
import difflib
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jupytext
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po
from bs4 import BeautifulSoup
from prose import blocks, message
from rules import faults

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOCALES = ROOT / "accum_lib" / "locales"
MARKERS = ("_", "N_")
IN_SCRIPT = re.compile(r'\bt\(\s*("(?:[^"\\\n]|\\.)*")')
SIMILAR = 0.7  # from which ratio on a new text is taken for an old one that was changed
HEADER = 'msgid ""\nmsgstr ""\n"Language: {language}\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'


@dataclass(frozen=True)
class Text:
    """An English text, and the files in which it occurs."""

    english: str
    places: tuple[str, ...]


# --- What there is to translate


def in_code(path: pathlib.Path) -> Iterator[str]:
    """The texts that a module marks.

    Raises:
        SyntaxError: a marked text is no plain string, so that it could never be looked up.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKERS:
            argument = node.args[0] if node.args else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value
            elif isinstance(argument, ast.JoinedStr) or node.func.id == "N_":
                raise SyntaxError(f"{path}:{node.lineno}: give a plain string, and the values by name")


def in_notebook(path: pathlib.Path) -> Iterator[str]:
    """The blocks of a notebook's Markdown."""
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "markdown":
            yield from filter(None, map(message, blocks(cell.source)))


def in_page(path: pathlib.Path) -> Iterator[str]:
    """The contents of marked elements, with the tags inside, and the marked names of elements."""
    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    yield from (" ".join(element.decode_contents().split()) for element in page.select("[data-t]"))
    yield from (str(element["data-t-label"]) for element in page.select("[data-t-label]"))


def in_script(path: pathlib.Path) -> Iterator[str]:
    """The texts that a script of the explainer marks."""
    yield from map(ast.literal_eval, IN_SCRIPT.findall(path.read_text(encoding="utf-8")))


def wanted() -> dict[str, list[Text]]:
    """Every text, by the name of its file in the catalogue, in the order in which they stand."""
    sources = {"library": [(p, in_code) for p in sorted((ROOT / "accum_lib").rglob("*.py"))]}
    for script in sorted((ROOT / "notebooks" / "src").glob("*.py")):
        sources[f"notebook_{script.stem}"] = [(script, in_notebook)]
    page = ROOT / "explainer" / "page"
    sources["explainer"] = [(p, in_page) for p in sorted(page.glob("*.html"))]
    sources["explainer"] += [(p, in_script) for p in sorted(page.glob("*.js"))]
    places: dict[str, dict[str, list[str]]] = {name: {} for name in sources}
    seen: dict[str, str] = {}
    for name, files in sources.items():
        for path, find in files:
            for english in find(path):
                home = places[seen.setdefault(english, name)]
                home.setdefault(english, []).append(path.relative_to(ROOT).as_posix())
    return {
        name: [Text(english, tuple(dict.fromkeys(files))) for english, files in texts.items()]
        for name, texts in places.items()
    }


# --- What the catalogue says


def folder(locale: str) -> pathlib.Path:
    return LOCALES / locale / "LC_MESSAGES"


def read(locale: str) -> dict[str, dict[str, Message]]:
    """Every file's entries by their English text."""
    found: dict[str, dict[str, Message]] = {}
    for path in sorted(folder(locale).glob("*.po")):
        with path.open(encoding="utf-8") as file:
            found[path.stem] = {str(entry.id): entry for entry in read_po(file) if entry.id}
    return found


def translations(locale: str) -> dict[str, str]:
    """English to translation, of all files together, as far as they are up to date."""
    entries = [entry for file in read(locale).values() for entry in file.values()]
    return {str(e.id): str(e.string) for e in entries if e.string and not e.fuzzy}


def extract(locale: str) -> None:
    """Rewrite the files: the texts that there are now, with their known translations."""
    files, texts = read(locale), wanted()
    known = {english: entry for file in files.values() for english, entry in file.items()}
    there = {text.english for group in texts.values() for text in group}
    gone = {english: entry for english, entry in known.items() if english not in there and entry.string}
    for name, group in texts.items():
        catalogue = Catalog(locale=locale, charset="utf-8")
        for text in group:
            _add(catalogue, text, known.get(text.english), gone)
        _write(folder(locale) / f"{name}.po", locale, catalogue)
    for name in files.keys() - texts.keys():
        (folder(locale) / f"{name}.po").unlink()


def _add(catalogue: Catalog, text: Text, known: Message | None, gone: dict[str, Message]) -> None:
    locations = [(place, 0) for place in text.places]
    if known is not None:
        kept = dict(string=known.string, flags=known.flags, previous_id=known.previous_id)
        kept["user_comments"] = known.user_comments
    elif near := difflib.get_close_matches(text.english, gone, 1, SIMILAR):
        kept = dict(string=gone.pop(near[0]).string, flags=["fuzzy"], previous_id=(near[0],))
    else:
        kept = {}
    catalogue.add(text.english, locations=locations, **kept)


def _write(path: pathlib.Path, locale: str, catalogue: Catalog) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = _preface(path) + HEADER.format(language=locale)
    with path.open("wb") as file:
        file.write(head.encode())
        write_po(file, catalogue, width=0, omit_header=True, include_lineno=False, include_previous=True)


def _preface(path: pathlib.Path) -> str:
    """The comment at the head of a file, the list of terms for one: written by hand, and kept."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    return "".join(lines[:first])


# --- What is wrong with it


def problems(texts: Mapping[str, list[Text]], files: Mapping[str, Mapping[str, Message]]) -> Iterator[str]:
    """Every fault of a catalogue, one line each."""
    for name, group in texts.items():
        file = files.get(name, {})
        for text in group:
            for fault in _faults_of(text.english, file.get(text.english)):
                yield f"{name}.po: {fault}\n    {text.english[:100]!r}"
    for name, file in files.items():
        there = {text.english for text in texts.get(name, [])}
        for english in file.keys() - there:
            yield f"{name}.po: stale: no text says this any more (run extract)\n    {english[:100]!r}"


def _faults_of(english: str, entry: Message | None) -> Iterator[str]:
    if entry is None:
        yield "not in the catalogue (run extract)"
    elif not entry.string:
        yield "untranslated"
    elif entry.fuzzy:
        yield "stale: the English has changed (go over the translation, then remove the mark 'fuzzy')"
    else:
        yield from faults(english, str(entry.string))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["extract", "check"])
    command = parser.parse_args().command
    found = 0
    for locale in sorted(path.name for path in LOCALES.iterdir() if path.is_dir()):
        if command == "extract":
            extract(locale)
            continue
        for problem in problems(wanted(), read(locale)):
            print(f"{locale}/{problem}")
            found += 1
    if found:
        print(f"{found} faults in the catalogue")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
