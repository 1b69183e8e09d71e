"""The README.md beside a trained model: what it is, its data, its settings, its results, the command."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from accum_lib import __version__
from accum_lib.training.records import Evaluation

if TYPE_CHECKING:
    from accum_lib.training.trainer import Run

TAGS = {"classification": "text-classification", "mlm": "fill-mask"}


def by_class(labels: tuple[str, ...], found: Evaluation) -> list[str]:
    """A line for each class: precision, recall, F1, and how many texts have it."""
    return [
        f"{name}: precision {both / max(1, given):.1%}, recall {both / max(1, have):.1%}, F1 {f1:.3f}, "
        f"{have} texts"
        for name, (have, given, both), f1 in zip(labels, found.classes, found.f1, strict=True)
    ]


def model_card(run: "Run", found: Evaluation, command: str) -> str:
    """In Markdown, with the header that the hub reads.

    Args:
        run: what was trained.
        found: the last evaluation, of the final parameters.
        command: as it was typed.
    """
    train, settings = run.train, asdict(run.settings)
    results = [f"loss {found.loss:.4f}, accuracy {found.accuracy:.2%} of {found.count} held out"]
    if found.classes:
        results += [f"macro-F1 {found.macro_f1:.4f}", *by_class(run.data.labels, found)]
    return "\n".join(
        [
            f"---\nlibrary_name: transformers\npipeline_tag: {TAGS[train.name]}\n---\n",
            f"# {run.facts['model']}, trained on {_plain(run.data.name)}\n",
            f"Task: {train.name}. Trained by accum_lib {__version__} with exact gradient accumulation.\n",
            "## Data\n",
            f"{len(train)} examples to train on, {len(run.held_out)} held out; texts are truncated to "
            f"{train.max_tokens} tokens, which {train.shortened} of them were.\n",
            "## Results\n",
            *(f"- {_plain(line)}" for line in results),
            "\n## Settings\n",
            *(f"- {name}: {value}" for name, value in settings.items()),
            "\n## Command\n",
            f"    {_plain(command)}\n",
        ]
    )


def _plain(text: Any) -> str:
    """On one line, whatever a name holds."""
    return " ".join(str(text).split())
