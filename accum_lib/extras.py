"""What the parts of the library need besides torch, and what to type where it is missing."""

from importlib.metadata import version
from importlib.util import find_spec

EXTRAS = {  # as in pyproject.toml, by the names that are imported
    "check": ("numpy",),
    "memory": ("numpy", "psutil"),
    "noise": ("numpy", "scipy"),
    "train": ("numpy", "scipy", "psutil", "filelock", "transformers", "accelerate"),
    "frameworks": ("numpy", "sklearn", "transformers", "accelerate", "lightning"),
    "notebooks": (
        "numpy", "scipy", "sklearn", "psutil", "filelock", "transformers", "accelerate", "plotly",
        "anywidget", "ipywidgets", "matplotlib", "contourpy",
    ),
    "data": ("datasets",),
}  # fmt: skip


OLDEST = {"transformers": 5}  # major versions; an older one fails without a word about versions


def need(part: str, extra: str, *modules: str) -> None:
    """Refuse to go on without what an extra brings.

    Args:
        part: who needs it, as the message says it.
        extra: the extra that brings it.
        modules: what is needed; by default all that the extra brings.

    Raises:
        ModuleNotFoundError: something is missing; in one sentence, with the command that installs it.
        ImportError: something is too old; in the same words.
    """
    for module in modules or EXTRAS[extra]:
        if find_spec(module) is None:
            raise ModuleNotFoundError(
                f'{part} needs {module}, which is not installed: pip install "accum_lib[{extra}]"',
                name=module,
            )
        if module in OLDEST and int((there := version(module)).split(".")[0]) < OLDEST[module]:
            raise ImportError(
                f"{part} needs {module} {OLDEST[module]} or newer, and {there} is installed: "
                f'pip install --upgrade "accum_lib[{extra}]"',
                name=module,
            )
