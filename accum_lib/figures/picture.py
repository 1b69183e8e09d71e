"""A picture as plain data: Plotly traces and layout, and the same in words.

Explorers switch between hundreds of pictures of one shape, and building a validated Plotly figure takes
milliseconds each; so drawing functions return this light record, and ``figure()`` makes the figure.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Picture:
    """Traces and layout as Plotly's own dictionaries, and a summary for those who cannot see them."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    summary: str

    def figure(self) -> "go.Figure":
        """The Plotly figure, with the summary in ``layout.meta``.

        Raises:
            ValueError: Plotly does not know a property.
        """
        import plotly.graph_objects as go  # explorers do not need it, and it takes a while to import

        return go.Figure(self.data, {**self.layout, "meta": {"summary": self.summary}})
