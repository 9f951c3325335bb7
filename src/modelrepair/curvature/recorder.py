"""Every example's gradient at once: what the layers of a network receive and send back in one pass.

In eval mode the gradient of example i with respect to the weight of a linear layer is a sum of outer products
over the positions p at which the layer was applied (one for a fully connected layer, one a pixel for a
convolution): Gᵢ = Σ_p bᵢₚ aᵢₚᵀ, with inputs a and gradients b of log p(yᵢ | xᵢ, θ̂) by the layer's outputs
(Goodfellow 2015, arXiv:1510.01799; Rochette et al. 2019, arXiv:1912.06015, for convolutions). One forward and
one backward pass of a batch yield all a and b.

A row is the sum of the gradients of `minibatch` consecutive examples; its positions are theirs together.

Parameters that no such layer owns are differentiated example by example with `torch.func`. A probe on a few
examples compares everything with autograd before anything expensive runs.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge, saved_tensors_hooks
from torch.func import functional_call, grad, vmap

from modelrepair.errors import RepairError
from modelrepair.examples import Examples
from modelrepair.trained_model import TrainedModel

PROBE_EXAMPLES = 8
BATCH_BYTES = 256 * 2**20
WRITTEN_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Outer:
    """Rows of a weight's gradient as sums over positions: Gᵣ = left[r] @ right[r]ᵀ, one block a group.

    left is (R, groups, out, P), the gradients by outputs; right (R, groups, in, P), the inputs.
    """

    left: Tensor
    right: Tensor

    def dense(self, rows: slice = slice(None)) -> Tensor:
        """(R, groups · out · in) these rows written out."""
        left, right = self.left[rows], self.right[rows]
        return torch.bmm(left.flatten(0, 1), right.flatten(0, 1).mT).view(len(left), -1)


Rows = Outer | Tensor
Objective = Callable[[Tensor, Tensor], Tensor]


def dense(rows: Rows) -> Tensor:
    """(R, numel) rows written out."""
    return rows.dense() if isinstance(rows, Outer) else rows


def written_out(rows: Rows) -> Iterator[tuple[slice, Tensor]]:
    """Rows written out, about `WRITTEN_BYTES` at a time, and which they are."""
    if not isinstance(rows, Outer):
        yield slice(0, len(rows)), rows
        return
    width = rows.left[0, :, :, 0].numel() * rows.right.shape[2] * rows.left.element_size()
    size = max(1, WRITTEN_BYTES // width)
    for start in range(0, len(rows.left), size):
        chunk = slice(start, min(start + size, len(rows.left)))
        yield chunk, rows.dense(chunk)


def sum_of_squares(rows: Rows) -> Tensor:
    """(numel,) Σᵣ Gᵣ² entry by entry."""
    if isinstance(rows, Outer) and rows.left.shape[1] == rows.left.shape[3] == 1:
        return (rows.left[:, 0, :, 0].square().mT @ rows.right[:, 0, :, 0].square()).flatten()
    return torch.stack([part.square().sum(0) for _, part in written_out(rows)]).sum(0)


def gather(values: Tensor, minibatch: int) -> Tensor:
    """(n, ...) to (R, minibatch, ...), the last row filled up with zeros."""
    missing = -len(values) % minibatch
    if missing:
        values = torch.cat([values, values.new_zeros(missing, *values.shape[1:])])
    return values.reshape(-1, minibatch, *values.shape[1:])


def _linear(module: nn.Linear, inputs: Tensor, slopes: Tensor, minibatch: int) -> dict[str, Rows]:
    right = gather(inputs.flatten(1, -2) if inputs.ndim > 2 else inputs.unsqueeze(1), minibatch)
    left = gather(slopes.flatten(1, -2) if slopes.ndim > 2 else slopes.unsqueeze(1), minibatch)
    left, right = left.flatten(1, 2).mT.unsqueeze(1), right.flatten(1, 2).mT.unsqueeze(1)
    return {"weight": Outer(left, right), "bias": left.sum(3).flatten(1)}


_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def _convolution(module: _Convolution, inputs: Tensor, slopes: Tensor, minibatch: int) -> dict[str, Rows]:
    axes = len(module.kernel_size)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padding = module._reversed_padding_repeated_twice
    inputs = gather(F.pad(inputs, padding, mode=mode) if any(padding) else inputs, minibatch).contiguous()
    slopes = gather(slopes, minibatch)
    strides = inputs.stride()
    steps = strides[3:]
    # (R, minibatch, channels, *kernel, *positions): a view in which every patch that the kernel meets appears.
    patches = inputs.as_strided(
        (*inputs.shape[:3], *module.kernel_size, *slopes.shape[3:]),
        (
            *strides[:3],
            *(step * by for step, by in zip(steps, module.dilation, strict=True)),
            *(step * by for step, by in zip(steps, module.stride, strict=True)),
        ),
    )
    rows, groups = len(inputs), module.groups
    order = (0, *range(2, 3 + axes), 1, *range(3 + axes, 3 + 2 * axes))
    right = patches.permute(order).reshape(rows, groups, -1, minibatch * slopes[0, 0, 0].numel())
    left = slopes.transpose(1, 2).reshape(rows, groups, module.out_channels // groups, -1)
    return {"weight": Outer(left, right), "bias": left.sum(3).flatten(1)}


def _batch_norm(
    module: nn.modules.batchnorm._BatchNorm, inputs: Tensor, slopes: Tensor, minibatch: int
) -> dict[str, Rows]:
    normal = F.batch_norm(inputs, module.running_mean, module.running_var, eps=module.eps)
    return _affine(normal, slopes, minibatch)


def _group_norm(module: nn.GroupNorm, inputs: Tensor, slopes: Tensor, minibatch: int) -> dict[str, Rows]:
    normal = F.group_norm(inputs, module.num_groups, eps=module.eps)
    return _affine(normal, slopes, minibatch)


def _layer_norm(module: nn.LayerNorm, inputs: Tensor, slopes: Tensor, minibatch: int) -> dict[str, Rows]:
    normal = F.layer_norm(inputs, tuple(module.normalized_shape), eps=module.eps)
    shape = (len(inputs), -1, module.weight.numel())
    return _affine(normal.reshape(shape).mT, slopes.reshape(shape).mT, minibatch)


def _affine(normal: Tensor, slopes: Tensor, minibatch: int) -> dict[str, Rows]:
    """Scale and shift after a normalisation, of (n, channels, ...) values."""
    sums = {
        name: gather(products.reshape(*products.shape[:2], -1).sum(2), minibatch).sum(1)
        for name, products in (("weight", normal * slopes), ("bias", slopes))
    }
    return dict(sums)


_LAYERS: list[tuple[tuple[type[nn.Module], ...], Callable[..., dict[str, Rows]]]] = [
    ((nn.Linear,), _linear),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    ((nn.modules.batchnorm._BatchNorm,), _batch_norm),
    ((nn.GroupNorm,), _group_norm),
    ((nn.LayerNorm,), _layer_norm),
]


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products are float32 products: no TensorFloat-32, whose 10 bits would be the whole residual."""
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(previous)


