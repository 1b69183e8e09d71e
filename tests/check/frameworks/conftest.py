"""The scoreboard of the installed frameworks, computed once for all who look at it."""

import exact_jobs
import pytest

from accum_lib.check.frameworks import cases
from accum_lib.check.frameworks.scoreboard import ScoreRow, scoreboard


@pytest.fixture(scope="session")
def rows() -> list[ScoreRow]:
    """Every framework on digits, on sequences, and on both kinds of language models.

    Not on causal ones with a Transformers whose Trainer counts labels unshifted.
    """
    chosen = [cases.digits(), cases.sequence_classification(), cases.masked_lm()]
    causal = [cases.causal_lm()] if exact_jobs.trainer_is_known() else []
    return list(scoreboard(chosen=[*chosen, *causal]))
