"""Every example's gradient at once: one forward and one backward pass of a batch, watched layer by layer.

Parameters that no layer of a known kind owns are differentiated example by example with `torch.func`. A probe on a
few examples compares everything with autograd before anything expensive runs.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge, saved_tensors_hooks
from torch.func import grad, vmap
from tqdm import tqdm

from modelrepair.errors import RepairError
from modelrepair.gradients.rows import Outer, Rows, dense, gather, layer_rows
from modelrepair.models.examples import Examples
from modelrepair.models.precision import full_precision as full_precision
from modelrepair.models.trained_model import TrainedModel

PROBE_EXAMPLES = 8
BATCH_BYTES = 256 * 2**20
SHORT = 3.0
"""Seconds that pass before a pass through the examples shows how far it is."""

Objective = Callable[[Tensor, Tensor], Tensor]


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
        if not model.parameters:
            raise RepairError(
                "the model has no trainable parameters: set requires_grad on those that may change"
            )
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
            if owned and layer_rows(module):
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
        bar = tqdm(total=len(examples), desc="gradients", unit="example", mininterval=1, delay=SHORT)
        for positions, inputs, targets in examples.batches(
            self.batch_size, device=self.model.device, dtype=self.model.dtype
        ):
            start = positions.start // self.minibatch
            rows = slice(start, start + -(-len(inputs) // self.minibatch))
            objective = self.model.likelihood.log_likelihood
            with full_precision():
                yield rows, self._record(inputs, targets, names, self.minibatch, objective)
            bar.update(len(inputs))
        bar.close()

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
            make = layer_rows(call.module)
            if slope is None or make is None:
                continue
            for slot, name in self._owners[call.module].items():
                if name not in names:
                    continue
                value = make(call.module, slot, call.inputs, slope.detach(), minibatch)
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
            yield name, inputs.new_zeros(count, self.model.parameters[name].numel(), dtype=self.model.dtype)

    def _differentiate(
        self, names: list[str], inputs: Tensor, targets: Tensor, objective: Objective
    ) -> dict[str, Tensor]:
        """(n, *shape) gradients of each example by parameters that no known layer owns."""
        values = {name: self.model.parameters[name].detach() for name in names}

        def single(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            outputs = self.model.outputs_at(values, x.unsqueeze(0))
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
        weights = torch.arange(1, count + 1, device=inputs.device, dtype=self.model.dtype).sin()
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
        if not all(bool(torch.isfinite(value).all()) for value in expected.values()):
            raise RepairError(
                f"the gradient of the first {count} examples holds NaN or infinity: check the model and their inputs"
            )
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
                groups, out, features, positions = rows.sizes
                size = groups * (out + features) * positions
                # Products of the forward pass, of the backward pass, and of the rows.
                self.operations_per_example += 6 * groups * out * features * positions
                if groups == 1:
                    self.outer[name] = out, features, positions
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
