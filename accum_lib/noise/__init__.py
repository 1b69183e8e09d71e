"""How much a mini-batch gradient varies, exactly and measured, and the gradient noise scale three ways.

``examples``    the exact gradient of every single example
``exact``       the full gradient, tr(Sigma), the exact noise scale, the law tr(Sigma)/B * (1 - B/N)
``estimates``   the noise scale from norms alone, with its confidence interval
``monitor``     the same during ordinary accumulation, for free
"""

from accum_lib.extras import need

need(__name__, "noise")

from accum_lib.noise.estimates import from_two_sizes, from_window, from_windows
from accum_lib.noise.exact import from_gradients, law, population
from accum_lib.noise.examples import example_gradients, gradient_chunks
from accum_lib.noise.monitor import NoiseScaleMonitor

__all__ = [
    "NoiseScaleMonitor",
    "example_gradients",
    "from_gradients",
    "from_two_sizes",
    "from_window",
    "from_windows",
    "gradient_chunks",
    "law",
    "population",
]
