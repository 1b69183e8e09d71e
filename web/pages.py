"""Pages from recorded lessons: prose and code as HTML, sections, veils, links, the templates around them."""

import html
import pathlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import jinja2
import mistune
import nbformat
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

import accum_lib
from accum_lib.classroom.end_quiz import end_quiz
from accum_lib.classroom.quizzes import Question
from accum_lib.lessons.kit.contents import Lesson
from accum_lib.lessons.kit.lesson_map import inline
from accum_lib.lessons.kit.letters import marked
from accum_lib.words import LANGUAGES, folder_for, speaking
from web import exercises, reference
from web.formulas import formulas
from web.record import NOTEBOOKS, Block

HERE = pathlib.Path(__file__).resolve().parent
MEASURED = HERE.parent / "docs" / "heads.md"  # of Transformers, by `accum scoreboard --heads`
# The cells of prose that make up the card, by a piece of each that no translation changes.
CARD = {"00_start_here": "# WRONG: leaked_tail", "02_equivalence": "GradScaler(", "03_variance": "| SGD"}
MEMORY = "04_memory"  # the lesson that leads to the calculator
SHOWN = ("explorer", "text", "image", "html")  # what may give an answer away


def texts(language: str) -> dict[str, str]:
    """What pages say by themselves."""
    said = tomllib.loads((HERE / "texts.toml").read_text(encoding="utf-8"))
    return {key: each[language] for key, each in said.items()}


@dataclass(frozen=True)
class Place:
    """Where the notebooks are published, for links; empty for none."""

    repository: str = ""
    branch: str = "main"

    def elsewhere(self, name: str, language: str) -> list[tuple[str, str]]:
        """Texts and addresses of a lesson's notebook: itself, in Binder, in Colab."""
        if not self.repository:
            return []
        t, project = texts(language), self.repository.removeprefix("https://github.com/").strip("/")
        file = (folder_for(language, pathlib.Path("notebooks")) / f"{name}.ipynb").as_posix()
        return [
            (t["notebook"], f"{self.repository.rstrip('/')}/blob/{self.branch}/{file}"),
            (t["binder"], f"https://mybinder.org/v2/gh/{project}/{self.branch}?labpath={file}"),
            (t["colab"], f"https://colab.research.google.com/github/{project}/blob/{self.branch}/{file}"),
        ]


