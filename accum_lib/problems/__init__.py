"""What is descended: a regression one can draw, digits one can train in seconds, RoBERTa.

``Roberta`` is imported on first use, since Transformers takes seconds to load.
"""

from accum_lib.extras import need

need(__name__, "notebooks", "numpy")

from accum_lib.problems.base import Problem, micro_batches
from accum_lib.problems.digits import Digits
from accum_lib.problems.regression import Regression

__all__ = ["Digits", "Problem", "Regression", "micro_batches"]
