"""How a network is run where more than one backward pass through it is needed.

Fused kernels of attention and of recurrent layers have a backward pass and nothing else: they can be differentiated
neither twice nor in forward mode, nor mapped over examples. The plain ones that PyTorch has beside them can.

Two derivatives of PyTorch's are wrong, and mended here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from modelrepair.errors import RepairError

IN_PLACE = re.compile("in-?place operation|modified in-?place")


class ExactDerivatives(TorchFunctionMode):
    """While the block runs, functions of PyTorch's whose derivatives are wrong get right ones.

    An embedding's padding row is a constant also in forward mode, as backward passes have it: PyTorch's forward-mode
    derivative of `embedding` does not know `padding_idx`.

    What comes back to an instance normalisation comes in the order in memory of what it sent: for one example alone,
    PyTorch takes a gradient in channels-last order for one in its own order, and permutes it.

    What goes into a group normalisation goes in row by row, as its forward-mode derivative needs it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.group_norm:
            args = (args[0].contiguous(), *args[1:])
        outputs = func(*args, **kwargs)
        if func is F.embedding:
            return _constant_padding(outputs, *args, **kwargs)
        if func is F.instance_norm:
            # Backward, the one view of the other copies what is in another order.
            return outputs.flatten(1).unflatten(1, outputs.shape[1:])
        return outputs


def _constant_padding(
    rows: Tensor, input: Tensor, weight: Tensor, padding_idx: int | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """Rows of an embedding, with those of its padding constant; further arguments are those of `embedding`."""
    if padding_idx is None:
        return rows
    padded = input == padding_idx % len(weight)
    return torch.where(padded.unsqueeze(-1), rows.detach(), rows)


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
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            place = running[-1] if running else f"network {type(network).__name__}"
            reason = " ".join(str(error).split())[:200]
            raise RepairError(f"{place} cannot give {what} (PyTorch: {reason}): {instead}") from error


@contextlib.contextmanager
def backward_passes() -> Iterator[None]:
    """While the block runs, what PyTorch says of layers that work in place is said in a sentence.

    Raises:
        RepairError: if such a layer has changed what the backward pass of another needs.
    """
    try:
        yield
    except RuntimeError as error:
        if not IN_PLACE.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise RepairError(
            "the network has no gradients, since a layer that works in place changes what another needs for its own "
            f"(PyTorch: {reason}): give that layer inplace=False"
        ) from error


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