class Site:
    """The pages of one language.

    Args:
        language: its code.
        lessons: those that the site has, in their order.
        place: where the notebooks are published.
        explainer: whether the site has it.
        grid: of the calculator, as its page reads it; None for a site without one.
    """

    def __init__(
        self, language: str, lessons: list[Lesson], place: Place, explainer: bool = True,
        grid: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.language, self.t, self.place = language, texts(language), place
        self.explainer, self.grid = explainer, grid
        self.up = "" if language == "en" else "../"
        self.lessons = [_entry(lesson) for lesson in lessons]
        self._pages = {lesson["name"] for lesson in self.lessons} | {"teachers", "quiz"}
        loader = jinja2.FileSystemLoader(HERE / "templates")
        self._jinja = jinja2.Environment(
            loader=loader,
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.filters |= {"json": in_script, "inline": inline, "lettered": marked}

    def lesson(self, name: str, blocks: list[Block]) -> str:
        """A lesson's page.

        Raises:
            ValueError: a formula cannot be drawn.
        """
        try:
            sections = self.sections(blocks)
        except ValueError as error:
            raise ValueError(f"{name} ({self.language}): {error}") from error
        at = next(i for i, lesson in enumerate(self.lessons) if lesson["name"] == name)
        around = [self.lessons[i] if 0 <= i < len(self.lessons) else None for i in (at - 1, at + 1)]
        return self._page(
            "lesson.html",
            page=name,
            title=f"{_plain(self.lessons[at]['title_html'])} · {self.t['site']}",
            description=_plain(self.lessons[at]["question_html"]),
            sections=sections,
            elsewhere=[*self._calculator(name), *self.place.elsewhere(name, self.language)],
            before=around[0],
            after=around[1],
            has_map=any(block["kind"] == "map" for block in blocks),
            explorers=any(block["kind"] == "explorer" for block in blocks),
            exercises={block["check"]: block["exercise"] for block in blocks if "exercise" in block},
            exercise_texts=exercises.texts(self.language),
        )

    def _calculator(self, lesson: str) -> list[tuple[str, str]]:
        """The way to it from the lesson that it belongs to."""
        return [(self.t["calculator"], "calculator.html")] if self.grid and lesson == MEMORY else []

    def calculator(self) -> dict[str, str]:
        """Its page, by the page's file."""
        if not self.grid:
            return {}
        title, lead = self.t["calculator"], self.t["calculator_more"]
        return {
            "calculator": self._page(
                "calculator.html", page="calculator", title=f"{title} · {self.t['site']}", description=lead,
                calculator=self.grid, tokens=self.grid["tokens"], batch=self.grid["batch"],
            )
        }  # fmt: skip

    def front(self, first: list[Block] | None) -> str:
        """The front page; ``first`` is the lesson whose first question and explorer it begins with."""
        taste: list[Block] = next(
            (s["blocks"] for s in self.sections(first or []) if _is_taste(s["blocks"])), []
        )
        taste = [b for b in taste if b["kind"] in ("quiz", "veil")]
        return self._page(
            "front.html", page="index", title=self.t["title"], description=self.t["lead"], taste=taste,
            explainer=f"{self.up}explainer.html?lang={self.language}" if self.explainer else "",
            explorers=bool(taste), calculator="calculator.html" if self.grid else "",
        )  # fmt: skip

    def plain(self) -> dict[str, str]:
        """The teachers' page, the words that it explains, and what was measured, by the page's file."""
        folder = folder_for(self.language, NOTEBOOKS)
        text = (folder / "README.md").read_text(encoding="utf-8")
        text = re.sub(r"^(\*\*|\[)(English|简体中文).*\n", "", text, count=1, flags=re.MULTILINE)
        heading = rf"^## ({re.escape(self.t['words'])})$(.*?)(?=^## |\Z)"
        words = re.search(heading, text, re.MULTILINE | re.DOTALL)
        if not words:
            raise ValueError(f"{folder / 'README.md'} has no section '## {self.t['words']}'")
        with speaking(self.language):
            asked = [_quiz(question, exercises.texts(self.language)["check"]) for question in end_quiz()]
        measured = self.prose(MEASURED.read_text(encoding="utf-8"))
        pages = {
            "teachers": self.prose(text).replace("</h1>", f"</h1>{self._card_note()}", 1),
            "words": self.prose(f"# {words[1]}\n{words[2]}"),
            "heads": f'{self.prose(self.t["in_english"])}<div lang="en">{measured}</div>',
        }
        title = f"{self.t['quiz']} · {self.t['site']}"
        quiz = self._page(
            "quiz.html", page="quiz", title=title, description=self.t["quiz_lead"], questions=asked,
            sections=[],
        )  # fmt: skip
        plain = {name: self._plain_page(name, said) for name, said in pages.items()}
        return {"quiz": quiz, "card": self.card(), **plain}

    def card(self) -> str:
        """The loop on one page to print: the lessons' own cells, but for paragraphs that lead elsewhere.

        Raises:
            ValueError: a lesson no longer has what the card shows of it.
        """
        said = []
        for name, mark in CARD.items():
            path = folder_for(self.language, NOTEBOOKS) / f"{name}.ipynb"
            cells = (c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
            cell = next((source for source in cells if mark in source), None)
            if cell is None:
                raise ValueError(f"the card shows the cell of {path.name} with {mark!r}, which is gone")
            cell = re.sub(r"^#+ (?:\d+\. )?(.*)", rf"## \1 · [{name[:2]}]({name}.ipynb)", cell)
            cell = re.sub(r"^(import|from) .*\n+", "", cell, flags=re.MULTILINE)
            kept = [p for p in cell.split("\n\n") if p.startswith(("#", "|")) or ".ipynb" not in p]
            said.append(self.prose("\n\n".join(kept)))
        title = f"{self.t['card']} · {self.t['site']}"
        return self._page("card.html", page="card", title=title, description=self.t["card_more"], parts=said)

    def _card_note(self) -> str:
        return f'<p class="note"><a href="card.html">{self.t["card"]}</a>: {self.t["card_more"]}</p>'

    def api(self) -> dict[str, str]:
        """The library's names with their search, and in English a page for each."""
        found = reference.entries()
        title = f"{self.t['api']} · {self.t['site']}"
        names = reference.index(found, self.up)
        pages = {"api": self._page("api.html", page="api", title=title, description=title, html=names)}
        if self.language == "en":
            pages |= {entry.page: self._entry_page(entry) for entry in found}
        return pages

    def _entry_page(self, entry: reference.Entry) -> str:
        said = reference.article(entry, self.prose, code)
        return self._page(
            "plain.html",
            page="api",
            title=f"{entry.name} · {self.t['site']}",
            description=entry.summary,
            html=said,
        )

    def _plain_page(self, name: str, said: str) -> str:
        title = f"{self.t[name]} · {self.t['site']}"
        return self._page("plain.html", page=name, title=title, description=title, html=said, sections=[])

    def _page(self, template: str, **more: Any) -> str:
        said = {"sections": [], "exercises": {}, "explorers": False, **more}
        file = f"{said['page']}.html"
        languages = [(code, name, self._other(code) + file) for code, name in LANGUAGES.items()]
        menu = [(name, self.t[name]) for name in ("words", "heads", "api", "teachers")]
        return self._jinja.get_template(template).render(
            t=SimpleNamespace(**self.t), texts=self.t, language=self.language, up=self.up, here="",
            menu=menu, languages=languages, lessons=self.lessons, version=accum_lib.__version__, **said,
        )  # fmt: skip

    def _other(self, code: str) -> str:
        """The way from a page in this language to one in another."""
        if code == self.language:
            return ""
        return self.up + ("" if code == "en" else f"{code}/")

    # --- Blocks

    def sections(self, blocks: list[Block]) -> list[dict[str, Any]]:
        """The blocks under each heading, with what gives an answer away behind a veil."""
        found: list[dict[str, Any]] = [{"id": "", "title": "", "blocks": []}]
        for number, block in enumerate(blocks):
            for piece in self._pieces(block, f"b{number}"):
                if piece.get("title"):
                    found.append({"id": f"s{len(found)}", "title": piece["title"], "blocks": []})
                found[-1]["blocks"].append(piece)
        return [
            {**section, "blocks": list(_veiled(section["blocks"]))} for section in found if section["blocks"]
        ]

    def _pieces(self, block: Block, name: str) -> Iterator[Block]:
        if block["kind"] == "prose":
            for part in re.split(r"^(?=## )", block["text"], flags=re.MULTILINE):
                if part.strip():
                    said = self.prose(part)
                    heading = re.match(r"\s*<h2>(.*?)</h2>", said)
                    if any(mark in part for mark in CARD.values()):
                        said += self._card_note()
                    yield {**block, "html": said, "title": heading[1] if heading else ""}
        elif block["kind"] == "code":
            yield {**block, "html": code(block["source"])}
        else:
            yield {**block, "id": name}

    def prose(self, text: str) -> str:
        """Markdown as HTML, with links that lead to pages of this site."""
        said = str(_markdown(text))
        said = re.sub(r'<a href="([^"]*)">(.*?)</a>', self._link, said, flags=re.DOTALL)
        scroll = '<div class="scroll" tabindex="0">'
        return said.replace("<table>", f"{scroll}<table>").replace("</table>", "</table></div>")

    def _link(self, found: re.Match[str]) -> str:
        address, words = found.groups()
        if address.startswith(("https:", "http:", "#")):
            return found[0]
        path, _, part = address.partition("#")
        name = "teachers" if path.endswith("README.md") else pathlib.PurePosixPath(path).stem
        if name in self._pages:
            return f'<a href="{name}.html{"#" + part if part else ""}">{words}</a>'
        return words  # a file that only the project's folder has


def _veiled(blocks: list[Block]) -> Iterator[Block]:
    """After a question, everything from the first output on, up to the next question, goes behind a veil."""
    question: Block | None = None
    hidden: list[Block] = []
    for block in blocks:
        if block["kind"] == "quiz":
            yield from _veil(question, hidden)
            question, hidden = block, []
        if question is not None and block is not question and (hidden or _gives_away(block)):
            hidden.append(block)
        else:
            yield block
    yield from _veil(question, hidden)


def _veil(question: Block | None, hidden: list[Block]) -> Iterator[Block]:
    if question is not None and hidden:
        yield {"kind": "veil", "id": question["id"], "blocks": hidden}


def _gives_away(block: Block) -> bool:
    return block["kind"] in SHOWN or bool(block.get("output"))


def _is_taste(blocks: list[Block]) -> bool:
    return [b["kind"] for b in blocks if b["kind"] in ("quiz", "veil")] == ["quiz", "veil"]


def _quiz(question: Question, button: str) -> Block:
    """One of the end quiz, as a lesson's question is recorded."""
    return {
        "kind": "quiz",
        "id": question.name.replace(".", "-"),
        "name": question.name,
        "question": html.escape(question.text, quote=False),
        "options": question.options,
        "right": question.right,
        "button": button,
        "said": [html.escape(said, quote=False) for said in question.feedback],
    }


def _entry(lesson: Lesson) -> dict[str, Any]:
    name = pathlib.PurePath(lesson.file).stem
    shown = {"title_html": inline(lesson.title), "question_html": inline(lesson.question)}
    return {**asdict(lesson), **shown, "name": name, "page": f"{name}.html"}


def in_script(value: Any) -> jinja2.utils.markupsafe.Markup:
    """As JSON that may be in a script or in a quoted attribute."""
    return jinja2.utils.htmlsafe_json_dumps(value, ensure_ascii=False, sort_keys=True)


def code(source: str) -> str:
    """Python with its colours; it can be scrolled by the keyboard."""
    said = highlight(source, PythonLexer(), HtmlFormatter(nowrap=True))
    return f'<pre class="source" tabindex="0"><code>{said}</code></pre>'


class _Renderer(mistune.HTMLRenderer):
    def block_code(self, source: str, info: str | None = None) -> str:
        return (
            code(source)
            if info == "python"
            else f'<pre tabindex="0"><code>{html.escape(source)}</code></pre>'
        )


_markdown = mistune.create_markdown(renderer=_Renderer(escape=False), plugins=["table", formulas])


def _plain(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", text))
