"""Everything that an explorer or a prediction says, and which English words are left in it."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from accum_lib.lessons.kit.grid import GridExplorer
from accum_lib.lessons.kit.quiz import Quiz
from accum_lib.lessons.kit.theme import Picture
from accum_lib.problems.audio import NAMES as SYLLABLES

# Names of things that are called so in Chinese, too, and code.
NAMES = {
    "RoBERTa", "base", "tiny", "AdamW", "Adam", "AdamA", "SGD", "EMA", "MLP", "CNN", "BatchNorm",
    "GroupNorm", "Dropout", "dropout", "DDP", "CTC", "GPU", "CPU", "GiB", "GB", "MB", "kB", "Gbit",
    "RTX", "fp", "bf", "float", "bfloat", "all", "reduce", "no_sync", "ctc_loss", "reduction",
    "mean", "torch", "Goyal", "Marek", "billion", "mlm", "nan", "NaN", "docstring", "optimizer",
    "step", "max_grad_norm", "scheduler", "trace", "g_M", "g_B", "world_size", "backward", "sum",
    "accumulate", "nn", "TransformerEncoder", "MiB", "KiB", "B_noise", "pass", "update", "beta",
    "large", "made", "up",
}  # fmt: skip


def english(text: str) -> set[str]:
    """Words of two letters or more that are no names."""
    bare = re.sub(r"<code>.*?</code>|<pre.*?</pre>|</?\w+[^>]*>|arXiv [\d.]+", " ", text, flags=re.S)
    words = re.findall(r"[A-Za-z_]{2,}", bare)
    return {word for word in words if word not in NAMES | set(SYLLABLES)}


def of_picture(picture: Picture) -> Iterator[str]:
    yield picture.summary
    yield from (trace["name"] for trace in picture.data if "name" in trace)
    for name, part in picture.layout.items():
        if re.match(r"[xy]axis", name):
            yield part["title"]["text"]
            yield from part.get("ticktext", [])
    yield from (note["text"] for note in picture.layout.get("annotations", []))


def of_explorer(explorer: GridExplorer) -> Iterator[str]:
    """Its controls, what the browser says, and pictures: each control at each value, the others at rest."""
    for control in explorer.controls:
        yield control["label"]
        yield from control["labels"]
    yield from explorer.words.values()
    start: dict[str, Any] = {c.name: c.start for c in explorer._controls}
    for control in explorer._controls:
        for value in control.values:
            explorer.choose(**{**start, control.name: value})
            yield from of_picture(explorer.picture())


def of_prediction(prediction: Quiz) -> Iterator[str]:
    """The question, its options, the button, and the replies to a right and to a wrong guess."""
    yield prediction._question
    yield from prediction._options
    yield prediction.button.description
    prediction._answer = cache(prediction._answer)  # one computation for all guesses
    for guess in range(len(prediction._options)):
        prediction.choice.value = guess
        prediction.button.click()
        yield prediction.reply.value
