"""The reference has a page for each public name, with all that a caller needs; its examples run."""

import dataclasses
import doctest
import importlib

import pytest

from accum_lib.lessons.kit.contents import lessons
from web import reference
from web.pages import Place, Site
from web.record import NOTEBOOKS

ENTRIES = reference.entries()
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def faults(entry: reference.Entry) -> list[str]:
    """What a caller would miss."""
    said = {"summary": entry.summary, "source": entry.source, "example": entry.example}
    found = [part for part, text in said.items() if not text.strip()]
    found += [name for name in entry.parameters if name not in entry.text]
    found += ["errors"] if "    raise ValueError" in entry.source and "Error" not in entry.text else []
    return found + ([] if f"from {entry.module} import" in entry.example else ["an import in its example"])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.page)
def test_a_name_has_arguments_errors_source_and_example(entry) -> None:
    assert faults(entry) == []


def test_a_part_that_is_missing_would_be_noticed() -> None:
    entry = next(each for each in ENTRIES if each.full == "accum_lib.losses.check_count")
    for change in ({"summary": ""}, {"source": ""}, {"example": ""}, {"example": ">>> 1\n1"}, {"text": "x"}):
        assert faults(dataclasses.replace(entry, **change)), change
    assert faults(dataclasses.replace(entry, text="x")) == [*entry.parameters, "errors"]


def test_the_names_are_those_of_the_modules() -> None:
    for path, names in reference.NAMES.items():
        public = getattr(importlib.import_module(f"accum_lib.{path}"), "__all__", None)
        shown = [entry.name for entry in ENTRIES if entry.module == f"accum_lib.{path}"]
        assert shown == list(names or public)
        assert set(names or public) == set(shown)
    assert set(reference.examples()) == {entry.full for entry in ENTRIES}, "an example without a page"


@pytest.mark.parametrize("module", dict.fromkeys(entry.module for entry in ENTRIES))
def test_the_examples_run(module) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for entry in ENTRIES:
        if entry.module == module:
            runner.run(doctest.DocTestParser().get_doctest(entry.example, {}, entry.full, entry.page, 0))
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_an_example_that_is_wrong_would_be_noticed(capsys) -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", "wrong", 0)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(wrong).failed == 1


def test_pages_lead_to_each_other_and_the_index_to_all() -> None:
    pages = Site("en", lessons(NOTEBOOKS), Place(), False).api()
    assert set(pages) == {"api", *(entry.page for entry in ENTRIES)}
    for entry in ENTRIES:
        assert f'href="{entry.page}.html"' in pages["api"]
        for part in ("signature", "text", "example", "source"):
            assert f'data-part="{part}"' in pages[entry.page]
    chinese = Site("zh", lessons(NOTEBOOKS / "zh"), Place(), False).api()
    assert set(chinese) == {"api"}
    assert f'href="../{ENTRIES[0].page}.html"' in chinese["api"]
