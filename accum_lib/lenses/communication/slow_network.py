"""The same updates over a slow network: Linux's own traffic control in a network namespace of its own.

A process in a new network namespace has a loopback device that nobody else uses. ``tc`` limits its rate, and
two processes inside talk through it. It ends with them; nothing of the machine's network is touched. Both
directions share the limit, so each process has half of it.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from accum_lib.distributed import launch
from accum_lib.lenses.communication.measure import MICRO_BATCH, Lab, Setting, measure
from accum_lib.words import _, listed

SETTINGS = tuple(Setting(MICRO_BATCH, k, every) for k in (1, 4) for every in (False, True))
# 100 ms of queue; a burst of one of loopback's large packets, or nothing would ever pass
SCRIPT = "ip link set lo up && tc qdisc add dev lo root tbf rate {rate}bit burst 128kb latency 100ms"


class NotPermittedError(RuntimeError):
    """This system does not let us make a network namespace, or limit its rate."""


def measure_slowed(megabits: float, world_size: int = 2, timeout_seconds: float = 120) -> Lab:
    """Measure over a network of so many megabits per second, both directions together.

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
    found = launch(measure, int(sys.argv[1]), SETTINGS, False)[0]
    Path(sys.argv[2]).write_bytes(pickle.dumps(found))
