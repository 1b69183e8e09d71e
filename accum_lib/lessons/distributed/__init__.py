"""What processes that train together send each other: counted, timed, and foretold for other networks.

``meter``         a DDP communication hook: calls, bytes, and when they were under way
``measure``       real updates in two processes of this machine, in every setting
``sharded``       FSDP2: which collectives it calls, and what it keeps from pass to pass
``slow_network``  the same updates over a network that is slowed down, where the system allows it
``forecast``      a model of an update's time against K, fitted to these measurements
"""

from accum_lib.lenses.communication.forecast import fit, forecast, network_from
from accum_lib.lenses.communication.measure import Lab, Setting, measure_here
from accum_lib.lenses.communication.meter import TrafficMeter
from accum_lib.lenses.communication.slow_network import NotPermittedError, measure_slowed

__all__ = [
    "Lab",
    "NotPermittedError",
    "Setting",
    "TrafficMeter",
    "fit",
    "forecast",
    "measure_here",
    "measure_slowed",
    "network_from",
]
