"""Answer an operator ourselves, before PyTorch splits it up into smaller ones.

PyTorch looks for an operator's implementation key by key. Mixed precision has keys of its own, above
those of autograd, so what is decided there is differentiated like anything else. One of them belongs to
devices from outside and is not used here: while a trace runs, our functions stand at that key.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.library import Library, fallthrough_kernel

KEY_NAME = "AutocastPrivateUse1"
KEY = torch._C.DispatchKey.AutocastPrivateUse1  # type: ignore[attr-defined]


@contextmanager
def answering(functions: Mapping[str, Callable]) -> Iterator[None]:
    """While this is open, ``functions["dropout"]`` is called for ``aten::dropout``, and so on.

    All other operators are as ever. A function that calls the operator which it answers for does so
    through ``below``, else it would be called again.
    """
    ours, others = Library("aten", "IMPL"), Library("_", "IMPL")
    try:
        others.fallback(fallthrough_kernel, KEY_NAME)
        for name, function in functions.items():
            ours.impl(name, function, KEY_NAME)
        with _key_switched_on():
            yield
    finally:
        ours._destroy()
        others._destroy()


def below(operator: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call PyTorch's own implementation."""
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(KEY)):
        return operator(*args, **kwargs)


@contextmanager
def _key_switched_on() -> Iterator[None]:
    torch._C._dispatch_tls_set_dispatch_key_excluded(KEY, False)
    torch._C._dispatch_tls_set_dispatch_key_included(KEY, True)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_included(KEY, False)
        torch._C._dispatch_tls_set_dispatch_key_excluded(KEY, True)
