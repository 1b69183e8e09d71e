"""Still pictures in Chinese: letters where there is a font for them, English labels where there is none."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.font_manager import fontManager

from accum_lib.lessons.kit import still as module
from accum_lib.lessons.kit import theme
from accum_lib.lessons.kit.still import still
from accum_lib.lessons.kit.theme import Picture
from accum_lib.words import _, speaking


def draw() -> Picture:
    layout = theme.layout(200, xaxis=theme.axis(_("learning rate"), (0, 1)), yaxis=theme.axis("u", (0, 1)))
    return Picture([theme.line(np.arange(3), np.arange(3), "", "a", "blue", "solid")], layout, _("words"))


@pytest.fixture
def labels(monkeypatch):
    """What is drawn, instead of how it looks."""
    monkeypatch.setattr("accum_lib.words.catalogue", lambda name: {"learning rate": "学习率", "words": "说明"}
                        if name == "zh" else {})  # fmt: skip
    drawn = []
    monkeypatch.setattr(
        "accum_lib.lessons.kit.still.png", lambda p: drawn.append(p.layout["xaxis"]["title"]["text"]) or b""
    )
    return drawn


@pytest.mark.parametrize(("installed", "label"), [(["Noto Sans CJK SC"], "学习率"), ([], "learning rate")])
def test_labels_are_english_where_no_font_has_the_letters(labels, monkeypatch, installed, label) -> None:
    monkeypatch.setattr(module, "fonts", lambda language: installed)
    with speaking("zh"):
        data, metadata = still(draw)
    assert labels == [label]
    assert data["text/plain"] == metadata["image/png"]["alt"] == "说明", "its words are Chinese in any case"


def test_english_needs_no_other_font(labels, monkeypatch) -> None:
    monkeypatch.setattr(module, "fonts", lambda language: [])
    still(draw)
    assert labels == ["learning rate"]


def test_a_picture_s_labels_have_no_tags(monkeypatch) -> None:
    drawn, set_xlabel = [], Axes.set_xlabel
    monkeypatch.setattr(
        Axes, "set_xlabel", lambda self, text, **how: drawn.append(text) or set_xlabel(self, text)
    )
    axes = {"xaxis": theme.axis("steps K,<br>a < b", (0, 1)), "yaxis": theme.axis("u", (0, 1))}
    still(
        lambda: Picture([theme.line([0, 1], [0, 1], "", "a", "blue", "solid")], theme.layout(200, **axes), "")
    )
    assert drawn == ["steps K,\na < b"]


def test_fonts_are_those_that_matplotlib_finds(monkeypatch) -> None:
    class Font:
        name = "SimHei"

    monkeypatch.setattr(fontManager, "ttflist", [Font()])
    assert module.fonts("zh") == ["SimHei"]
    assert module.can_write("zh")
    monkeypatch.setattr(fontManager, "ttflist", [])
    assert module.fonts("zh") == []
    assert not module.can_write("zh")
    assert module.can_write("en")


@pytest.mark.skipif(not module.can_write("zh"), reason="no Chinese font is installed here")
def test_no_letter_is_missing(recwarn, monkeypatch) -> None:
    chinese = draw()
    chinese.layout["xaxis"]["title"]["text"] = "学习率"
    module.png(chinese)
    assert boxes(recwarn) == []
    monkeypatch.setattr(module, "fonts", lambda language: [])
    module.png(chinese)
    assert boxes(recwarn) != [], "without a font there would be empty boxes"


def boxes(warnings) -> list[str]:
    return [str(w.message) for w in warnings if "missing from" in str(w.message)]
