"""Run scripts, each in a copy of this process, which has loaded the frameworks; their output, as JSON.

Loading takes longer than running, and no script must see what another one leaves in a framework's globals.
"""

import json
import os
import runpy
import sys
import tempfile
from contextlib import suppress

import accelerate  # noqa: F401
import torch
import transformers  # noqa: F401

with suppress(ImportError):
    import lightning  # noqa: F401


def printed_by(path: str) -> str:
    """Standard output of the script."""
    with tempfile.TemporaryFile("w+") as out:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            try:
                runpy.run_path(path, run_name="__main__")
                sys.stdout.flush()
                os._exit(0)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{path} failed")
        out.seek(0)
        return out.read()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({path: printed_by(path) for path in sys.argv[1:]}))
