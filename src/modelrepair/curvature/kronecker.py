"""KFAC and EKFAC: the empirical Fisher of each layer in the eigenbasis of a Kronecker product.

The gradient by the weight (out, in) of a layer is Σ_p b_p a_pᵀ over its P positions, with inputs a (a 1 appended where
there is a bias) and output gradients b. With A = (1/n) Σᵢₚ aᵢₚaᵢₚᵀ and B = (1/nP) Σᵢₚ bᵢₚbᵢₚᵀ the layer's block of the
Fisher is approximately A ⊗ B (Martens & Grosse 2015; Grosse & Martens 2016 for convolutions), diagonal in the
product of the eigenbases of A and B. EKFAC (George et al. 2018) keeps that basis and measures the diagonal exactly.

In that basis λI is diagonal too, so the damping is exact, not split between the factors.

Parameters without such a product (normalisation layers, grouped convolutions, weights that several layers share)
have their exact diagonal.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from modelrepair.curvature.base import (
    Curvature,
    checked_damping,
    columns,
    dimension,
    load_fit,
    no_options,
    require_finite,
    right_hand_sides,
    save_fit,
)
from modelrepair.curvature.memory import Estimate, after, passed, require_memory
from modelrepair.curvature.operators import REFINEMENTS, RESIDUAL, singular, sound
from modelrepair.curvature.solvers import refined
from modelrepair.gradients.recorder import Recorder
from modelrepair.gradients.rows import Outer, factors, sum_of_squares, weighted_squares
from modelrepair.models.examples import Examples
from modelrepair.models.passes import summed
from modelrepair.models.precision import full_precision
from modelrepair.models.trained_model import TrainedModel


@dataclass(frozen=True)
class _Layer:
    """The block of a weight and, if there is one, the bias after it.

    Attributes:
        names: of the weight and the bias.
        inputs: (in, in) eigenvectors of A, one for the 1 included.
        outputs: (out, out) eigenvectors of B.
        entries: (out, in) the diagonal of M in their product.
    """

    names: list[str]
    inputs: Tensor
    outputs: Tensor
    entries: Tensor

    def rotated(self, rows: Outer) -> Iterator[tuple[slice, Outer]]:
        """A few rows U_BᵀGᵢU_A at a time, and which they are, of rows of the weight's gradient."""
        features = rows.sizes[2]
        for which, part in factors(rows):
            # The last input is the 1 of a bias.
            right = self.inputs[:features].mT @ part.right
            if len(self.names) > 1:
                right += self.inputs[features:].mT
            yield which, Outer(self.outputs.mT @ part.left, right)

    def scaled(self, pieces: dict[str, Tensor], scale: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Pieces (numel, k) of vectors, multiplied in the eigenbasis by a function of the entries."""
        count = pieces[self.names[0]].shape[1]
        matrix = torch.cat([pieces[name].reshape(len(self.outputs), -1, count) for name in self.names], dim=1)
        inputs, outputs = self.inputs.to(matrix.dtype), self.outputs.to(matrix.dtype)
        rotated = torch.einsum("oik,op,iq->pqk", matrix, outputs, inputs)
        rotated = rotated * scale(self.entries.to(matrix.dtype)).unsqueeze(2)
        matrix = torch.einsum("pqk,op,iq->oik", rotated, outputs, inputs)
        features = [pieces[name].shape[0] // len(self.outputs) for name in self.names]
        parts = torch.split(matrix, features, dim=1)
        return {name: part.reshape(-1, count) for name, part in zip(self.names, parts, strict=True)}


class KroneckerFisher(Curvature):
    """KFAC: the diagonal in the product of eigenbases is that of A ⊗ B.

    Attributes:
        residual: the largest ‖F̂x − v‖/‖v‖ over the right-hand sides of the last `solve`, of x in float64; NaN before.
    """

    name = "kfac"
    exact_entries: ClassVar[bool] = False

    def __init__(
        self, model: TrainedModel, examples: Examples, layers: list[_Layer], diagonal: dict[str, Tensor]
    ) -> None:
        self._model = model
        self._examples = examples
        self._layers = layers
        self._diagonal = diagonal
        self.residual = math.nan

    @classmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        """Measure A and B in one pass over the examples; for EKFAC, the diagonal in another.

        Raises:
            RepairError: for a network whose examples influence each other.
        """
        no_options(cls.name, options)
        require_memory(cls.estimate(model, examples), cls.name, model, examples, {})
        recorder = Recorder(model, examples)
        layers, diagonal = _eigenbases(model, examples, recorder)
        if cls.exact_entries:
            layers = _measured(layers, examples, recorder)
        return cls(model, examples, layers, diagonal)

    @classmethod
    def estimate(cls, model: TrainedModel, examples: Examples, **options: Any) -> Estimate:
        no_options(cls.name, options)
        recorder, d = Recorder(model, examples), dimension(model)
        sizes = [(features + 1, out, positions) for out, features, positions in recorder.outer.values()]
        squares = sum(features**2 + out**2 for features, out, _ in sizes)
        products = sum(features * out for features, out, _ in sizes)
        wide = max((max(features, out) ** 2 for features, out, _ in sizes), default=0)
        layer = max((features**2 + out**2 + 7 * features * out for features, out, _ in sizes), default=0)
        size = recorder.footprint.element
        held, touched = recorder.pass_bytes(len(examples))
        bases = size * (squares + products) + size * (d - products)
        moments = [
            # Sums of moments in float64 and those of a batch, or, for EKFAC, the bases and sums of squares.
            8 * (squares + 2 * wide) + passed(held, touched),
            bases + cls.exact_entries * (8 * products + passed(held, touched)),
            # A decomposition takes its matrix, the eigenvectors, and twice as much to work in.
            after(touched, max(8 * squares, bases) + 4 * 8 * wide),
            # Vectors in float64: what is sought, the best answer, its rest, a better one, and that multiplied; and one
            # layer's bases with its part of a vector, turned, turned back, and scaled.
            bases + after(touched, 8 * (5 * d + layer)),
        ]
        batches = sum(2 * positions * (features**2 + out**2) for features, out, positions in sizes)
        cubes = sum(10 * (features**3 + out**3) for features, out, _ in sizes)
        operations = (1 + cls.exact_entries) * recorder.operations_per_example + batches
        return Estimate(max(moments), len(examples) * operations + cubes)

    def damped(self, damping: float) -> Self:
        other = copy.copy(self)
        other.damping, other.residual = checked_damping(damping), math.nan
        return other

    def matvec(self, vector: Tensor) -> Tensor:
        return self._scaled(vector, lambda entries: entries + self.damping)

    def solve(self, vector: Tensor) -> Tensor:
        """F̂⁻¹v in the shape of v; `residual` says how well.

        Eigenvectors in the model's type are orthogonal to its rounding only, and what that lets through from stiff
        directions is divided by λ. So the answer is multiplied by F̂ again in float64, and what is missing solved for.

        Warns:
            RuntimeWarning: if the residual is above 1e-4.

        Raises:
            RepairError: if v is no vector of finite floats as long as θ, or F̂ is singular to working precision; says
                which damping would do.
        """
        wanted = right_hand_sides(vector, self._model).double()
        entries = [*(layer.entries for layer in self._layers), *self._diagonal.values()]
        lowest, largest = min(float(e.min()) for e in entries), max(float(e.max()) for e in entries)
        rounding = torch.finfo(self._model.dtype).eps
        if not lowest + self.damping > rounding * largest:
            raise singular(self.damping, largest, rounding)

        def inverse(vectors: Tensor) -> Tensor:
            return self._scaled(vectors, lambda entries: 1 / (entries + self.damping))

        found = refined(self.matvec, inverse, wanted, tolerance=RESIDUAL, iterations=REFINEMENTS)
        self.residual = sound(found, self.damping, largest, rounding).residual
        return found.vectors.to(vector.dtype).view_as(vector)

    def self_influences(self, model: TrainedModel, examples: Examples) -> Tensor:
        """In the eigenbasis, where F̂⁻¹ is a division, without a gradient written out; see the base.

        Where λ is so small that the rounding of the bases shows, the base's solutions, which mend that, are taken.
        """
        entries = [*(layer.entries for layer in self._layers), *self._diagonal.values()]
        lowest, largest = min(float(e.min()) for e in entries), max(float(e.max()) for e in entries)
        if not (lowest + self.damping) * RESIDUAL > torch.finfo(self._model.dtype).eps * largest:
            return super().self_influences(model, examples)
        total = torch.zeros(len(examples), dtype=torch.float64, device=model.device)
        layers = {layer.names[0]: layer for layer in self._layers}
        recorder = Recorder(model, examples)
        for which, recorded in recorder.batches(examples, {*layers, *self._diagonal}, shared=True):
            for name, rows in recorded:
                found = layers[name].entries if name in layers else self._diagonal[name]
                weights = 1 / (found.double() + self.damping)
                parts = layers[name].rotated(rows) if name in layers else [(slice(None), rows)]  # type: ignore[arg-type]
                for part, rotated in parts:
                    total[which][part] += weighted_squares(rotated, weights)
        summed(total)
        return total

    def save(self, folder: Path) -> None:
        tensors = {f"diagonal/{name}": entries for name, entries in self._diagonal.items()}
        for layer in self._layers:
            for part in ("inputs", "outputs", "entries"):
                tensors[f"{part}/{'/'.join(layer.names)}"] = getattr(layer, part)
        save_fit(folder, self.name, self._model, self._examples, tensors)

    @classmethod
    def load(cls, folder: Path, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        no_options(cls.name, options)
        parts: dict[str, dict[str, Tensor]] = {"diagonal": {}, "inputs": {}, "outputs": {}, "entries": {}}
        for key, tensor in load_fit(folder, cls.name, model, examples).items():
            part, _, names = key.partition("/")
            parts[part][names] = tensor
        layers = [
            _Layer(names.split("/"), inputs, parts["outputs"][names], parts["entries"][names])
            for names, inputs in parts["inputs"].items()
        ]
        return cls(model, examples, layers, parts["diagonal"])

    def _scaled(self, vector: Tensor, scale: Callable[[Tensor], Tensor]) -> Tensor:
        """A vector multiplied in the eigenbasis by a function of the diagonal entries."""
        sizes = {name: parameter.numel() for name, parameter in self._model.parameters.items()}
        parts = torch.split(columns(vector, self._model), list(sizes.values()))
        pieces = dict(zip(sizes, parts, strict=True))
        scaled = {
            name: scale(entries.to(vector.dtype)).unsqueeze(1) * pieces[name]
            for name, entries in self._diagonal.items()
        }
        with full_precision(), torch.no_grad():
            for layer in self._layers:
                scaled |= layer.scaled(pieces, scale)
        return torch.cat([scaled[name] for name in sizes]).view_as(vector)


class EigenvalueCorrectedFisher(KroneckerFisher):
    """EKFAC: the diagonal in the product of eigenbases is measured exactly."""

    name = "ekfac"
    exact_entries = True


def _eigenbases(
    model: TrainedModel, examples: Examples, recorder: Recorder
) -> tuple[list[_Layer], dict[str, Tensor]]:
    """Eigenvectors of A and B of every layer, their products as entries, and the diagonal of all the rest."""
    biases = {weight: recorder.biases.get(weight) for weight in recorder.outer}
    sums: dict[str, Tensor] = {}
    for name, parameter in model.parameters.items():
        if name in biases:
            out, features, _ = recorder.outer[name]
            inputs = features + (biases[name] is not None)
            shapes: dict[str, tuple[int, ...]] = {"inputs": (inputs, inputs), "outputs": (out, out)}
        else:
            shapes = {} if name in biases.values() else {"diagonal": (parameter.numel(),)}
        for part, shape in shapes.items():
            sums[f"{part}/{name}"] = parameter.new_zeros(shape, dtype=torch.float64)
    for _, recorded in recorder.batches(examples, set(model.parameters), shared=True):
        for name, rows in recorded:
            if name in biases and isinstance(rows, Outer):
                moments = _second_moments(rows, bias=biases[name] is not None)
            elif name in biases.values():
                continue
            else:
                moments = {"diagonal": sum_of_squares(rows)}
            for part, moment in moments.items():
                sums[f"{part}/{name}"] += moment
    summed(*sums.values())
    require_finite("of Kronecker factors", sums.values())
    layers = []
    for name, (_, _, positions) in recorder.outer.items():
        bias = biases[name]
        values_a, vectors_a = torch.linalg.eigh(sums.pop(f"inputs/{name}").div_(len(examples)))
        values_b, vectors_b = torch.linalg.eigh(sums.pop(f"outputs/{name}").div_(len(examples) * positions))
        entries = torch.outer(values_b.clamp_min(0), values_a.clamp_min(0))
        names = [name, bias] if bias else [name]
        layers.append(
            _Layer(names, *(t.to(model.dtype).contiguous() for t in (vectors_a, vectors_b, entries)))
        )
    covered = {name for layer in layers for name in layer.names}
    diagonal = {
        name: (sums[f"diagonal/{name}"] / len(examples)).to(model.dtype)
        for name in model.parameters
        if name not in covered
    }
    return layers, diagonal


def _measured(layers: list[_Layer], examples: Examples, recorder: Recorder) -> list[_Layer]:
    """The same bases with entries (1/n) Σᵢ (U_Bᵀ Gᵢ U_A)² (George et al. 2018, Eq. 8)."""
    by_name = {layer.names[0]: layer for layer in layers}
    sums = {name: torch.zeros_like(layer.entries, dtype=torch.float64) for name, layer in by_name.items()}
    for _, recorded in recorder.batches(examples, set(by_name), shared=True):
        for name, rows in recorded:
            if isinstance(rows, Outer):
                for _, rotated in by_name[name].rotated(rows):
                    sums[name] += sum_of_squares(rotated).view_as(by_name[name].entries)
    summed(*sums.values())
    return [replace(by_name[n], entries=(s / len(examples)).to(by_name[n].entries)) for n, s in sums.items()]


def _second_moments(rows: Outer, bias: bool) -> dict[str, Tensor]:
    """Σᵢₚ aaᵀ of the inputs, with a 1 appended to each if there is a bias, and Σᵢₚ bbᵀ of the slopes, in float64."""
    _, out, features, _ = rows.sizes
    inputs = rows.like.new_zeros(features + bias, features + bias, dtype=torch.float64)
    outputs = rows.like.new_zeros(out, out, dtype=torch.float64)
    for _, part in factors(rows):
        left, right = (factor[:, 0].transpose(0, 1).flatten(1) for factor in (part.left, part.right))
        outputs += left @ left.mT
        inputs[:features, :features] += right @ right.mT
        if bias:
            inputs[features, :features] += right.sum(1)
            inputs[features, features] += right.shape[1]
    if bias:
        inputs[:features, features] = inputs[features, :features]
    return {"inputs": inputs, "outputs": outputs}
