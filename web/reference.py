"""The reference: a page for each public name that a reader meets, from its docstring by pdoc."""

import html
import importlib
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pdoc.doc
import pdoc.docstrings

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE / "reference_examples.md"
NAMES = {  # of each module; none: those of its __all__
    "accumulate": ("windows", "accumulate", "apply_update", "WindowResult", "UpdateResult"),
    "packing": ("windows_by_tokens", "packed"),
    "losses": (
        "classification_loss_sum", "count_samples", "count_tokens", "count_next_tokens", "sum_of_mean",
        "joint_loss", "check_count", "evaluating", "in_precision",
    ),
    "descent": ("descend", "full_batch", "mini_batch", "accumulated", "Run", "count_passes"),
    "problems": ("Regression", "Digits", "micro_batches"),
    "exact": ("trainer_loss", "evened", "accelerate_updates", "WindowTraining", "in_micro_batches"),
    "distributed": ("DistributedRanks", "process_group", "launch"),
    "check": (),
    "memory": (),
    "noise": (),
    "training": (),
    "training.settings": ("TrainingSettings",),
}  # fmt: skip
HEADING = re.compile(r"^#{6} (.*?):?$", re.MULTILINE)  # as pdoc writes those of a docstring


@dataclass(frozen=True)
class Entry:
    """One public name.

    Attributes:
        module, name: such as ``accum_lib.losses`` and ``count_tokens``.
        summary: the docstring's first paragraph.
        about: the module's first line.
        text: the whole docstring as Markdown.
        signature: as Python.
        parameters: those that a caller gives.
        methods: of a class: signature and docstring of each public one that is documented.
        source: its code, and from which line of which file.
        example: to be run as a doctest.
    """

    module: str
    name: str
    summary: str
    about: str
    text: str
    signature: str
    parameters: tuple[str, ...]
    methods: tuple[tuple[str, str], ...]
    source: str
    place: str
    example: str

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def page(self) -> str:
        return f"api.{self.full.removeprefix('accum_lib.')}"


def examples() -> dict[str, str]:
    """By the full name."""
    parts = re.split(r"^## (\S+)\n", EXAMPLES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def entries() -> list[Entry]:
    """All of them, in the order in which a reader meets them."""
    shown = examples()
    found = []
    for path, names in NAMES.items():
        module = importlib.import_module(f"accum_lib.{path}")
        documented = pdoc.doc.Module(module)
        for name in names or module.__all__:
            thing = documented.get(name)
            if thing is None:
                raise ValueError(f"accum_lib.{path} has no {name!r}: correct NAMES in web/reference.py")
            found.append(_entry(thing, module.__name__, documented.docstring, shown))
    return found


def _entry(thing: pdoc.doc.Doc[Any], module: str, about: str, shown: dict[str, str]) -> Entry:
    given, methods = None, []
    if isinstance(thing, pdoc.doc.Function):
        given = thing.signature
    elif isinstance(thing, pdoc.doc.Class):
        own = [m for m in thing.methods if m.docstring and m.taken_from[0].startswith("accum_lib")]
        methods = [(m, _markdown(m)) for m in own if not m.name.startswith("_")]
        made = thing.get("__init__")
        if isinstance(made, pdoc.doc.Function) and not issubclass(thing.obj, BaseException):
            given = made.signature_without_self
    first, last = thing.source_lines or (0, 0)
    file = pathlib.Path(thing.source_file or "")
    return Entry(
        module=module,
        name=thing.name,
        summary=" ".join(thing.docstring.split("\n\n")[0].split()),
        about=about.split("\n\n")[0],
        text=_markdown(thing),
        signature=_tidy(f"{thing.name}{given}") if given is not None else thing.name,
        parameters=tuple(p for p, how in given.parameters.items() if how.kind < how.VAR_KEYWORD)
        if given
        else (),
        methods=tuple((_tidy(f"{m.name}{m.signature_without_self}"), text) for m, text in methods),
        source=thing.source,
        place=f"accum_lib/{file.as_posix().rpartition('/accum_lib/')[2]}, lines {first} to {last}",
        example=shown.get(f"{module}.{thing.name}", ""),
    )


def _tidy(signature: str) -> str:
    """Without the long ways to names that everybody knows."""
    said = re.sub(r"\b(?:typing|collections\.abc|pathlib|accum_lib(?:\.\w+)*)\.(?=\w)", "", signature)
    said = re.sub(r"torch\.nn\.modules\.module\.Module", "nn.Module", said)
    said = re.sub(r"torch\.(?:amp\.grad_scaler|optim\.optimizer)\.", "torch.", said)
    return re.sub(r"<(?:function|class) '?(?:\w+\.)*(\w+)'?[^>]*>|<(\w+) object>", r"\1\2", said)


def _markdown(thing: pdoc.doc.Doc[Any]) -> str:
    said = pdoc.docstrings.convert(thing.docstring, "google", thing.source_file)
    said = re.sub(r"::$", ":", said, flags=re.MULTILINE)
    return HEADING.sub(r"## \1", said).replace("``", "`")


def index(found: list[Entry], up: str = "") -> str:
    """The names by module, and the box that searches them."""
    parts = []
    for module in dict.fromkeys(entry.module for entry in found):
        own = [entry for entry in found if entry.module == module]
        rows = "".join(
            f'<li data-words="{html.escape(_words(entry))}"><a href="{up}{entry.page}.html">'
            f"<code>{entry.name}</code></a> {_inline(entry.summary)}</li>"
            for entry in own
        )
        head = f"<h2><code>{module}</code></h2><p>{_inline(own[0].about)}</p>"
        parts.append(f"<section>{head}<ul>{rows}</ul></section>")
    return "".join(parts)


def _words(entry: Entry) -> str:
    """What the search looks through."""
    return re.sub(r"[^\w.]+", " ", f"{entry.full} {entry.signature} {entry.text}").lower()


def _inline(text: str) -> str:
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", html.escape(text, quote=False)).replace("**", "")


def article(entry: Entry, prose: Callable[[str], str], code: Callable[[str], str]) -> str:
    """A page's text."""
    methods = "".join(
        f"<h3><code>{html.escape(how.partition('(')[0])}</code></h3>{code(how)}{prose(text)}"
        for how, text in entry.methods
    )
    source = f"<summary>Source: {entry.place}</summary>{code(entry.source)}"
    return "".join([
        f'<p class="trail"><a href="api.html">accum_lib</a> · <code>{entry.module}</code></p>',
        f"<h1><code>{entry.name}</code></h1>",
        f'<div data-part="signature">{code(entry.signature)}</div>',
        f'<div data-part="text">{prose(entry.text)}</div>',
        f'<div data-part="methods"><h2>Methods</h2>{methods}</div>' if methods else "",
        f'<div data-part="example"><h2>Example</h2>{code(entry.example)}</div>',
        f'<details data-part="source" class="code">{source}</details>',
    ])  # fmt: skip
