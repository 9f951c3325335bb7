"""What runs inside a network: which layers are called with what, what autograd keeps, which operations are taken."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.graph import get_gradient_edge, saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelrepair.gradients.rows import sees_examples

PICKING = (
    "index",
    "gather",
    "scatter",
    "take",
    "sort",
    "topk",
    "kthvalue",
    "masked_select",
    "nonzero",
    "unique",
    "cumsum",
    "searchsorted",
    "bucketize",
)
"""In the names of operations that may take examples apart, or number them, by their values."""


@dataclass(frozen=True)
class Call:
    """One run of a layer: what it received, the shape of what it sent on, and the edges of the graph that sent both."""

    module: nn.Module
    inputs: Tensor
    source: Any
    outputs_shape: torch.Size
    edge: Any


@dataclass(frozen=True)
class Use:
    """One run of a layer in which it used a parameter.

    Attributes:
        call: the run.
        slot: what the parameter is to the layer: its "weight" or "bias".
        slopes: the gradient of the objective by the layer's output.
    """

    call: Call
    slot: str
    slopes: Tensor

    def of_examples(self, count: int) -> bool:
        """Whether the layer may have seen so many examples along the first axis."""
        return sees_examples(self.call.module, self.call.inputs, count)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What of it is the same in every batch, if the network does not look at the batch as a whole."""
        return self.call.module, self.slot, self.call.inputs.shape[1:], self.slopes.shape[1:]


@contextlib.contextmanager
def calls(modules: list[nn.Module]) -> Iterator[list[Call]]:
    """Note every call of these modules while the block runs."""
    noted: list[Call] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        inputs = args[0] if args else next(iter(kwargs.values()), None)
        if not (torch.is_tensor(inputs) and torch.is_tensor(outputs)):
            return
        if is_functorch_wrapped_tensor(inputs) or is_functorch_wrapped_tensor(outputs):
            # The network maps the layer itself, and what it saw has no place in memory.
            return
        # The edge stands for the output as it is now, also if the network then overwrites it in place.
        source, edge = (get_gradient_edge(sent) if sent.requires_grad else None for sent in (inputs, outputs))
        noted.append(Call(module, inputs.detach(), source, outputs.shape, edge))

    # First, so that what hooks of the network's own make of the outputs is not taken for them.
    handles = [module.register_forward_hook(note, with_kwargs=True, prepend=True) for module in modules]
    try:
        yield noted
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def saved_bytes(parameters: dict[str, nn.Parameter]) -> Iterator[list[int]]:
    """Sizes of the tensors that autograd keeps for a backward pass of the block, parameters excepted."""
    seen = {parameter.untyped_storage().data_ptr() for parameter in parameters.values()}
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            sizes.append(storage.nbytes())
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operations taken while the block runs, those on whole numbers included.

    Attributes:
        names: of PyTorch's operations, such as "aten::mm".
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))

    @property
    def pick(self) -> bool:
        """Whether one of them may take examples apart, or number them, by their values, as when they are sorted."""
        return any(word in name for name in self.names for word in PICKING)


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What there is of tensors that operations make while the block runs.

    Attributes:
        course: bytes of them during each operation, with the patches that a convolution is made of where a type has no
            other kernel.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.course: list[int] = []
        self._live = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if torch.is_tensor(tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                # Views, and what an operation changes in place, are no allocations.
                if key not in given and key not in self._known:
                    self._known.add(key)
                    self._live += storage.nbytes()
                    weakref.finalize(storage, self._freed, key, storage.nbytes())
        self.course.append(self._live + _patches(func.name(), args, found))
        return found

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size


def _patches(operation: str, args: tuple[Any, ...], found: Any) -> int:
    """Bytes of all patches that a convolution meets, cut out, a group at a time; 0 for other operations."""
    if operation == "aten::convolution":
        weight, outputs = args[1], found
    elif operation == "aten::convolution_backward":
        weight, outputs = args[2], args[0]
    else:
        return 0
    return int(len(outputs) * outputs[0, 0].numel() * weight[0].numel() * weight.element_size())
