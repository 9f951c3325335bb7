"""How a network is run where more than one backward pass through it is needed.

Fused kernels of attention and of recurrent layers have a backward pass and nothing else: they can be differentiated
neither twice nor in forward mode, nor mapped over examples. The plain ones that PyTorch has beside them can.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelrepair.errors import RepairError


@contextlib.contextmanager
def plain_kernels(network: nn.Module) -> Iterator[None]:
    """While the block runs, layers of this network use kernels that can be differentiated in every way."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if any(isinstance(module, nn.RNNBase) for module in network.modules()):
                for backend in (torch.backends.mkldnn, torch.backends.cudnn):
                    stack.callback(setattr, backend, "enabled", backend.enabled)
                    setattr(backend, "enabled", False)  # noqa: B010
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def differentiable(network: nn.Module, what: str, instead: str) -> Iterator[None]:
    """`plain_kernels`, and an error that names the layer that has none.

    Args:
        network: the one that the block runs.
        what: the block computes, in words.
        instead: what to do if it cannot, in words.

    Raises:
        RepairError: if PyTorch cannot differentiate a layer so; says which.
    """
    with plain_kernels(network), _entered(network) as running:
        try:
            yield
        except RuntimeError as error:
            place = running[-1] if running else f"network {type(network).__name__}"
            reason = " ".join(str(error).split())[:200]
            raise RepairError(f"{place} cannot give {what} (PyTorch: {reason}): {instead}") from error


@contextlib.contextmanager
def _entered(network: nn.Module) -> Iterator[list[str]]:
    """The layers that are running, in words, the innermost last; where one fails it stays the last."""
    running: list[str] = []

    def enter(words: str) -> Any:
        return lambda module, args: running.append(words)

    def leave(module: nn.Module, args: Any, outputs: Any) -> None:
        running.pop()

    handles = []
    for path, module in network.named_modules():
        if path:
            words = f"layer {path} ({type(module).__name__})"
            handles.append(module.register_forward_pre_hook(enter(words), prepend=True))
            handles.append(module.register_forward_hook(leave))
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()
