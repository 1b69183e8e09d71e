"""What an update would take on another network or with more processes: a fitted model. **A prediction.**

``t(K) = K (c + a) + u`` if every pass averages the gradients, and ``t(K) = K c + a + u`` if only the last one
does, with ``c`` the seconds of a pass, ``u`` those that occur once, and ``a`` what an averaging adds.
Measurements of both at several K give the three. ``a`` is what a ring all-reduce takes, ``2 (W - 1)
(latency + bytes / W / bandwidth)``, minus what hides behind the backward pass.

References: Patarasuk and Yuan (2009), doi 10.1016/j.jpdc.2008.09.002 (a ring sends the least possible);
Thakur et al. (2005), doi 10.1177/1094342005051521 (latency and bandwidth as a cost model).

The same updates over a slow network: Linux's own traffic control in a network namespace of its own.

A process in a new network namespace has a loopback device of its own. ``tc`` limits its rate, and
two processes inside talk through it. It ends with them; nothing of the machine's network is touched. Both
directions share the limit, so each process has half of it.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from accum_lib.distributed import launch
from accum_lib.lessons.distributed.measure import MICRO_BATCH, Lab, Setting, measure_in_process
from accum_lib.lessons.distributed.record import Forecast, Network, ProcessWork, Traffic
from accum_lib.words import _, listed


def network_from(payload: np.ndarray, seconds: np.ndarray, world_size: int) -> Network:
    """Latency and bandwidth from bare all-reduces: least squares of relative errors, neither below 0.

    Args:
        payload: (P,) bytes of each.
        seconds: (P,) what each took.
        world_size: how many processes took part, 2 or more.
    """
    steps = 2 * (world_size - 1)
    rows = np.stack([np.full(len(payload), steps), steps * payload / world_size], axis=1)
    (latency, per_byte), _ = _nnls(rows / seconds[:, None], np.ones(len(payload)))
    return Network(float(latency), float(1 / max(per_byte, 1e-15)))


def fit(traffic: Sequence[Traffic], network: Network) -> ProcessWork:
    """The workload that explains the times of several K, with averaging deferred and in every pass.

    Args:
        traffic: of one M, with two K or more each way.
        network: the one that it was measured on.
    """
    rows = [_row(t) for t in traffic]
    seconds = np.array([t.seconds for t in traffic])
    (c, a, u), _ = _nnls(np.array(rows) / seconds[:, None], np.ones(len(rows)))
    one = next(t for t in traffic if not t.every_micro_batch)
    found = ProcessWork(one.bytes, one.micro_batch_size, float(c), float(u), one.calls)
    needed = found.averaging_seconds(network, one.world_size)
    return replace(found, hidden=float(np.clip((needed - a) / c, 0, 1)) if c > 0 else 0.0)


def _row(t: Traffic) -> list[float]:
    """How often an update has a pass, an averaging, and everything else."""
    return [t.accumulation_steps, t.accumulation_steps if t.every_micro_batch else 1, 1]


def predict_times(
    workload: ProcessWork, network: Network, world_size: int, steps: Sequence[int], tolerance: float = 0.1
) -> Forecast:
    """Seconds and bytes per example over K, at fixed M. **A prediction.**

    Args:
        workload, network: measured, or assumed.
        world_size: processes.
        steps: the K to look at.
        tolerance: how much longer than without communication counts as worth no more accumulation.
    """
    k = np.array(steps)
    examples = k * workload.micro_batch_size
    times = {
        every: np.array([workload.update_time(network, world_size, int(n), every) for n in steps]) / examples
        for every in (False, True)
    }
    alone = (k * workload.pass_seconds + workload.update_seconds) / examples
    enough = np.flatnonzero(times[False] <= (1 + tolerance) * alone)
    sent = workload.gradient_bytes / workload.micro_batch_size
    return Forecast(
        k, times[False], times[True], alone, sent / k, np.full(len(k), sent),
        int(k[enough[0]]) if len(enough) else None, tolerance,
    )  # fmt: skip


def _nnls(rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    from scipy.optimize import nnls  # takes a while to import

    return nnls(rows, values)


SETTINGS = tuple(Setting(MICRO_BATCH, k, every) for k in (1, 4) for every in (False, True))
# 100 ms of queue; a burst of one of loopback's large packets, or nothing would ever pass
SCRIPT = "ip link set lo up && tc qdisc add dev lo root tbf rate {rate}bit burst 128kb latency 100ms"


class NotPermittedError(RuntimeError):
    """This system does not let us make a network namespace, or limit its rate."""


def measure_slowed(megabits: float, world_size: int = 2, timeout_seconds: float = 120) -> Lab:
    """Measure over a network limited to this many megabits per second, both directions together.

    Raises:
        ValueError: the rate is not above 0.
        NotPermittedError: no Linux, no ``unshare``, ``ip`` and ``tc``, or not allowed to use them.
    """
    if not megabits > 0:
        raise ValueError(f"megabits must be above 0; got {megabits}")
    script = SCRIPT.format(rate=round(megabits * 1e6))
    _try(script)
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", __name__, str(world_size), f"{folder}/lab"]
        done = _inside(f'{script} && exec "$@"', words, timeout_seconds)
        if done.returncode != 0:
            raise RuntimeError(f"the measurement in the slow network failed:\n{done.stderr[-2000:]}")
        return pickle.loads(Path(folder, "lab").read_bytes())


def _try(script: str) -> None:
    missing = [tool for tool in ("unshare", "ip", "tc") if not shutil.which(tool)]
    if missing:
        words = _("this system has no {tools}, so no network can be slowed here", tools=listed(missing))
        raise NotPermittedError(words)
    done = _inside(script, [], 20)
    if done.returncode != 0:
        reason = done.stderr.strip()[-200:]
        raise NotPermittedError(_("this system does not permit it: {reason}", reason=reason))


def _inside(script: str, words: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a network namespace in which this user may do everything."""
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script, "sh", *words]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)


if __name__ == "__main__":
    found = launch(measure_in_process, int(sys.argv[1]), SETTINGS, False)[0]
    Path(sys.argv[2]).write_bytes(pickle.dumps(found))
