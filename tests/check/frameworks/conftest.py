"""The scoreboard of the installed frameworks, computed once for all who look at it."""

import pytest

from accum_lib.check.frameworks import cases
from accum_lib.check.frameworks.scoreboard import ScoreRow, scoreboard


@pytest.fixture(scope="session")
def rows() -> list[ScoreRow]:
    """Every framework on digits, on sequences, and on both kinds of language models."""
    chosen = [cases.digits(), cases.sequence_classification(), cases.masked_lm(), cases.causal_lm()]
    return list(scoreboard(chosen=chosen))
