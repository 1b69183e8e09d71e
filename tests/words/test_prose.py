"""Notebook prose in pieces, put together again in another language."""

from prose import blocks, message, relinked, translated

CELL = """\
## 1. A heading

A paragraph that is
wrapped, with `code`.

```python
for window in windows(
    batches

): pass
```

- one item
  that is wrapped
- [another](01_three_descents.ipynb)

> A quotation
> that goes on.

> `s / n`

$$\\frac{s}{n} \\text{ in words}$$

| a | b |
|---|---|"""


def test_a_cell_is_cut_into_blocks_and_lines_are_joined() -> None:
    assert "\n\n".join(blocks(CELL)) == CELL
    assert [message(block) for block in blocks(CELL)] == [
        "## 1. A heading",
        "A paragraph that is wrapped, with `code`.",
        None,
        "- one item that is wrapped\n- [another](01_three_descents.ipynb)",
        "> A quotation that goes on.",
        None,
        None,
        None,
    ]


def test_a_code_fence_needs_no_blank_line_around_it() -> None:
    assert list(blocks("Words:\n```\ncode\n\nmore\n```\nwords")) == [
        "Words:",
        "```\ncode\n\nmore\n```",
        "words",
    ]


def test_wrapping_a_paragraph_anew_does_not_touch_its_translation() -> None:
    catalogue = {"A paragraph that is wrapped, with `code`.": "一段话。"}
    for text in ("A paragraph that is\nwrapped, with `code`.", "A paragraph\nthat is wrapped, with\n`code`."):
        assert translated(text, catalogue) == "一段话。"


def test_what_has_no_translation_stays_english() -> None:
    assert translated(CELL, {"## 1. A heading": "## 1. 标题"}) == CELL.replace("A heading", "标题")


def test_links_lead_from_the_subfolder() -> None:
    text = "[a](01_x.ipynb) [b](README.md) [c](https://x.org/y) [d](#top)"
    assert relinked(text) == "[a](01_x.ipynb) [b](../README.md) [c](https://x.org/y) [d](#top)"
