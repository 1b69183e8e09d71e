"""Is a folder fit to be uploaded? Its links, its sizes, and that no page asks anything of the network.

python -m web.check [FOLDER]   says what is wrong with build/site, or FOLDER, a line each
"""

import pathlib
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

from web.record import ROOT

LESSON, SHARED, WHOLE = 1.0e6, 2.5e6, 30e6  # bytes, at most
LOADS = {
    "script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src", "video": "src",
    "audio": "src", "embed": "src", "object": "data", "form": "action", "input": "src", "use": "href",
    "image": "href",
}  # fmt: skip
NUMBERED = re.compile(r"\d\d_\w+\.html")


class _Page(HTMLParser):
    """The links of a page, what it loads by itself, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.anchors |= {said[name] for name in ("id", "name") if name in said}
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        if LOADS.get(tag) in said:
            self.loaded.append(said[LOADS[tag]])
        self.loaded += (part.split()[0] for part in said.get("srcset", "").split(",") if part.strip())
        self.loaded += _in_style(said.get("style", ""))


def _in_style(text: str) -> list[str]:
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", text)


def faults(folder: pathlib.Path) -> Iterator[str]:
    """What is wrong with the site in a folder, a sentence each."""
    if not (folder / "index.html").exists():
        yield f"{folder} has no index.html: build the site first ('make site')"
        return
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in files if path.suffix == ".html"}
    for path, page in pages.items():
        name = path.relative_to(folder).as_posix()
        for address in page.links:
            if said := _broken(path, address, folder, pages):
                yield f"{name}: {said}"
        for address in page.loaded:
            if address.startswith("data:"):
                continue
            if urlsplit(address).scheme or address.startswith("//"):
                yield f"{name} would load {address}: put it into the folder"
            elif said := _broken(path, address, folder, pages):
                yield f"{name}: {said}"
    for path in (p for p in files if p.suffix == ".css"):
        for address in _in_style(path.read_text(encoding="utf-8")):
            if not address.startswith("data:"):
                yield f"{path.relative_to(folder)} would load {address}: put it into the style sheet"
    yield from _too_large(folder, files)


def _broken(path: pathlib.Path, address: str, folder: pathlib.Path, pages: dict[pathlib.Path, _Page]) -> str:
    """In words why a link leads nowhere; nothing if it leads somewhere, or off the site."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https", "mailto"):
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
    if parts.scheme or not target.is_relative_to(folder.resolve()) or not target.is_file():
        return f"the link to {address} leads nowhere"
    there = next((page for other, page in pages.items() if other.resolve() == target), None)
    if parts.fragment and there and parts.fragment not in there.anchors:
        return f"the link to {address} leads to a page without that place"
    return ""


def _too_large(folder: pathlib.Path, files: list[pathlib.Path]) -> Iterator[str]:
    sizes = {path: path.stat().st_size for path in files}
    for path, size in sizes.items():
        if NUMBERED.fullmatch(path.name) and size > LESSON:
            yield f"{path.relative_to(folder)} has {size / 1e6:.2f} MB; the most is {LESSON / 1e6} MB"
    shared = sum(size for path, size in sizes.items() if (folder / "static") in path.parents)
    for what, size, most in (("static/", shared, SHARED), ("the site", sum(sizes.values()), WHOLE)):
        if size > most:
            yield f"{what} has {size / 1e6:.2f} MB; the most is {most / 1e6} MB"


def main() -> int:
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    found = list(faults(folder))
    print(*found, sep="\n", end="\n" if found else "")
    if not found:
        print(f"{folder}: links, sizes and requests are as they should be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
