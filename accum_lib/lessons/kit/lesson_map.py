"""The map of notebook 00: every notebook on the way, what the reader has done in it, and what comes next.

It is plain HTML, and beside it plain text, so that viewers that run nothing show it as it was saved.
"""

import html
import pathlib
import re

from IPython.display import display

from accum_lib.lessons.kit import progress
from accum_lib.lessons.kit.contents import NAMED, Lesson, lessons
from accum_lib.lessons.kit.letters import formula
from accum_lib.lessons.kit.progress import Progress, ProgressError
from accum_lib.words import _, sentences

NOT_BEGUN, BEGUN, DONE = "○", "◐", "●"  # they differ in shape; words say the same
PATH = "list-style: none; margin: 8px 0 8px 10px; padding: 0; border-left: 3px solid #767676"
STOP = "margin: 0 0 12px -12px; padding: 0; max-width: 62em"
MARK = (
    "display: inline-block; width: 20px; background: white; color: #0060a0; font-size: 18px; line-height: 1"
)
INSIDE = "margin-left: 30px"


def progress_map(folder: str | pathlib.Path | None = None) -> None:
    """Display the notebooks as a path. Run the cell again to bring it up to date.

    Args:
        folder: where the notebooks lie; by default the folder that the kernel runs in.
    """
    try:
        done, note = progress.load(), ""
    except ProgressError as error:
        done, note = Progress(), str(error)
    found = lessons(pathlib.Path(folder) if folder else _here())
    data = {"text/html": as_html(found, done, note), "text/plain": as_text(found, done, note)}
    display(data, raw=True)


def state(lesson: Lesson, done: Progress) -> tuple[str, str]:
    """A lesson's mark, and in words how far the reader has come in it."""
    guesses = [done.predictions[name] for name in lesson.predictions if name in done.predictions]
    solved = sum(name in done.exercises for name in lesson.exercises)
    asked, set_tasks = len(lesson.predictions), len(lesson.exercises)
    sure = [done.predictions[name] for name in lesson.predictions if name in done.sure]
    certain = _("Sure of {sure}, right in {hits}.", sure=len(sure), hits=sum(sure)) if sure else ""
    mark = NOT_BEGUN if not guesses and not solved else BEGUN
    if (len(guesses), solved) == (asked, set_tasks):
        mark = DONE
    if not set_tasks:
        said = _(
            "{made} of {asked} predictions made (right: {right}).",
            made=len(guesses),
            asked=asked,
            right=sum(guesses),
        )
    else:
        said = _(
            "{made} of {asked} predictions made (right: {right}), {solved} of {set_tasks} exercises solved.",
            made=len(guesses),
            asked=asked,
            right=sum(guesses),
            solved=solved,
            set_tasks=set_tasks,
        )
    return mark, sentences(said, certain)


def suggestion(found: list[Lesson], done: Progress) -> tuple[str, Lesson | None]:
    """What to do next: the first lesson in which something is left."""
    for lesson in found:
        if state(lesson, done)[0] != DONE:
            return _("Next:"), lesson
    return _("Every prediction is made and every exercise solved. Now check a loop of your own."), None


def as_html(found: list[Lesson], done: Progress, note: str = "") -> str:
    """The map as HTML."""
    said, following = suggestion(found, done)
    stops = "".join(_stop(lesson, done) for lesson in found)
    way_on = f" {_link(following)}" if following else ""
    name = html.escape(_("The notebooks and your progress"))
    trouble = f"<p><b>{html.escape(note)}</b></p>" if note else ""
    return (
        f"{trouble}<nav aria-label='{name}'><ol style='{PATH}'>{stops}</ol></nav>"
        f"<p><b>{html.escape(said)}</b>{way_on}</p>"
    )


def as_text(found: list[Lesson], done: Progress, note: str = "") -> str:
    """The map as plain text."""
    lines = [note] if note else []
    for lesson in found:
        mark, words = state(lesson, done)
        lines += [
            f"{mark} {_with_minutes(lesson, lesson.title)}",
            f"    {lesson.question}",
            f"    {words}",
        ]
    said, following = suggestion(found, done)
    return "\n".join([*lines, sentences(said, following.title) if following else said])


def _stop(lesson: Lesson, done: Progress) -> str:
    mark, words = state(lesson, done)
    return (
        f"<li style='{STOP}'><span aria-hidden='true' style='{MARK}'>{mark}</span> "
        f"{_with_minutes(lesson, _link(lesson))}<div style='{INSIDE}'>{inline(lesson.question)}</div>"
        f"<div style='{INSIDE}'><b>{html.escape(words)}</b></div></li>"
    )


def _with_minutes(lesson: Lesson, title: str) -> str:
    return sentences(title, _("({minutes} minutes)", minutes=lesson.minutes))


def _link(lesson: Lesson) -> str:
    return f"<a href='{html.escape(lesson.file)}'>{inline(lesson.title)}</a>"


def inline(text: str) -> str:
    """The little Markdown that titles and questions contain."""
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", lambda code: formula(code[1]) or f"<code>{code[1]}</code>", text)
    return re.sub(r"\*([^*]+)\*", r"<i>\1</i>", text)


def _here() -> pathlib.Path:
    """The kernel's folder if notebooks lie in it, else the project's own."""
    here = pathlib.Path.cwd()
    return here if any(NAMED.fullmatch(p.name) for p in here.glob("*.ipynb")) else progress.ROOT / "notebooks"
