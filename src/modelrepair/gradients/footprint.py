"""What passes of a batch through a network take in memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from modelrepair.gradients.products import matrix_product
from modelrepair.gradients.watching import Allocations, Call, calls, saved_bytes
from modelrepair.models.examples import Examples
from modelrepair.models.passes import at_a_time
from modelrepair.models.trained_model import TrainedModel

PROBE_EXAMPLES = 4
PASS_BYTES = 12 * 2**20
"""On a CPU. What glibc keeps of freed memory between what is held grows with it, three- to fourfold, and larger batches
are not faster there: products of LeNet-5, a transformer and a normalised CNN took as long by it as by 64 MiB, in a
third of the memory."""
LEAST_BATCH = 8
"""Of fewer examples, what is done once a batch takes longer than what is done for each."""


@dataclass
class Footprint:
    """Bytes for each example of a batch.

    Attributes:
        element: of one number of the model's type.
        inputs: what the network is given.
        saved: what autograd keeps of a forward pass for the backward pass, without parameters.
        received: what the watched layers received.
        sent: what they sent on, and so the gradients by it.
        between: what they received of operations that are not watched, and so the gradients that a backward pass makes
            of it and frees.
        largest: the largest of what the watched layers received and sent.
        patches: what a convolution meets, cut out, at most.
        rows: the rows of one parameter, at most, as they come from its layer, with what they are made of; without
            products, which are written out a few at a time.
        single: the gradients of all parameters that are differentiated example by example, with what that keeps.
    """

    element: int
    inputs: int = 0
    saved: int = 0
    received: int = 0
    sent: int = 0
    between: int = 0
    largest: int = 0
    patches: int = 0
    rows: int = 0
    single: int = 0

    @classmethod
    def seen(cls, inputs: Tensor, element: int, saved: list[int], noted: list[Call]) -> Self:
        """What a forward pass of these inputs showed: sizes of what was saved, and the calls of layers."""
        count = len(inputs)
        received = {call.inputs.data_ptr(): call.inputs.numel() for call in noted}
        sent = [call.outputs_shape.numel() for call in noted]
        edges = {call.edge for call in noted}
        between = {
            call.inputs.data_ptr(): call.inputs.numel()
            for call in noted
            if call.source is not None and call.source not in edges
        }
        patches = [
            call.outputs_shape[2:].numel() * call.module.weight[0].numel() * call.module.groups
            for call in noted
            if isinstance(call.module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        ]
        return cls(
            element,
            inputs=inputs[0].numel() * inputs.element_size(),
            saved=sum(saved) // count,
            received=sum(received.values()) * element // count,
            sent=sum(sent) * element // count,
            between=sum(between.values()) * element // count,
            largest=max([*received.values(), *sent], default=0) * element // count,
            patches=max(patches, default=0) * element,
        )

    @property
    def _forward(self) -> int:
        # The batch, and the copy of it that the network may change.
        return 2 * self.inputs + self.saved + 2 * self.largest

    @property
    def held(self) -> int:
        """At the worst moment of a pass that makes rows."""
        worked = self.received + self.sent + max(self.rows, 2 * self.largest)
        return max(1, self._forward, 2 * self.inputs + worked, 2 * self.inputs + self.single)

    @property
    def touched(self) -> int:
        """All that a pass allocates and frees one after the other, where nothing freed is used again."""
        return max(self.held, self._forward + self.sent + self.between + self.rows + self.single)

    def small_batch(self, model: TrainedModel) -> int:
        """How many examples, up to the model's batch size, a pass in float64 takes if it is to be small.

        On a CPU it holds about `PASS_BYTES`.
        """
        held = at_a_time(model.device, PASS_BYTES)
        return min(model.batch_size, max(LEAST_BATCH, held // max(1, self.plain(8))))

    def plain(self, element: int) -> int:
        """At the worst moment of a forward and a backward pass in a type of so many bytes a number."""
        # Convolutions in float64 have no kernels on CPUs but products with patches.
        numbers = 2 * self.inputs + self.saved + 2 * self.largest + (self.patches if element == 8 else 0)
        return numbers * element // self.element


def in_small_batches(model: TrainedModel, examples: Examples) -> TrainedModel:
    """The same network, run in batches so small that a pass in float64 holds little.

    Passes in which every operation makes new tensors leave holes between those that others keep, and larger ones the
    larger the batch is.
    """
    other = copy.copy(model)
    other.batch_size = _seen(model, examples).small_batch(model)
    return other


def product_bytes(matrix: str, model: TrainedModel, examples: Examples, batch: int) -> int:
    """What a product of a curvature matrix with a vector holds at the worst moment, by such batches in float64.

    Measured operation by operation on a few examples and on twice as many, which tells what is there for each example
    and what is there anyway.

    Raises:
        RepairError: if a layer cannot be differentiated as the product needs it.
    """
    few = min(PROBE_EXAMPLES, len(examples))
    vector = torch.zeros_like(model.parameter_vector).unsqueeze(1)
    courses = []
    # A first run may make what later ones find there.
    for repeats in (1, 1, 2):
        chosen = examples.subset(np.tile(np.arange(few), repeats))
        with Allocations() as allocations:
            matrix_product(matrix, model, chosen, vector)
        courses.append(allocations.course)
    courses = courses[1:]
    if len(courses[0]) != len(courses[1]):
        # What it does depends on how many examples there are.
        courses = [[max(course)] for course in courses]
    small, large = (np.array(course, dtype=np.float64) for course in courses)
    held = (small + (large - small) * (batch - few) / few).max()
    inputs = batch * chosen.inputs[0].size * model.parameter_vector.element_size()
    return int((held + inputs) * 8 / model.parameter_vector.element_size())


def _seen(model: TrainedModel, examples: Examples) -> Footprint:
    """Of a forward pass of a few examples."""
    inputs, _ = examples.batch(slice(0, PROBE_EXAMPLES), device=model.device, dtype=model.dtype)
    with (
        torch.enable_grad(),
        saved_bytes(model.parameters) as saved,
        calls(list(model.network.modules())) as noted,
    ):
        model.run(inputs.clone())
    return Footprint.seen(inputs, model.parameter_vector.element_size(), saved, noted)
