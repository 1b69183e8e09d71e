"""Which language is spoken, and what a text is in it."""

import subprocess
import sys

import pytest

from accum_lib import words
from accum_lib.words import _, clauses, language, listed, sentences, speaking, use_language


@pytest.fixture
def dictionary(monkeypatch):
    """A language of two entries."""
    entries = {"{n} updates": "更新 {n} 次", "{one} {other}": "{one}{other}", ", ": "、"}
    monkeypatch.setattr(words, "catalogue", lambda name: entries if name == "zh" else {})


def test_english_is_what_stands_in_the_code() -> None:
    with speaking("en"):
        assert _("{n} updates", n=3) == "3 updates"
        assert _("braces {stay} as they are without values") == "braces {stay} as they are without values"


def test_a_translation_is_looked_up_when_it_is_said(dictionary) -> None:
    with speaking("zh"):
        assert _("{n} updates", n=3) == "更新 3 次"
        assert _("{n} passes", n=3) == "3 passes", "no translation: English"
        assert sentences("一。", "", "二。") == "一。二。"
        assert listed(["甲", "乙"]) == "甲、乙"
        assert clauses(["a", "b"]) == "a; b"
    assert sentences("One.", "Two.") == "One. Two."


def test_the_language_comes_back_after_a_while(dictionary) -> None:
    before = language()
    with pytest.raises(ZeroDivisionError), speaking("zh"):
        1 // (language() == "en")
    assert language() == before


def test_an_unknown_language_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no language 'fr'; there are 'en' \(English\), 'zh' \(简体中文\)"):
        use_language("fr")


@pytest.mark.parametrize(("value", "answer"), [("", "en"), ("zh", "zh"), ("fr", "ValueError: there is no")])
def test_the_environment_chooses_the_first_language(value, answer, monkeypatch) -> None:
    monkeypatch.setenv("ACCUM_LANGUAGE", value)
    code = "from accum_lib.words import language; print(language())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer in done.stdout + done.stderr


def test_the_catalogue_is_read_without_stale_entries() -> None:
    assert words.catalogue("en") == {}
    assert words.catalogue("zh")[", "] == "、"
