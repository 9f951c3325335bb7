"""The Hessian itself as a matrix, whole or in blocks, for models of a few thousand parameters."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from modelrepair.curvature.base import (
    Curvature,
    checked_damping,
    columns,
    load_fit,
    no_options,
    require_finite,
    right_hand_sides,
    save_fit,
)
from modelrepair.curvature.operators import Direct
from modelrepair.errors import RepairError
from modelrepair.gradients.products import matrix_product
from modelrepair.models.examples import Examples, chosen_positions
from modelrepair.models.trained_model import TrainedModel

PROBES = 128
MEMORY = 2**30


class Hessian(Curvature):
    """M = −(1/n) Σᵢ ∇² log p(yᵢ | xᵢ, θ̂), exactly, within blocks of consecutive parameters and zero between.

    With it a deletion is the influence-function update that single-step sample erasure approximates (Peste et al.
    2021, Eq. 4; Guo et al. 2020). Meant for convex models: there M is positive, and for independent attributes a
    linear model without bias has a Hessian that is block-diagonal by attribute (section 5.1), so that blocks of one
    attribute's weights lose nothing.
    """

    name = "hessian"

    def __init__(
        self, model: TrainedModel, examples: Examples, count: int, bounds: list[int], blocks: list[Direct]
    ) -> None:
        self._model = model
        self._examples = examples
        self._count = count
        self._bounds = bounds
        self._blocks = blocks

    @classmethod
    def fit(
        cls,
        model: TrainedModel,
        examples: Examples,
        *,
        block_size: int | None = None,
        memory: int = MEMORY,
        **options: Any,
    ) -> Self:
        """Measure the blocks, by as many Hessian-vector products as there are parameters.

        Args:
            model: at θ̂, of d parameters.
            examples: n of them.
            block_size: parameters in a block, the last one ragged; None for the whole matrix.
            memory: bytes that the blocks may take, 8 for each entry.

        Raises:
            RepairError: if the blocks do not fit into memory.
        """
        no_options(cls.name, options)
        if not len(examples):
            raise RepairError("curvature was asked for of no examples: give at least one")
        dimension = len(model.parameter_vector)
        size = dimension if block_size is None else block_size
        if size < 1:
            raise RepairError(f"block_size is {size}: give at least 1, or null for the whole matrix")
        bounds = [*range(0, dimension, size), dimension]
        needed = 8 * sum((stop - start) ** 2 for start, stop in itertools.pairwise(bounds))
        if needed > memory:
            raise RepairError(
                f"the Hessian of {dimension} parameters in blocks of {size} takes {needed / 2**30:.1f} GiB, more than "
                "the option memory allows: give a smaller block_size, or use the curvature cg with matrix: hessian"
            )
        matrices = _matrices(model, examples, bounds)
        require_finite(cls.name, matrices)
        blocks = [Direct(matrix) for matrix in matrices]
        return cls(model, examples, len(examples), bounds, blocks)

    def damped(self, damping: float) -> Self:
        other = copy.copy(self)
        other.damping = checked_damping(damping)
        other._blocks = [block.damped(other.damping) for block in self._blocks]
        return other

    def without(self, indices: ArrayLike) -> Self:
        """The Hessian of the examples that are left when those at these positions are removed (H₋S of Eq. 4).

        Costs products on the removed examples alone.

        Raises:
            RepairError: if none are left or a position does not exist.
        """
        total = len(self._examples)
        removed = np.unique(chosen_positions(indices, total))
        if self._count != total:
            raise RepairError("this Hessian has lost examples before: remove all of them at once")
        if not len(removed):
            return copy.copy(self)
        if len(removed) == total:
            raise RepairError(f"without all of its {total} examples the Hessian has none left: remove fewer")
        lost = _matrices(self._model, self._examples.subset(removed), self._bounds)
        other = copy.copy(self)
        other._count = total - len(removed)
        other._blocks = [
            Direct((total * block.matrix - len(removed) * matrix) / other._count, self.damping)
            for block, matrix in zip(self._blocks, lost, strict=True)
        ]
        return other

    def matvec(self, vector: Tensor) -> Tensor:
        parts = zip(self._blocks, self._split(columns(vector, self._model)), strict=True)
        return torch.cat([block.matvec(part) for block, part in parts]).to(vector.dtype).view_as(vector)

    def solve(self, vector: Tensor) -> Tensor:
        parts = zip(self._blocks, self._split(right_hand_sides(vector, self._model)), strict=True)
        try:
            solutions = [block.solve(part) for block, part in parts]
        except RepairError:
            lowest = min(float(torch.linalg.eigvalsh(block.matrix.double())[0]) for block in self._blocks)
            raise RepairError(
                f"the Hessian with damping {self.damping:g} is not positive: its lowest eigenvalue is "
                f"{lowest + self.damping:.1e}, so use a damping above {max(-2 * lowest, 1e-6):.0e}, or the curvature "
                "gram"
            ) from None
        return torch.cat(solutions).to(vector.dtype).view_as(vector)

    def save(self, folder: Path) -> None:
        tensors = {
            f"block.{start}": block.matrix for start, block in zip(self._bounds, self._blocks, strict=False)
        }
        tensors |= {"bounds": torch.tensor(self._bounds), "count": torch.tensor(self._count)}
        save_fit(folder, self.name, self._model, self._examples, tensors)

    @classmethod
    def load(cls, folder: Path, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        no_options(cls.name, options)
        tensors = load_fit(folder, cls.name, model, examples)
        bounds = tensors["bounds"].tolist()
        blocks = [Direct(tensors[f"block.{start}"]) for start in bounds[:-1]]
        return cls(model, examples, int(tensors["count"]), bounds, blocks)

    def _split(self, vectors: Tensor) -> tuple[Tensor, ...]:
        return torch.split(vectors, [stop - start for start, stop in itertools.pairwise(self._bounds)])


def _matrices(model: TrainedModel, examples: Examples, bounds: list[int]) -> list[Tensor]:
    """The (p, p) Hessian of each block in float64, its mean over the examples."""
    # The rounding of products in a narrower type would be divided by the damping.
    model = model.in_dtype(torch.float64)
    dimension, like = bounds[-1], model.parameter_vector
    blocks = [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
    matrices = [like.new_zeros(b.stop - b.start, b.stop - b.start) for b in blocks]
    for first in range(0, dimension, PROBES):
        last = min(first + PROBES, dimension)
        units = torch.arange(last - first, device=like.device)
        probes = like.new_zeros(dimension, last - first)
        probes[first + units, units] = 1
        images = matrix_product("hessian", model, examples, probes)
        for block, matrix in zip(blocks, matrices, strict=True):
            start, stop = max(block.start, first), min(block.stop, last)
            if start < stop:
                columns = slice(start - block.start, stop - block.start)
                matrix[:, columns] = images[block, start - first : stop - first]
    return [(matrix + matrix.mT) / 2 for matrix in matrices]
