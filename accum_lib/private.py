"""Parts of PyTorch without a public interface, on which two engines rest, and versions that were tried."""

from importlib import import_module

import torch

TESTED = "2.11 and 2.13"
CHECKER = (
    "torch.utils._python_dispatch:TorchDispatchMode",
    "torch._C:_current_graph_task_id",
    "torch.autograd.graph:_engine_run_backward",
)
MEMORY = (
    "torch.utils._python_dispatch:TorchDispatchMode",
    "torch._C:_current_graph_task_id",
    "torch._C:_current_autograd_node",
    "torch.utils._python_dispatch:_disable_current_modes",
    "torch.utils._pytree:tree_map",
    "torch.utils._pytree:tree_leaves",
    "torch._C:DispatchKey",
    "torch._C:DispatchKeySet",
    "torch._C:_ExcludeDispatchKeyGuard",
    "torch._C:_AutoDispatchBelowAutograd",
    "torch._C:_dispatch_tls_set_dispatch_key_excluded",
    "torch._C:_dispatch_tls_set_dispatch_key_included",
    "torch._C:_dispatch_get_all_op_names",
    "torch._C:_dispatch_has_kernel_for_dispatch_key",
    "torch._C:_storage_Use_Count",
    "torch._C._profiler:_ExperimentalConfig",
    "torch.autograd:_enable_profiler_legacy",
    "torch.autograd:_disable_profiler_legacy",
    "torch._ops:OpOverload",
    "torch:_fused_sdp_choice",
    "torch.cpu:_is_avx512_bf16_supported",
)


def need_inside_torch(part: str, names: tuple[str, ...]) -> None:
    """Refuse a PyTorch that lacks what a part of the library uses inside it.

    Args:
        part: who uses it, as the message says it.
        names: as "module:attribute".

    Raises:
        ImportError: something is missing; the message names it and the versions that were tried.
    """
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ImportError(
                f"{part} uses {name.replace(':', '.')} inside PyTorch, which {torch.__version__} does not "
                f"have: it was tested with {TESTED}; the rest of the library works without it"
            ) from error
