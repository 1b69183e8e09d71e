"""Formulas between dollars become MathML; one that cannot be drawn ends the build, with its lesson's name."""

import re

import jupytext
import pytest

from accum_lib.lessons.kit.contents import lessons
from web.formulas import formula
from web.pages import Place, Site
from web.record import NOTEBOOKS


@pytest.fixture(scope="module")
def site() -> Site:
    return Site("en", lessons(NOTEBOOKS), Place())


def test_a_formula_is_drawn_and_what_looks_like_markdown_in_it_is_not(site) -> None:
    said = site.prose("The *mean*, $a_i * b_i$ and $c_i * 2$, costs `$5`.\n\n$$\\frac{s}{n}$$\n")
    assert said.count("<msub>") == 3
    assert said.count("<em>") == 1
    assert "<code>$5</code>" in said
    assert '<p><math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in said
    assert "<mfrac><mrow><mi>s</mi></mrow><mrow><mi>n</mi></mrow></mfrac>" in said
    assert "$" not in said.replace("<code>$5</code>", "")


def test_a_price_is_no_formula(site) -> None:
    assert site.prose("From 3 $ to 5 $ an hour.").strip() == "<p>From 3 $ to 5 $ an hour.</p>"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (r"\frac{s}{\nn}", r"\nn is not known"),
        ("a_b_c", "DoubleSubscriptsError"),
        (r"\frac{s}{n", "a brace has no partner"),
        ("n}", "a brace has no partner"),
        (r"\left( s", "ExtraLeftOrMissingRightError"),
    ],
)
def test_one_that_cannot_be_drawn_ends_the_build_with_notebook_and_formula(site, source, why) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        formula(source, "inline")
    blocks = [{"kind": "prose", "text": f"# T\n\nIt is ${source}$."}]
    with pytest.raises(ValueError, match=rf"^02_equivalence \(en\): .*{re.escape(source)}"):
        site.lesson("02_equivalence", blocks)


@pytest.mark.parametrize("path", sorted((NOTEBOOKS / "src").glob("*.py")), ids=lambda path: path.stem)
def test_every_formula_of_the_lessons_can_be_drawn(site, path) -> None:
    cells = (cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown")
    said = "\n".join(map(site.prose, cells))
    assert "$" not in re.sub(r"<(code|pre).*?</\1>", "", said, flags=re.DOTALL)
