"""The language of the notebooks: English, which is in the code, or a translation of it.

    _("The peak is {peak:.2f} GiB.", peak=3.06)

looks the English text up in the catalogue of the language that was chosen, and fills in the values. A text
without a translation is shown in English. ``tools/catalogue.py`` finds the texts and checks translations.
"""

import ast
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, reduce
from typing import Any
from unicodedata import east_asian_width

LANGUAGES = {"en": "English", "zh": "简体中文"}  # each as its own readers call it
FOLDERS = {"zh": "zh_CN"}  # the folder of each translation's catalogue
LOCALES = pathlib.Path(__file__).parent / "locales"
VARIABLE = "ACCUM_LANGUAGE"  # of the environment: the language that is spoken at first
_spoken: str | None = None


def use_language(name: str) -> None:
    """Use this language from now on. What is already on the screen is not translated.

    Raises:
        ValueError: there is no such language.
    """
    global _spoken
    if name not in LANGUAGES:
        there = ", ".join(f"{code!r} ({called})" for code, called in LANGUAGES.items())
        raise ValueError(f"there is no language {name!r}; there are {there}")
    _spoken = name


def language() -> str:
    """The language that is spoken now, by its code."""
    if _spoken is None:
        use_language(os.environ.get(VARIABLE) or "en")
    return _spoken or "en"


def folder_for(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Where files in this language lie: English ones in the folder itself, others in one of their own."""
    return folder if name == "en" else folder / name


@contextmanager
def speaking(name: str) -> Iterator[None]:
    """Speak another language for a while."""
    before = language()
    use_language(name)
    try:
        yield
    finally:
        use_language(before)


def printable(text: str, *, lines: bool = False) -> str:
    """The text with what a terminal would obey, or hide, written as escapes: a file's name or a label may
    hold colour codes, marks that turn the reading direction, or half a character.

    Args:
        text: of anybody.
        lines: leave line breaks as they are.
    """

    def shown(letter: str) -> str:
        if letter.isprintable() or (lines and letter == "\n"):
            return letter
        return letter.encode("unicode_escape").decode()

    return "".join(map(shown, text))


class Said(str):
    """A translated text, which f"{text:20}" pads by the columns that it takes: a Chinese letter takes two."""

    def __format__(self, spec: str) -> str:
        wide = columns(self) - len(self)
        return super().__format__(str(max(0, int(spec) - wide)) if spec.isdecimal() else spec)


def columns(text: str) -> int:
    """How many Latin letters wide the text is."""
    return len(text) + sum(east_asian_width(letter) in "WF" for letter in text)


def _(english: str, /, **values: Any) -> str:
    """The text in the language that is spoken, with the values in place of ``{name}``."""
    known = catalogue(language())
    text = known.get(english, english)
    text = text.format(**values) if values else text
    return Said(text) if known else text


def N_(english: str, /) -> str:  # noqa: N802, gettext's name for it
    """Mark a text for the catalogue where it is defined; ``_`` says it where it is used."""
    return english


def sentences(*texts: str) -> str:
    """One after the other, as the language sets them: English puts a space between, Chinese nothing."""
    said = [text for text in texts if text]
    return reduce(lambda one, other: _("{one} {other}", one=one, other=other), said) if said else ""


def first_line(error: BaseException) -> str:
    """What an error says in its first line, and in the next if that is announced; its kind, if it says no
    more than a key, or nothing.
    """
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    said = " ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")])
    return f"{type(error).__name__}: {said}" if isinstance(error, KeyError) else said


class _StandardError:
    """Standard error, which may be closed, or lead to nobody: nothing that is said there ends a run."""

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError, AttributeError):  # a broken pipe, a closed file, none at all
            return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


STANDARD_ERROR: Any = _StandardError()


def listed(items: Sequence[str]) -> str:
    """The items with the language's comma between them."""
    return _(", ").join(items)


def clauses(items: Sequence[str]) -> str:
    """The items with the language's semicolon between them."""
    return _("; ").join(items)


@cache
def catalogue(name: str, part: str = "library") -> Mapping[str, str]:
    """English texts of the library and what they are in that language; nothing for English itself.

    ``part`` names another of the catalogue's files, such as "explainer".
    """
    if name not in FOLDERS:
        return {}
    file = LOCALES / FOLDERS[name] / "LC_MESSAGES" / f"{part}.po"
    return dict(_entries(file.read_text(encoding="utf-8")))


def _entries(po: str) -> Iterator[tuple[str, str]]:
    """The texts of a gettext catalogue and their translations, without those that are marked as doubtful."""
    for block in po.split("\n\n"):
        if "\n#, fuzzy" in f"\n{block}":
            continue
        said = {"msgid": "", "msgstr": ""}
        key = ""
        for line in block.splitlines():
            if not line.startswith("#"):  # a comment, or a text that is no longer used
                word, _quote, quoted = line.partition('"')
                key = word.strip() or key
                said[key] += ast.literal_eval(f'"{quoted}')
        if said["msgid"] and said["msgstr"]:
            yield said["msgid"], said["msgstr"]
