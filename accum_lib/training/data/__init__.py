"""Labelled texts: where they come from, how they become tokens, and in which order they are trained on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One text, its partner in a pair task (or None), and its label as an index into the labels."""

    text: str
    pair: str | None = None
    label: int | None = None


@dataclass(frozen=True)
class TextData:
    """A data set in two parts.

    They share no text, unless both were given: two files (a warning says so), or GLUE's own parts.

    Attributes:
        name: where it comes from, in words.
        train: the examples to learn from.
        held_out: the examples to measure on.
        labels: the class names; empty if there are none (masked language modelling).
    """

    name: str
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    labels: tuple[str, ...]
