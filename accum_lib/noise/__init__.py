"""How much a mini-batch gradient varies, exactly and measured, and the gradient noise scale three ways.

``examples``    the exact gradient of every single example
``exact``       the full gradient, tr(Sigma), the exact noise scale, the law tr(Sigma)/B * (1 - B/N)
``sampling``    mini-batches drawn in four ways, and what they measure
``estimates``   the noise scale from norms alone, with its confidence interval
``lab``         clouds of mini-batch gradients and variance against B, for the explorer
``monitor``     the same during ordinary accumulation, for free
"""

from accum_lib.lenses.variance.estimates import from_two_sizes, from_window, from_windows
from accum_lib.lenses.variance.exact import from_gradients, law, population
from accum_lib.lenses.variance.examples import example_gradients, gradient_chunks
from accum_lib.lenses.variance.lab import VarianceLab
from accum_lib.lenses.variance.monitor import NoiseScaleMonitor
from accum_lib.lenses.variance.sampling import SAMPLINGS, accumulated_means, draw, means, measure, plane

__all__ = [
    "SAMPLINGS",
    "NoiseScaleMonitor",
    "VarianceLab",
    "accumulated_means",
    "draw",
    "example_gradients",
    "from_gradients",
    "from_two_sizes",
    "from_window",
    "from_windows",
    "gradient_chunks",
    "law",
    "means",
    "measure",
    "plane",
    "population",
]
