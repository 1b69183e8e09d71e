"""What copies of processes begin with: loaded once, and left out of their garbage collections."""

import gc
from importlib import import_module

import accelerate  # noqa: F401
import anywidget  # noqa: F401
import matplotlib.backends.backend_agg  # noqa: F401
import plotly  # noqa: F401
import sklearn.datasets  # noqa: F401

from accum_lib.machine import HEAVY

for name in HEAVY:
    import_module(name)
gc.collect()
gc.freeze()
