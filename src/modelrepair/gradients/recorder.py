"""Every example's gradient at once: one forward and one backward pass of a batch, watched layer by layer.

Parameters that no layer of a known kind owns, or whose layers see something else than the examples one after the
other, are differentiated example by example: with `torch.func`, or, where it cannot map the network, in a loop.

A probe on a few examples finds out which way each parameter goes, and compares everything with a weighted backward
pass. If `torch.func` can map the network over examples, the layers that run do not depend on their values, and the
probe speaks for all of them. If it cannot, as for experts that only some examples reach, or if the network picks
examples by index, every batch is compared in the same way.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from tqdm import tqdm

from modelrepair.errors import RepairError
from modelrepair.gradients.footprint import Footprint
from modelrepair.gradients.rows import (
    WORKING_BYTES,
    Outer,
    Rows,
    all_finite,
    dense,
    gather,
    layer_rows,
    written_out,
)
from modelrepair.gradients.watching import Allocations, Operations, Use, calls, saved_bytes
from modelrepair.models.differentiable import ExactDerivatives, backward_passes, plain_kernels
from modelrepair.models.examples import Examples
from modelrepair.models.passes import at_a_time, own
from modelrepair.models.precision import full_precision
from modelrepair.models.probe import influence, refuse_batchwise_layers, run_alone, same_outputs
from modelrepair.models.trained_model import TrainedModel

PROBE_EXAMPLES = 8
BATCH_BYTES = 256 * 2**20
SHORT = 3.0
"""Seconds that pass before a pass through the examples shows how far it is."""
GOLDEN = (5**0.5 - 1) / 2
Objective = Callable[[Tensor, Tensor], Tensor]


class Recorder:
    """Rows of gradients of a model's parameters, a batch of examples at a time.

    Args:
        model: whose parameters.
        examples: a few of them, spread over all, are used to find out how the rows are made.
        minibatch: examples in a row.

    Attributes:
        outer: (out, in, positions of one example) of every weight whose row is one `Outer` without groups in every
            batch; none if what layers see may depend on the examples' values.
        biases: the bias of every weight in `outer` that shares its one call of a layer.
        footprint: what passes hold for each example of a batch.
        operations_per_example: floating-point operations of a pass for each example.

    Raises:
        RepairError: if the examples influence each other, gradients are not finite, or a parameter can be
            differentiated in no way; later, if a batch shows what the probe did not.
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
        refuse_batchwise_layers(model.network)
        names = {id(parameter): name for name, parameter in model.parameters.items()}
        self._owners: dict[nn.Module, dict[str, str]] = {}
        for path, module in model.network.named_modules():
            if getattr(module, "sparse", False):
                raise RepairError(
                    f"layer {path} ({type(module).__name__}) has sparse gradients, which curvatures cannot use: "
                    "set its attribute sparse to False"
                )
            owned = {
                slot: names[id(parameter)]
                for slot, parameter in module.named_parameters(recurse=False)
                if id(parameter) in names and slot in ("weight", "bias")
            }
            if owned and layer_rows(module):
                self._owners[module] = owned
        self.outer: dict[str, tuple[int, int, int]] = {}
        self.biases: dict[str, str] = {}
        self.footprint = Footprint(model.parameter_vector.element_size())
        self.operations_per_example = 0.0
        # Those whose rows come from their layers, and those that are differentiated example by example.
        self._known: set[str] = set()
        self._single: set[str] = set()
        self._static = self._mappable = True
        self._picks = False
        # How layers used each parameter whose rows come from them.
        self._kinds: dict[str, list[Any]] = {}
        with full_precision():
            self._probe(examples)

    def pass_bytes(self, count: int) -> tuple[int, int]:
        """What passes over so many examples hold at the worst moment, and what each frees again in all."""
        batch = min(count, self.batch_size)
        working = at_a_time(self.model.device, WORKING_BYTES)
        return batch * self.footprint.held + working, batch * self.footprint.touched + working

    @property
    def batch_size(self) -> int:
        """Examples in a pass: whole rows, and so few that a pass on a CPU holds about `BATCH_BYTES`."""
        held = at_a_time(self.model.device, BATCH_BYTES)
        fitting = min(self.model.batch_size, max(1, held // self.footprint.held))
        return max(1, fitting // self.minibatch) * self.minibatch

    def batches(
        self, examples: Examples, names: set[str], *, shared: bool = False
    ) -> Iterator[tuple[slice, Iterator[tuple[str, Rows]]]]:
        """For each batch, in order: which rows it makes, and these parameters with their gradients.

        Each parameter comes once, one after the other, so that only one need be in memory.

        Args:
            examples: that are gone through.
            names: of the parameters.
            shared: among processes that work together, as in `Examples.batches`.
        """
        count = len(own(range(len(examples)))) if shared else len(examples)
        bar = tqdm(total=count, desc="gradients", unit="example", mininterval=1, delay=SHORT)
        record = self._compared if self._picks or not self._static else self._recorded
        objective = self.model.log_likelihood
        for positions, inputs, targets in examples.batches(
            self.batch_size, device=self.model.device, dtype=self.model.dtype, shared=shared
        ):
            start = positions.start // self.minibatch
            rows = slice(start, start + -(-len(inputs) // self.minibatch))
            with full_precision():
                yield rows, record(inputs, targets, names, self.minibatch, objective)
            bar.update(len(inputs))
        bar.close()

    def _recorded(
        self, inputs: Tensor, targets: Tensor, names: set[str], minibatch: int, objective: Objective
    ) -> Iterator[tuple[str, Rows]]:
        """These parameters with their rows of a batch, each in the way that the probe found for it."""
        known, single = names & self._known, names & self._single
        uses = self._watch(inputs, targets, known, objective)[0] if known else {}
        found = {name: [use.kind for use in used] for name, used in uses.items()}
        alike = found == {name: self._kinds[name] for name in known}
        if not (alike and all(use.of_examples(len(inputs)) for used in uses.values() for use in used)):
            # The network runs this batch in another way than those that were compared.
            del uses
            yield from self._compared(inputs, targets, names, minibatch, objective)
            return
        for name in list(uses):
            yield name, self._rows(uses.pop(name), minibatch)
        if single:
            yield from self._one_by_one(single, inputs, targets, minibatch, objective)
        for name in names - known - single:
            yield name, self._zeros(name, len(inputs), minibatch)

    def _compared(
        self, inputs: Tensor, targets: Tensor, names: set[str], minibatch: int, objective: Objective
    ) -> Iterator[tuple[str, Rows]]:
        """The same, with the way of each parameter found out and its rows compared with a weighted backward pass.

        Raises:
            RepairError: if the rows do not sum to what the batch as a whole gives, or are not finite.
        """
        count = -(-len(inputs) // minibatch)
        weights = _weights(count).to(inputs.device, self.model.dtype)
        each = weights.repeat_interleave(minibatch)[: len(inputs)]
        uses, sums = self._watch(inputs, targets, names, objective, each)
        # Also of parameters that nobody asked for now.
        largest = max((float(torch.linalg.vector_norm(value)) for value in sums.values()), default=0.0)
        expected = {name: value for name, value in sums.items() if name in names}
        del sums

        def right(name: str, rows: Rows) -> bool:
            error, length = _difference(rows, weights, expected[name].flatten())
            # Gradients that cancel exactly are nothing but rounding, which only the others have a scale for.
            precision = torch.finfo(weights.dtype).eps
            return error <= float(precision**0.5) * (length + float(precision**0.25) * largest)

        single = set(expected)
        for name in list(uses):
            used = uses.pop(name)
            if name in expected and all(use.of_examples(len(inputs)) for use in used):
                rows = self._rows(used, minibatch)
                if right(name, rows):
                    single.discard(name)
                    self._known.add(name)
                    self._kinds[name] = [use.kind for use in used]
                    yield name, rows
        # Whoever asked for these was promised that they come as products.
        broken = single & set(self.outer)
        if broken:
            raise RepairError(
                f"layers use {', '.join(sorted(broken))} in a batch of {len(inputs)} otherwise than in one of "
                f"{PROBE_EXAMPLES}, as where a network works through a batch in parts: give the model a batch_size of "
                f"at most {PROBE_EXAMPLES}"
            )
        wrong = []
        for name, rows in self._one_by_one(single, inputs, targets, minibatch, objective) if single else ():
            if right(name, rows):
                self._single.add(name)
                yield name, rows
            else:
                wrong.append(name)
        if wrong:
            raise influence(
                f"the gradient of a batch by {', '.join(sorted(wrong))} is not the sum over its examples one by one"
            )
        for name in names - set(expected):
            yield name, self._zeros(name, len(inputs), minibatch)

    @backward_passes()
    def _watch(
        self,
        inputs: Tensor,
        targets: Tensor,
        names: set[str],
        objective: Objective,
        weights: Tensor | None = None,
    ) -> tuple[dict[str, list[Use]], dict[str, Tensor]]:
        """Where layers used these parameters in a forward pass of a batch, and how the objective depends on it.

        With weights (n,) also the gradient of the weighted sum by each parameter of the model that it depends on.
        """
        modules = [module for module, owned in self._owners.items() if names & set(owned.values())]
        with calls(modules) as noted:
            values = objective(self._run(inputs), targets)
        uses: dict[str, list[Use]] = {}
        sums: dict[str, Tensor] = {}
        if not values.requires_grad:
            return uses, sums
        noted = [call for call in noted if call.edge is not None]
        slopes = (
            torch.autograd.grad(
                values.sum(), [c.edge for c in noted], allow_unused=True, retain_graph=weights is not None
            )
            if noted
            else ()
        )
        for call, slope in zip(noted, slopes, strict=True):
            if slope is not None:
                for slot, name in self._owners[call.module].items():
                    if name in names:
                        uses.setdefault(name, []).append(Use(call, slot, slope.detach()))
        if weights is not None and names:
            parameters = self.model.parameters
            found = torch.autograd.grad(weights @ values, list(parameters.values()), allow_unused=True)
            sums = {name: value for name, value in zip(parameters, found, strict=True) if value is not None}
        for name, gradient in [*sums.items(), *((n, use.slopes) for n, u in uses.items() for use in u)]:
            _require_finite(gradient, name)
        return uses, sums

    def _rows(self, uses: list[Use], minibatch: int) -> Rows:
        """A parameter's rows from all uses that layers made of it."""
        made = []
        for use in uses:
            make = layer_rows(use.call.module)
            assert make is not None
            made.append(make(use.call.module, use.slot, use.call.inputs, use.slopes, minibatch))
        if len(made) == 1:
            return made[0]
        total = dense(made.pop())
        while made:
            # No more than one use at a time is written out beside the sum.
            total = total.add_(dense(made.pop()))
        return total

    def _zeros(self, name: str, examples: int, minibatch: int) -> Tensor:
        parameter = self.model.parameters[name]
        return parameter.new_zeros(-(-examples // minibatch), parameter.numel())

    def _one_by_one(
        self, names: set[str], inputs: Tensor, targets: Tensor, minibatch: int, objective: Objective
    ) -> Iterator[tuple[str, Tensor]]:
        """These parameters with their rows, from each example's own gradient."""
        gradients = self._mapped(names, inputs, targets, objective) if self._mappable else None
        if gradients is None:
            self._mappable = False
            gradients = self._looped(names, inputs, targets, objective)
        for name in list(gradients):
            gradient = gradients.pop(name)
            _require_finite(gradient, name)
            rows = gradient.detach().reshape(len(inputs), -1)
            del gradient
            yield name, rows if minibatch == 1 else gather(rows, minibatch).sum(1)

    def _mapped(
        self, names: set[str], inputs: Tensor, targets: Tensor, objective: Objective
    ) -> dict[str, Tensor] | None:
        """(n, *shape) gradients of each example with `torch.func`; None if it cannot map this network."""
        values = {name: self.model.parameters[name].detach() for name in names}

        def single(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            outputs = self.model.outputs_at(values, x.unsqueeze(0))
            return objective(outputs, y.unsqueeze(0)).squeeze(0)

        with contextlib.suppress(Exception), _mapping(self.model.network):
            mapped: dict[str, Tensor] = vmap(grad(single), in_dims=(None, 0, 0))(values, inputs, targets)
            return mapped
        return None

    @backward_passes()
    def _looped(
        self, names: set[str], inputs: Tensor, targets: Tensor, objective: Objective
    ) -> dict[str, Tensor]:
        """(n, *shape) gradients of each example from a backward pass of its own."""
        parameters = {name: self.model.parameters[name] for name in names}
        gradients = {name: p.new_zeros(len(inputs), *p.shape) for name, p in parameters.items()}
        for i in range(len(inputs)):
            with ExactDerivatives():
                outputs = run_alone(self.model.network, inputs[i : i + 1])
            values = objective(outputs, targets[i : i + 1])
            if values.requires_grad:
                found = torch.autograd.grad(values.sum(), list(parameters.values()), allow_unused=True)
                for name, gradient in zip(parameters, found, strict=True):
                    if gradient is not None:
                        gradients[name][i] = gradient
        return gradients

    def _run(self, inputs: Tensor) -> Tensor:
        """The network's outputs; it may overwrite its inputs, which others need."""
        return self.model.run(inputs.clone())

    def _probe(self, examples: Examples) -> None:
        """Find out how the rows of each parameter are made, and compare them with a weighted backward pass."""
        # Neither the first ones nor in order: examples may be sorted, and networks may sort them.
        drawn = np.random.default_rng(0).permutation(len(examples))[:PROBE_EXAMPLES]
        inputs, _ = examples.batch(drawn, device=self.model.device, dtype=self.model.dtype)
        operations = Operations()
        with saved_bytes(self.model.parameters) as saved, calls(list(self._owners)) as noted, operations:
            outputs = self._run(inputs)
        self.footprint = Footprint.seen(inputs, self.footprint.element, saved, noted)
        self._static = self._mappable = self._maps(inputs, outputs.detach())
        self._picks = operations.pick
        # Any function of the outputs will do, but one of its own for each example: under the same one, examples whose
        # outputs differ little have gradients that can be exchanged unseen. Log-likelihoods of a confident model have
        # no slope to see.
        slopes = torch.arange(1, outputs.numel() + 1, device=outputs.device, dtype=torch.float32)
        slopes = slopes.cos().to(outputs.dtype).view(len(outputs), -1)

        def objective(outputs: Tensor, slopes: Tensor) -> Tensor:
            return (outputs.flatten(1) * slopes).sum(1)

        for name, rows in self._compared(inputs, slopes, set(self.model.parameters), 1, objective):
            self._note(name, rows)
        if self._static and not self._known | self._single:
            raise RepairError(
                "the outputs of the network depend on none of its trainable parameters: set requires_grad on those "
                "that may change"
            )
        owned = [slots for slots in self._owners.values() if slots.get("weight") in self.outer]
        for slots in owned:
            bias = slots.get("bias")
            if bias in self._known and sum(bias in other.values() for other in self._owners.values()) == 1:
                self.biases[slots["weight"]] = bias
        if self._single:
            sizes = [self.model.parameters[name].numel() for name in self._single]
            # The rows that one is summed into; a ragged row is filled up in a copy.
            summed = max(sizes) if len(examples) % self.minibatch else -(-max(sizes) // self.minibatch)
            self.footprint.single = self._held_one_by_one(inputs, slopes, objective)
            self.footprint.single += summed * self.footprint.element if self.minibatch > 1 else 0

    def _held_one_by_one(self, inputs: Tensor, targets: Tensor, objective: Objective) -> int:
        """Bytes that another example adds where `_one_by_one` holds most."""
        most = []
        for repeats in (1, 2):
            chosen = inputs.repeat(repeats, *[1] * (inputs.ndim - 1)), targets.repeat(repeats, 1)
            with Allocations() as allocations:
                for _ in self._one_by_one(self._single, *chosen, 1, objective):
                    pass
            most.append(max(allocations.course, default=0))
        return max(0, most[1] - most[0]) // len(inputs)

    def _maps(self, inputs: Tensor, outputs: Tensor) -> bool:
        """Whether `torch.func` can map the network over these examples, of which a batch gave these outputs.

        Raises:
            RepairError: if examples alone give other outputs.
        """
        alone = None
        with contextlib.suppress(Exception), _mapping(self.model.network), torch.no_grad():
            alone = vmap(lambda x: self._run(x.unsqueeze(0)).squeeze(0))(inputs)
        if outputs.isnan().any():
            raise RepairError(
                "the output of the network holds NaN or infinity: look for what overflows or divides by 0 in the "
                "network or its inputs"
            )
        mapped = alone is not None
        if alone is None:
            with torch.no_grad():
                alone = torch.cat([run_alone(self.model.network, x) for x in torch.split(inputs, 1)])
        if not same_outputs(outputs, alone):
            raise influence(
                "the network gives other outputs for an example alone than for the same in a batch, because it draws "
                "random numbers or computes with the batch as a whole"
            )
        return mapped

    def _note(self, name: str, rows: Rows) -> None:
        """Keep the shape and the size of a parameter's rows."""
        footprint = self.footprint
        if not isinstance(rows, Outer):
            if name in self._known:
                # What normalisation layers multiply to make them is as large as what they sent on.
                weights = [slopes for _, slot, _, slopes in self._kinds[name] if slot == "weight"]
                sent = max(map(math.prod, weights), default=0)
                held = (rows[0].numel() + 2 * sent) * footprint.element
                footprint.rows = max(footprint.rows, held)
            return
        groups, out, features, positions = rows.sizes
        # Products of the forward pass, of the backward pass, and of the rows.
        self.operations_per_example += 6 * groups * out * features * positions
        if groups == 1 and self._static and not self._picks:
            self.outer[name] = out, features, positions


def _weights(count: int) -> Tensor:
    """(count,) numbers of 0.5 to 1.5 and of both signs, among which any two neighbours are far apart.

    A sum with them tells rows that were exchanged, whether they are neighbours or not.
    """
    numbers = torch.arange(1, count + 1, dtype=torch.float64)
    return (0.5 + numbers * GOLDEN % 1) * (-1) ** numbers


def _difference(rows: Rows, weights: Tensor, expected: Tensor) -> tuple[float, float]:
    """‖Σ wᵣGᵣ − expected‖, and the length ‖(wᵣGᵣ)ᵣ‖ of its terms all together."""
    rest, squares = -expected, weights.new_zeros(())
    for chunk, values in written_out(rows):
        rest += weights[chunk] @ values
        squares += (weights[chunk].square() @ values.square()).sum()
    return float(torch.linalg.vector_norm(rest)), float(squares.sqrt())


def _require_finite(gradient: Tensor, name: str) -> None:
    """Nothing if these numbers are finite, from which gradients by this parameter are made.

    Raises:
        RepairError: if they are not.
    """
    if not all_finite(gradient):
        raise RepairError(
            f"the gradient of some example by {name} holds NaN or infinity: look for what overflows or divides by 0 "
            "in the network or its inputs"
        )


@contextlib.contextmanager
def _mapping(network: nn.Module) -> Iterator[None]:
    """For `vmap` over a network, which warns of every layer that it maps slowly."""
    with warnings.catch_warnings(), plain_kernels(network):
        warnings.simplefilter("ignore")
        yield
