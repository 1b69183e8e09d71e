"""Leave out what Transformers and PyTorch load and a trace does not need: half of what a command loads.

For a process that does nothing else, since what has been left out stays so until the process ends.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from unittest import mock

NOT_NEEDED = ("accelerate", "scipy")  # Transformers takes them for not installed


class Later(ModuleType):
    """Stands for a package and knows a few names; asked for any other it makes way for the package."""

    def __init__(self, name: str, **known: Any) -> None:
        super().__init__(name)
        spec = find_spec(name)
        self.__path__ = list((spec and spec.submodule_search_locations) or ())  # its submodules can be had
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
            package, _, own = self.__name__.rpartition(".")
            if package:
                vars(sys.modules[package]).pop(own, None)
        return getattr(import_module(self.__name__), name)


def _as_it_is(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator that tells PyTorch's compiler to leave a function alone, where nothing is compiled."""
    return function if function is not None else lambda decorated: decorated


COMPILER = dict.fromkeys(("disable", "assume_constant_result", "allow_in_graph", "graph_break"), _as_it_is)
# What these answer where every size is a plain number, as it is on meta tensors.
SYMBOLS: dict[str, Any] = {
    **dict.fromkeys(
        ("expect_true", "guard_or_false", "guard_or_true", "guard_size_oblivious", "statically_known_true"),
        bool,
    ),
    "sym_and": lambda *parts: all(parts),
    "sym_or": lambda *parts: any(parts),
    "sym_eq": lambda one, other: one == other if isinstance(one, int) else tuple(one) == tuple(other),
    "free_unbacked_symbols": lambda _: set(),
    "has_guarding_hint": lambda _: True,
    "guarding_hint_or_throw": lambda number: number,
    "is_nested_int": lambda _: False,
}
STANDING_IN = {
    "torch._dynamo": COMPILER,
    "torch.fx.experimental.symbolic_shapes": SYMBOLS,
    "torch.utils._sympy.functions": {"Max": max},
    "sympy": {"Basic": type("Basic", (), {})},
}


def only_for_traces() -> None:
    """Before Transformers is loaded: leave out its extras, process groups, the compiler and SymPy."""
    import torch
    import torch.distributed

    for name, known in STANDING_IN.items():
        sys.modules.setdefault(name, Later(name, **known))
    for name in NOT_NEEDED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    torch._dynamo = sys.modules["torch._dynamo"]
    import_module("torch._dynamo.config")  # checkpointing asks it something
    mock.patch.object(torch.distributed, "is_available", return_value=False).start()