@dataclass(frozen=True)
class _Call:
    module: nn.Module
    inputs: Tensor
    outputs_shape: torch.Size
    edge: Any


class Recorder:
    """Rows of gradients of a model's parameters, a batch of examples at a time.

    Args:
        model: whose parameters.
        examples: the first few are used to check that the rows are right.
        minibatch: examples in a row.

    Attributes:
        outer: (out, in, positions of one example) of every weight whose row is one `Outer` without groups.
        biases: the bias of every weight that shares its one call of a layer.
        generic: parameters that are differentiated example by example.
        bytes_per_example: what a pass holds for each example of a batch.
        operations_per_example: floating-point operations of a pass for each example.

    Raises:
        RepairError: if the examples influence each other, or a parameter can be differentiated in no way.
    """

    def __init__(self, model: TrainedModel, examples: Examples, minibatch: int = 1) -> None:
        if not len(examples):
            raise RepairError("curvature was asked for of no examples: give at least one")
        self.model = model
        self.minibatch = minibatch
        names = {id(parameter): name for name, parameter in model.parameters.items()}
        self._owners: dict[nn.Module, dict[str, str]] = {}
        for path, module in model.network.named_modules():
            owned = {
                slot: names[id(parameter)]
                for slot, parameter in module.named_parameters(recurse=False)
                if id(parameter) in names
            }
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
                raise RepairError(
                    f"layer {path} normalises by the statistics of the batch, so examples influence each other: "
                    "curvature needs a network that treats examples one by one in eval mode"
                )
            known = any(isinstance(module, kinds) for kinds, _ in _LAYERS)
            if owned and known:
                self._owners[module] = owned
        self.outer: dict[str, tuple[int, int, int]] = {}
        self.biases: dict[str, str] = {}
        self.generic: list[str] = []
        self.bytes_per_example = 0
        self.operations_per_example = 0.0
        with full_precision():
            self._probe(examples)

    @property
    def batch_size(self) -> int:
        """Examples in a pass: whole rows, and so few that a pass holds about `BATCH_BYTES`."""
        fitting = min(self.model.batch_size, max(1, BATCH_BYTES // self.bytes_per_example))
        return max(1, fitting // self.minibatch) * self.minibatch

    def batches(
        self, examples: Examples, names: set[str]
    ) -> Iterator[tuple[slice, Iterator[tuple[str, Rows]]]]:
        """For each batch, in order: which rows it makes, and these parameters with their gradients.

        Each parameter comes once, one after the other, so that only one need be in memory.
        """
        for positions, inputs, targets in examples.batches(
            self.batch_size, device=self.model.device, dtype=self.model.dtype
        ):
            start = positions.start // self.minibatch
            rows = slice(start, start + -(-len(inputs) // self.minibatch))
            with full_precision():
                yield (
                    rows,
                    self._record(
                        inputs, targets, names, self.minibatch, self.model.likelihood.log_likelihood
                    ),
                )

    def _record(
        self, inputs: Tensor, targets: Tensor, names: set[str], minibatch: int, objective: Objective
    ) -> Iterator[tuple[str, Rows]]:
        """These parameters with their rows of a batch: gradients of an objective, one number an example."""
        remaining = set(names)
        modules = [module for module, owned in self._owners.items() if names & set(owned.values())]
        with _calls(modules) as calls:
            values = objective(self.model.network(inputs), targets)
        edges = [call.edge for call in calls]
        slopes = torch.autograd.grad(values.sum(), edges, allow_unused=True) if edges else ()
        uses = Counter(name for call in calls for name in self._owners[call.module].values())
        shared: dict[str, Tensor] = {}
        for call, slope in zip(calls, slopes, strict=True):
            if slope is None:
                continue
            layer = next(layer for kinds, layer in _LAYERS if isinstance(call.module, kinds))
            for slot, value in layer(call.module, call.inputs, slope.detach(), minibatch).items():
                name = self._owners[call.module].get(slot)
                if name not in names:
                    continue
                if uses[name] > 1:
                    shared[name] = dense(value) + shared.get(name, 0)
                else:
                    remaining.discard(name)
                    yield name, value
        yield from shared.items()
        generic = [name for name in self.generic if name in names]
        if generic:
            for name, gradients in self._differentiate(generic, inputs, targets, objective).items():
                yield name, gather(gradients.detach().flatten(1), minibatch).sum(1)
        for name in remaining - set(shared) - set(generic):
            count = -(-len(inputs) // minibatch)
            yield name, inputs.new_zeros(count, self.model.parameters[name].numel())

    def _differentiate(
        self, names: list[str], inputs: Tensor, targets: Tensor, objective: Objective
    ) -> dict[str, Tensor]:
        """(n, *shape) gradients of each example by parameters that no known layer owns."""
        values = {name: self.model.parameters[name].detach() for name in names}

        def single(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            outputs = functional_call(self.model.network, values, (x.unsqueeze(0),))
            return objective(outputs, y.unsqueeze(0)).squeeze(0)

        try:
            gradients: dict[str, Tensor] = vmap(grad(single), in_dims=(None, 0, 0))(values, inputs, targets)
        except (RuntimeError, ValueError) as error:
            raise RepairError(
                f"the gradients of single examples by {', '.join(names)} cannot be computed: no layer of a known "
                f"kind owns these parameters, and torch.func cannot differentiate them either ({error}); "
                "freeze them with requires_grad_(False), or use a curvature that needs no such gradients: cg"
            ) from error
        return gradients

    def _probe(self, examples: Examples) -> None:
        """Find out how the rows of each parameter are made, and check them against a weighted backward pass."""
        count = min(PROBE_EXAMPLES, len(examples))
        inputs, targets = examples.batch(slice(0, count), device=self.model.device, dtype=self.model.dtype)
        parameters = self.model.parameters
        weights = torch.arange(1, count + 1, device=inputs.device, dtype=inputs.dtype).sin()
        with _saved_bytes(parameters) as saved, _calls(list(self._owners)) as calls:
            outputs = self.model.network(inputs)
        # Any function of the outputs will do; log-likelihoods of a confident model would have no slope to see.
        slopes = torch.arange(1, outputs[0].numel() + 1, device=outputs.device, dtype=outputs.dtype).cos()

        def objective(outputs: Tensor, targets: Tensor) -> Tensor:
            return outputs.flatten(1) @ slopes

        sums = torch.autograd.grad(
            weights @ objective(outputs, targets), list(parameters.values()), allow_unused=True
        )
        expected = {name: value for name, value in zip(parameters, sums, strict=True) if value is not None}
        per_example = {name: True for owned in self._owners.values() for name in owned.values()}
        for call in calls:
            for name in self._owners[call.module].values():
                per_example[name] &= _is_per_example(call, count)
        known = {name for name in expected if per_example.get(name, False)}
        self._keep(known)
        uses = Counter(name for call in calls for name in self._owners[call.module].values())
        for owned in self._owners.values():
            if len(owned) == 2 and all(uses[name] == 1 for name in owned.values()):
                self.biases[owned["weight"]] = owned["bias"]

        def wrong_among(names: set[str]) -> set[str]:
            rows = self._record(inputs, targets, names, 1, objective)
            return self._check(rows, weights, {name: expected[name] for name in names})

        known -= wrong_among(known)
        self._keep(known)
        self.generic = [name for name in expected if name not in known]
        if wrong := wrong_among(set(self.generic)):
            raise RepairError(
                f"the gradient of a batch by {', '.join(sorted(wrong))} is not the sum over its examples one by "
                "one, so examples influence each other: curvature needs a network that treats examples one by one "
                "in eval mode"
            )
        received = {call.inputs.data_ptr(): call.inputs.numel() for call in calls}
        sent = sum(call.outputs_shape.numel() for call in calls)
        recorded = (sum(received.values()) + sent) * inputs.element_size()
        # The forward pass keeps what is saved; after the backward pass, what was recorded is worked up.
        self.bytes_per_example = max(sum(saved) // count, recorded // count + self.bytes_per_example)
        if self.generic:
            rows = sum(parameters[name].numel() for name in self.generic) * inputs.element_size()
            self.bytes_per_example += 2 * sum(saved) // count + rows

    def _keep(self, names: set[str]) -> None:
        """Let the layers record these parameters only."""
        owners = {
            module: {slot: name for slot, name in owned.items() if name in names}
            for module, owned in self._owners.items()
        }
        self._owners = {module: owned for module, owned in owners.items() if owned}
        self.outer = {name: sizes for name, sizes in self.outer.items() if name in names}
        self.biases = {
            weight: bias for weight, bias in self.biases.items() if weight in names and bias in names
        }

    def _check(
        self, recorded: Iterator[tuple[str, Rows]], weights: Tensor, expected: dict[str, Tensor]
    ) -> set[str]:
        """Which parameters' rows do not sum to the weighted gradient; notes shapes and sizes on the way."""
        tolerance = torch.finfo(weights.dtype).eps ** 0.5
        wrong = set()
        for name, rows in recorded:
            values = dense(rows)
            error = torch.linalg.vector_norm(weights @ values - expected[name].flatten())
            if not error <= tolerance * torch.linalg.vector_norm(weights.unsqueeze(1) * values):
                wrong.add(name)
            size = values[0].numel()
            if isinstance(rows, Outer):
                size = rows.left[0].numel() + rows.right[0].numel()
                # Products of the forward pass, of the backward pass, and of the rows.
                self.operations_per_example += 6 * rows.left[0].numel() * rows.right.shape[2]
                if rows.left.shape[1] == 1:
                    self.outer[name] = (rows.left.shape[2], rows.right.shape[2], rows.left.shape[3])
            self.bytes_per_example = max(self.bytes_per_example, size * values.element_size())
        return wrong


def _is_per_example(call: _Call, count: int) -> bool:
    """Whether the first axis of what a layer saw can be that of the examples."""
    return call.edge is not None and len(call.inputs) == count and call.outputs_shape[0] == count


@contextlib.contextmanager
def _calls(modules: list[nn.Module]) -> Iterator[list[_Call]]:
    """Note every call of these modules while the block runs."""
    calls: list[_Call] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        inputs = args[0] if args else next(iter(kwargs.values()))
        # The edge stands for the output as it is now, also if the network then overwrites it in place.
        edge = get_gradient_edge(outputs) if outputs.requires_grad else None
        calls.append(_Call(module, inputs.detach(), outputs.shape, edge))

    handles = [module.register_forward_hook(note, with_kwargs=True) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _saved_bytes(parameters: dict[str, nn.Parameter]) -> Iterator[list[int]]:
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
