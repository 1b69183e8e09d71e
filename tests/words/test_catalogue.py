"""The catalogue: every kind of fault is found in it, and changed texts keep their old translation."""

import shutil

import catalogue
import pytest
from babel.messages.catalog import Message
from catalogue import Text, problems
from rules import faults

ENGLISH = "It is {peak:.2f} GiB at `M = 4`, $B_{m}$, see [02](02_equivalence.ipynb); K = 2 gives **less**."
CHINESE = "`M = 4`、$B_{m}$ 时峰值为 {peak:.2f} GiB，见 [02](02_equivalence.ipynb)；K = 2 时**更少**。"


def entry(string: str, *flags: str) -> dict[str, dict[str, Message]]:
    return {"library": {ENGLISH: Message(ENGLISH, string, flags=flags)}}


def found(files: dict[str, dict[str, Message]]) -> str:
    return "\n".join(problems({"library": [Text(ENGLISH, ("a.py",))]}, files))


def test_a_good_translation_has_no_fault() -> None:
    assert found(entry(CHINESE)) == ""


def test_what_is_missing_untranslated_or_stale_is_found() -> None:
    assert "not in the catalogue" in found({})
    assert "untranslated" in found(entry(""))
    assert "the English has changed" in found(entry(CHINESE, "fuzzy"))
    gone = entry(CHINESE)
    gone["library"]["Nobody says this."] = Message("Nobody says this.", "没人这么说。")
    assert "no text says this any more" in found(gone)


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("{peak:.2f}", "{top:.2f}", "the placeholders"),
        ("{peak:.2f}", "{peak:.1f}", "the placeholders"),
        ("{peak:.2f}", "3.06", "the placeholders"),
        ("(02_equivalence.ipynb)", "(01_three_descents.ipynb)", "the link to 02_equivalence.ipynb got lost"),
        ("`M = 4`", "`M = 8`", "code `M = 4` got lost"),
        ("$B_{m}$", "$B_{n}$", "the formula $B_{m}$ got lost"),
        ("K = 2", "K = 3", "the number 2 got lost"),
        ("K = 2", "k = 2", "the symbol K got lost"),
        ("，见", ", 见", "half-width punctuation"),
        ("，见", "，看(见)", "half-width brackets"),
        ("；K", "； K", "a space beside full-width punctuation"),
        ("时峰值", "时 峰值", "a space between two Chinese"),
        ("2 时", "2时", "no space between Chinese and Latin"),
        ("**更少**。", "**更少。**吗", "a * that Markdown shows"),
    ],
)
def test_each_way_to_break_a_translation_is_found(good, bad, says) -> None:
    assert good in CHINESE
    assert says in "\n".join(faults(ENGLISH, CHINESE.replace(good, bad)))
    assert says in found(entry(CHINESE.replace(good, bad)))


def test_a_tag_must_be_closed_as_in_the_english() -> None:
    assert not list(faults("It is <b>{what}</b>.", "是 <b>{what}</b>。"))
    assert "the tag </b> got lost" in "\n".join(faults("It is <b>{what}</b>.", "是 <b>{what}。"))


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A library of one module, a notebook, an explainer and a catalogue."""
    (tmp_path / "accum_lib").mkdir()
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "accum_lib" / "one.py").write_text('_("One micro-batch passes, then another.")\nN_("new")\n')
    (tmp_path / "notebooks" / "src" / "00_a.py").write_text(
        "# %% [markdown]\n# # A title\n#\n# Some\n# words.\n"
    )
    (tmp_path / "explainer" / "page").mkdir(parents=True)
    (tmp_path / "explainer" / "page" / "page.html").write_text(
        '<nav data-t-label="Sections"><p data-t>One\n  <b>update</b></p><p>not marked</p></nav>'
    )
    script = 'say(t("of \\"{b}\\"", { b }), start("no"))\n'
    (tmp_path / "explainer" / "page" / "a.js").write_text(script)
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.setattr(catalogue, "LOCALES", tmp_path / "locales")
    return tmp_path


def test_extract_finds_the_texts_of_code_notebooks_and_explainer(workshop) -> None:
    texts = {name: [t.english for t in group] for name, group in catalogue.wanted().items()}
    assert texts == {
        "library": ["One micro-batch passes, then another.", "new"],
        "notebook_00_a": ["# A title", "Some words."],
        "explainer": ["One <b>update</b>", "Sections", 'of "{b}"'],
    }


def test_extract_keeps_translations_and_marks_what_has_changed(workshop) -> None:
    catalogue.extract("zh_CN")
    library = workshop / "locales" / "zh_CN" / "LC_MESSAGES" / "library.po"
    text = "# by hand\n" + library.read_text()
    text = text.replace('another."\nmsgstr ""', 'another."\nmsgstr "一个接一个。"')
    library.write_text(text.replace('"new"\nmsgstr ""', '"new"\nmsgstr "新"'))
    catalogue.extract("zh_CN")
    assert library.read_text().startswith("# by hand\n")
    assert catalogue.translations("zh_CN") == {
        "One micro-batch passes, then another.": "一个接一个。",
        "new": "新",
    }
    module = workshop / "accum_lib" / "one.py"
    module.write_text('_("One micro-batch passes, and then another.")\n')
    catalogue.extract("zh_CN")
    entries = catalogue.read("zh_CN")["library"]
    assert list(entries) == ["One micro-batch passes, and then another."], "what is gone is dropped"
    (changed,) = entries.values()
    assert changed.fuzzy
    assert changed.string == "一个接一个。"
    assert catalogue.translations("zh_CN") == {}, "a stale translation is not shown"


def test_a_text_that_could_not_be_looked_up_is_refused(workshop) -> None:
    (workshop / "accum_lib" / "two.py").write_text('_(f"K = {k}")\n')
    with pytest.raises(SyntaxError, match=r"two\.py:1: give a plain string"):
        catalogue.wanted()


def test_the_command_says_what_is_wrong(workshop, monkeypatch, capsys) -> None:
    catalogue.extract("zh_CN")
    monkeypatch.setattr("sys.argv", ["catalogue.py", "check"])
    assert catalogue.main() == 1
    assert "7 faults in the catalogue" in capsys.readouterr().out
    shutil.rmtree(workshop / "accum_lib")
    shutil.rmtree(workshop / "notebooks")
    shutil.rmtree(workshop / "explainer")
    catalogue.extract("zh_CN")
    assert catalogue.main() == 0


def test_the_catalogue_of_this_project_is_whole() -> None:
    """Every text is translated, none is stale, none is broken."""
    for locale in ("zh_CN",):
        assert list(problems(catalogue.wanted(), catalogue.read(locale))) == []
