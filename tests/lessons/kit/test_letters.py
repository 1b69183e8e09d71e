"""M, K and B as letters of mathematics, in one colour each, wherever they are read."""

import re
from pathlib import Path

import nbformat
import pytest

import explainer
from accum_lib.lessons.kit import contents, theme
from accum_lib.lessons.kit.grid import STATIC
from accum_lib.lessons.kit.letters import LETTERS, formula, marked
from notebooks import lettered

M, K, B = (f'<var class="{letter.lower()}">{letter}</var>' for letter in "MKB")


@pytest.mark.parametrize(
    ("code", "html"),
    [
        ("M", M),
        ("B = M·K", f'<span class="symbols">{B} = {M}·{K}</span>'),
        ("K = ⌈B/M⌉", f'<span class="symbols">{K} = ⌈{B}/{M}⌉</span>'),
        ("N = 1000", '<span class="symbols"><var>N</var> = 1000</span>'),
        ("0.9^K", None),
        ("model(K)", None),
        ("MB", None),
        ("4", None),
    ],
)
def test_what_is_a_formula(code, html) -> None:
    assert formula(code) == html


def test_a_letter_that_is_part_of_a_word_is_none() -> None:
    assert (
        marked("K = 4 of KB, 5 MB, <b>K's</b> and 取 K（步）")
        == f"{K} = 4 of KB, 5 MB, <b>K's</b> and 取 {K}（步）"
    )


def test_each_letter_has_one_colour_in_figures_and_texts() -> None:
    """The palette's variables by hand: what letters.css takes, what tokens.css says, what figures have."""
    tokens = Path(explainer.__file__).with_name("page").joinpath("tokens.css").read_text("utf-8")
    style = (STATIC / "letters.css").read_text("utf-8")
    light = dict(re.findall(r"--(\w+): (#\w+)", tokens[: tokens.index("@media")]))
    used = re.findall(r"\.(\w) \{ color: var\(--(\w+), (#\w+)\)", style)
    assert {letter.upper(): light[name] for letter, name, _ in used} == LETTERS
    assert {letter.upper(): default for letter, _, default in used} == LETTERS
    title = theme.axis("accumulation steps K, at M = 2", (0.0, 1.0))["title"]["text"]
    assert re.findall(r"color:(#\w+)\">(\w)<", title) == [
        (LETTERS["K"], "K"),
        (LETTERS["M"], "M"),
    ]


def test_code_and_headings_keep_their_marks() -> None:
    text = "# Choosing `K`\n\nTake `M` of `x`.\n\n```python\nK = 4  # `K`\n```\n\nand **`K`**"
    assert lettered(text) == text.replace("`M`", M).replace("**`K`**", f"**{K}**")


def test_a_lesson_s_question_is_read_as_it_was_written(tmp_path) -> None:
    text = "# 01 · Title\n\n**Question.** Is `B = M·K` as large as `B`, or `loss`?\n\n**Time:** 30 minutes."
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(lettered(text))])
    path = Path(tmp_path / "01_title.ipynb")
    nbformat.write(notebook, path)
    assert contents.read(path).question == "Is `B = M·K` as large as `B`, or `loss`?"
