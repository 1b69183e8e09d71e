"""A quiz: the reader predicts, and only then is the answer computed and shown.

A demonstration without a prediction teaches about as much as none (Crouch et al. 2004, doi
10.1119/1.1707018), so every lesson asks first.
"""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ipywidgets
from IPython.display import display

from accum_lib.lessons.kit import progress
from accum_lib.lessons.kit.letters import marked
from accum_lib.machine import one_thread
from accum_lib.words import N_, _, sentences

# Said of an error made with confidence, whose correction is kept best (Butterfield and Metcalfe 2001).
SURPRISE = N_("You were sure, so this one is worth a second look.")


@dataclass(frozen=True)
class Solved:
    """A question with its answer.

    Attributes:
        question, options: as they are asked.
        right: the index of the right option.
        said: the reply to each option: what is wrong with it, which one is right, and what the run has shown.
    """

    question: str
    options: tuple[str, ...]
    right: int
    said: tuple[str, ...]


class Quiz:
    """Options to choose from, and a button that then computes the answer.

    Args:
        question: what will happen?
        options: the possible guesses, each with the reason why it is wrong; "" for one that is expected to be
            right.
        answer: computes ``(index of the right option, explanation)`` from a real run; called only when
            the reader has guessed.
        name: the key in the reader's progress, such as "descents.full_buffer". It stays what it is, or the
            reader's file would no longer count; None records nothing.

    Attributes:
        errors: exceptions that were shown to the reader in words (Jupyter swallows them in callbacks).
    """

    def __init__(
        self,
        question: str,
        options: Mapping[str, str],
        answer: Callable[[], tuple[int, str]],
        name: str | None = None,
    ) -> None:
        self._question, self._options, self._answer = question, tuple(options), answer
        self._reasons = tuple(options.values())
        self.name = name
        self.errors: list[BaseException] = []
        self.choice = ipywidgets.RadioButtons(
            options=[(label, index) for index, label in enumerate(options)],
            value=None,
            layout={"width": "max-content"},
        )
        self.sure = ipywidgets.Checkbox(
            description=_("I am sure"), indent=False, layout={"width": "max-content"}
        )
        self.button = ipywidgets.Button(
            description=_("Show what happens"),
            disabled=True,
            button_style="primary",
            layout={"width": "max-content"},
        )
        self.reply = ipywidgets.HTML()
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HTML(_("<b>Your prediction:</b> {question}", question=marked(question))),
                *(self.choice, self.sure, self.button, self.reply),
            ]
        )
        self.choice.observe(self._on_choice, names="value")
        self.button.on_click(self._on_click)

    def show(self) -> None:
        """Display the question."""
        data = self.widget._repr_mimebundle_() or {}
        options = "".join(f"\n  ( ) {option}" for option in self._options)
        said = _("Your prediction: {question}", question=self._question)
        display({**data, "text/plain": said + options}, raw=True)

    def solved(self) -> "Solved":
        """The question with its answer, computed now."""
        with one_thread():  # the models are so small that threads on a busy machine wait for each other
            right, why = self._answer()
        answer = _("It is: <b>{option}</b>.", option=self._options[right])
        said = [sentences(reason, answer, why) for reason in self._reasons]
        said[right] = sentences(_("As you predicted."), why)
        return Solved(self._question, self._options, right, tuple(said))

    def _on_choice(self, change: object) -> None:
        self.button.disabled = self.choice.value is None

    def _on_click(self, button: object) -> None:
        self.button.disabled = True
        self.reply.value = _("Computing…")
        try:
            solved = self.solved()
        except (Exception, KeyboardInterrupt) as error:
            self.errors.append(error)
            self.reply.value = _(
                "The answer could not be computed ({error}). Try once more.",
                error=html.escape(str(error)) or _("stopped"),
            )
            self.button.disabled = False
            return
        chosen = self.choice.value
        mark = "✓" if chosen == solved.right else f"✗ {self._options[chosen]}<br>"
        surprised = self.sure.value and chosen != solved.right
        said = sentences(solved.said[chosen], _(SURPRISE) if surprised else "")
        shown = marked(f"{mark} {said}")
        self.reply.value = f"<div role='status'>{shown}{self._recorded(solved.right)}</div>"

    def _recorded(self, right: int) -> str:
        """Note the guess in the reader's progress; as HTML, what went wrong with that, if anything did."""
        note = self.name and progress.record_prediction(
            self.name, self.choice.value == right, self.sure.value
        )
        return f"<p>{html.escape(note)}</p>" if note else ""
