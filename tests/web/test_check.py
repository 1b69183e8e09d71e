"""What is to be uploaded: each fault of a folder is named, and a good one has none."""

import json
import pathlib

import pytest

from web import build, check


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    part = tmp_path / "part.json"
    blocks = [{"kind": "prose", "text": "# T\n\n## S"}]
    part.write_text(json.dumps(dict.fromkeys(("en", "zh"), blocks)))
    build.write(tmp_path / "site", ["00_start_here"], {"00_start_here": part})
    return tmp_path / "site"


def test_a_built_site_has_no_fault(folder) -> None:
    assert list(check.faults(folder)) == []


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('<a href="11_more.html">', "the link to 11_more.html leads nowhere"),
        ('<a href="../thesis.pdf">', "the link to ../thesis.pdf leads nowhere"),
        ('<a href="00_start_here.html#s9">', "leads to a page without that place"),
        ('<img src="https://example.org/a.png">', "would load https://example.org/a.png"),
        ('<script src="//example.org/a.js"></script>', "would load //example.org/a.js"),
        ('<p style="background: url(http://example.org/b.png)">', "would load http://example.org/b.png"),
        ('<img srcset="http://example.org/a.png 2x">', "would load http://example.org/a.png"),
        ('<script src="static/gone.js"></script>', "the link to static/gone.js leads nowhere"),
    ],
)
def test_a_broken_link_or_a_request_is_noticed(folder, added, said) -> None:
    page = folder / "index.html"
    page.write_text(page.read_text(encoding="utf-8").replace("</main>", f"{added}</main>"), encoding="utf-8")
    (fault,) = check.faults(folder)
    assert fault.startswith("index.html")
    assert said in fault


def test_links_off_the_site_and_pictures_inside_are_no_fault(folder) -> None:
    page = folder / "index.html"
    good = '<a href="https://example.org/"></a><img src="data:image/png;base64,AA=="><a href="#lessons"></a>'
    page.write_text(page.read_text(encoding="utf-8").replace("</main>", f"{good}</main>"), encoding="utf-8")
    assert list(check.faults(folder)) == []


def test_a_style_sheet_that_asks_the_network_is_noticed(folder) -> None:
    (folder / "static" / "style.css").write_text("@import 'https://example.org/font.css';")
    (fault,) = check.faults(folder)
    assert "static/style.css would load https://example.org/font.css" in fault


@pytest.mark.parametrize(
    ("file", "limit", "said"),
    [
        ("00_start_here.html", "LESSON", "00_start_here.html has"),
        ("static/plotly.js", "SHARED", "static/ has"),
        ("teachers.html", "WHOLE", "the site has"),
    ],
)
def test_what_is_too_large_is_noticed(folder, monkeypatch, file, limit, said) -> None:
    assert (folder / file).exists()
    monkeypatch.setattr(check, limit, 1000)
    assert any(fault.startswith(said) for fault in check.faults(folder))


def test_a_folder_without_a_site_is_named(tmp_path) -> None:
    (fault,) = check.faults(tmp_path)
    assert f"{tmp_path} has no index.html" in fault
