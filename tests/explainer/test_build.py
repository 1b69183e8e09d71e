"""How the page is put together: all of it inside, its texts marked, and in Chinese."""

import json
import pathlib
import re

import pytest
from catalogue import in_page, in_script

from accum_lib.words import catalogue
from explainer import build as tool

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = {"note": "</script><b>"}


@pytest.fixture(scope="module")
def page() -> str:
    return tool.build(TINY)


def test_everything_is_inside(page) -> None:
    assert not re.search(r'\b(src|href)="(?!#|data:|\.\./notebooks/|https://observablehq)', page)
    assert "{{" not in page.split("<script>")[0]
    assert "@import" not in page


def test_data_cannot_end_the_script(page) -> None:
    assert page.count("</script>") == 2
    assert json.dumps(TINY["note"])[1:5] not in page.split("const DATA = ")[1][:40]


def test_a_number_that_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        tool.build({"x": float("nan")})


def test_a_page_too_large_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(tool, "LARGEST", 1000)
    with pytest.raises(ValueError, match="the most is 1,000"):
        tool.build(TINY)


def test_a_page_without_numbers_has_no_opening_picture() -> None:
    with pytest.raises(ValueError, match="it holds no numbers"):
        tool.opening("<html></html>", 4, 4)


def test_links_lead_to_notebooks_that_exist(page) -> None:
    links = set(re.findall(r'href="\.\./(notebooks/[^"]+)"', page))
    assert len(links) >= 8
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_licences_of_what_is_bundled_are_beside_it() -> None:
    lock = json.loads((tool.HERE / "vendor" / "package-lock.json").read_text())
    bundled = [name for name, what in lock["packages"].items() if name and not what.get("dev")]
    written = (tool.HERE / "vendor" / "LICENSES.txt").read_text()
    assert [name for name in bundled if f"--- {name.removeprefix('node_modules/')} " not in written] == []


def test_it_has_every_text_in_chinese_also_those_that_the_library_says_too() -> None:
    known = tool.translations()
    texts = wanted()
    assert len(texts) > 200
    assert [text for text in texts if text not in known] == []
    assert texts - catalogue("zh", "explainer").keys(), "some stand in the library's part alone"


def wanted() -> set[str]:
    page = tool.HERE / "page"
    found = [*in_page(page / "page.html"), *(t for path in page.glob("*.js") for t in in_script(path))]
    return set(found)


def test_a_text_that_nobody_marked_would_be_noticed() -> None:
    """Words between the tags of the page stand in marked elements, but for names and numbers."""
    assert unmarked((tool.HERE / "page" / "page.html").read_text(encoding="utf-8")) == []
    assert unmarked("<body><p data-t>marked</p><p>not marked</p></body>") == ["not marked"]


def unmarked(html: str) -> list[str]:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(html, "html.parser")
    for node in soup.select("[data-t], script, style, title, pre, .languages"):
        node.decompose()
    words = (" ".join(text.split()) for text in soup.body.find_all(string=True))
    return [text for text in words if re.search(r"[A-Za-z]{2}", text)]
