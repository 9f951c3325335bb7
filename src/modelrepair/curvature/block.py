"""The block-diagonal empirical Fisher: exact within blocks of θ, zero between them."""

from __future__ import annotations

import bisect
import copy
import itertools
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
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
from modelrepair.curvature.memory import Estimate, after, passed, require_memory
from modelrepair.curvature.operators import Direct, LowRank
from modelrepair.errors import RepairError
from modelrepair.gradients.collected import DEFAULT_MEMORY, OPTIONS, Gradients, Layout
from modelrepair.gradients.pieces import Dense, Piece, add_gram, symmetrised, times, transposed_times, write
from modelrepair.models.examples import Examples
from modelrepair.models.passes import summed
from modelrepair.models.trained_model import TrainedModel


class BlockFisher(Curvature):
    """M = (1/n) Σᵢ gᵢgᵢᵀ within blocks of consecutive parameters (Peste et al. 2021, section 4).

    A block of p parameters is held and solved as its p × p matrix, or, if it has more parameters than there
    are rows of gradients, through its Gram matrix.
    """

    name = "block"

    def __init__(
        self,
        model: TrainedModel,
        examples: Examples,
        minibatch: int,
        bounds: list[int],
        operators: list[Direct | LowRank],
    ) -> None:
        self._model = model
        self._examples = examples
        self._minibatch = minibatch
        self._bounds = bounds
        self._sizes = _sizes(bounds)
        self._operators = operators

    @property
    def residual(self) -> float:
        """The largest ‖F̂x − v‖/‖v‖ over the blocks and right-hand sides of the last `solve`; NaN before."""
        return max(operator.residual for operator in self._operators)

    @classmethod
    def fit(
        cls,
        model: TrainedModel,
        examples: Examples,
        *,
        block_size: int | None = None,
        minibatch: int = 1,
        memory: int = DEFAULT_MEMORY,
        scratch: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Measure the blocks.

        Args:
            model: at θ̂.
            examples: n of them.
            block_size: parameters in a block, the last one ragged; None makes each layer a block.
            minibatch: examples whose gradients are summed into one row, as in `GramFisher.fit`.
            memory: bytes that gradients may take.
            scratch: an existing folder on a disk where the rest of them is kept instead.

        Raises:
            RepairError: for a network whose examples influence each other, or that does not fit into memory.
        """
        no_options(cls.name, options)
        if block_size is not None and block_size < 1:
            raise RepairError(f"block_size is {block_size}: give at least 1, or null for a block a layer")
        how: dict[str, Any] = {"minibatch": minibatch, "memory": memory, "scratch": scratch}
        bounds = _bounds(model, block_size)
        gradients = Gradients(model, examples, cuts=bounds[1:-1], **how)
        require_memory(_estimate(gradients, bounds), cls.name, model, examples, how)
        matrices = _direct(model, examples, gradients, bounds)
        operators = _operators(gradients, len(examples), bounds, matrices)
        require_finite(cls.name, (o.matrix if isinstance(o, Direct) else o.gram for o in operators))
        return cls(model, examples, minibatch, bounds, operators)

    @classmethod
    def estimate(
        cls, model: TrainedModel, examples: Examples, *, block_size: int | None = None, **options: Any
    ) -> Estimate:
        no_options(cls.name, {key: value for key, value in options.items() if key not in OPTIONS})
        bounds = _bounds(model, block_size)
        return _estimate(Gradients(model, examples, cuts=bounds[1:-1], **options), bounds)

    def damped(self, damping: float) -> Self:
        if checked_damping(damping) == self.damping:
            return self
        other = copy.copy(self)
        other.damping = float(damping)
        other._operators = [operator.damped(other.damping) for operator in self._operators]
        return other

    def matvec(self, vector: Tensor) -> Tensor:
        parts = torch.split(columns(vector, self._model), self._sizes)
        products = [o.matvec(part) for o, part in zip(self._operators, parts, strict=True)]
        return torch.cat(products).view_as(vector)

    def solve(self, vector: Tensor) -> Tensor:
        parts = torch.split(right_hand_sides(vector, self._model), self._sizes)
        solutions = [o.solve(part) for o, part in zip(self._operators, parts, strict=True)]
        return torch.cat(solutions).to(vector.dtype).view_as(vector)

    def save(self, folder: Path) -> None:
        tensors = {
            f"{'direct' if isinstance(operator, Direct) else 'gram'}.{start}": (
                operator.matrix if isinstance(operator, Direct) else operator.gram
            )
            for start, operator in zip(self._bounds[:-1], self._operators, strict=True)
        }
        tensors |= {"bounds": torch.tensor(self._bounds), "minibatch": torch.tensor(self._minibatch)}
        save_fit(folder, self.name, self._model, self._examples, tensors)

    @classmethod
    def load(
        cls,
        folder: Path,
        model: TrainedModel,
        examples: Examples,
        *,
        memory: int = DEFAULT_MEMORY,
        scratch: str | Path | None = None,
        **options: Any,
    ) -> Self:
        no_options(cls.name, options)
        tensors = load_fit(folder, cls.name, model, examples)
        bounds, minibatch = tensors["bounds"].tolist(), int(tensors["minibatch"])
        gradients = Gradients(
            model, examples, minibatch=minibatch, memory=memory, scratch=scratch, cuts=bounds[1:-1]
        )
        operators = _operators(gradients, len(examples), bounds, tensors)
        return cls(model, examples, minibatch, bounds, operators)


def _bounds(model: TrainedModel, block_size: int | None) -> list[int]:
    """0, where each block ends, d."""
    sizes = {name: p.numel() for name, p in model.parameters.items()}
    if block_size is not None:
        dimension = sum(sizes.values())
        return [*range(0, dimension, block_size), dimension]
    layers = itertools.groupby(sizes.items(), key=lambda item: item[0].rpartition(".")[0])
    return [0, *itertools.accumulate(sum(size for _, size in members) for _, members in layers)]


def _sizes(bounds: list[int]) -> list[int]:
    return [stop - start for start, stop in itertools.pairwise(bounds)]


def _direct(
    model: TrainedModel, examples: Examples, gradients: Gradients, bounds: list[int]
) -> dict[str, Tensor]:
    """(p, p) M of every block with no more parameters than rows, by name, from one pass over the examples.

    In float64: unlike a Gram matrix of rows, M itself loses what is smaller than its largest entry's rounding, and that
    is where the damping counts.
    """
    blocks = [
        slice(start, stop) for start, stop in itertools.pairwise(bounds) if stop - start <= gradients.rows
    ]
    sums = [gradients.like.new_zeros(b.stop - b.start, b.stop - b.start, dtype=torch.float64) for b in blocks]
    touched = {
        name: [index for index, b in enumerate(blocks) if b.start < own.stop and own.start < b.stop]
        for name, own in gradients.columns.items()
    }
    names = {name for name, indices in touched.items() if indices}
    for rows, recorded in gradients.recorder.batches(examples, names, shared=True) if names else ():
        count = rows.stop - rows.start
        parts = [Dense(block, count, gradients.like) for block in blocks]
        for name, values in recorded:
            touching: list[Piece] = [parts[index] for index in touched[name]]
            write(touching, slice(0, count), gradients.columns[name], values)
        for matrix, part in zip(sums, parts, strict=True):
            values = part.values.double()
            matrix.addmm_(values.mT, values)
        # Before the next ones are made.
        del parts, part, values
    summed(*sums)
    return {
        f"direct.{block.start}": matrix.div_(len(examples))
        for block, matrix in zip(blocks, sums, strict=True)
    }


def _operators(
    gradients: Gradients, count: int, bounds: list[int], matrices: dict[str, Tensor]
) -> list[Direct | LowRank]:
    """The operator of each block, from the matrices at hand; missing Gram matrices are computed.

    Raises:
        RepairError: if the gradients of the blocks that need them do not fit into memory.
    """
    layouts = _wide(gradients, bounds)
    if not gradients.fits(layouts):
        needed = sum(map(gradients.size, layouts)) / 2**30
        raise RepairError(
            f"the gradients of blocks that are wider than the {gradients.rows} rows take {needed:.1f} GiB, more than "
            "the option memory allows: raise it, name a scratch folder, use mini-batch gradients (minibatch: 10) or "
            "smaller blocks, or the curvature gram, which can do without them"
        )

    @cache
    def pieces() -> dict[int, list[Piece]]:
        """Those of each block, by its start."""
        blocks: dict[int, list[Piece]] = {}
        for piece in gradients.filled(layouts):
            blocks.setdefault(bounds[bisect.bisect_right(bounds, piece.columns.start) - 1], []).append(piece)
        return blocks

    def gram(start: int, dtype: torch.dtype) -> Tensor:
        total = gradients.like.new_zeros(gradients.rows, gradients.rows, dtype=dtype)
        add_gram(pieces()[start], total)
        summed(total)
        return symmetrised(total)

    def operator(start: int) -> Direct | LowRank:
        if f"direct.{start}" in matrices:
            return Direct(matrices[f"direct.{start}"])
        key = f"gram.{start}"
        return LowRank(
            lambda vectors: times(pieces()[start], vectors),
            lambda weights: transposed_times(pieces()[start], weights),
            matrices[key] if key in matrices else gram(start, gradients.like.dtype),
            lambda: gram(start, torch.float64),
            count,
        )

    return [operator(start) for start in bounds[:-1]]


def _wide(gradients: Gradients, bounds: list[int]) -> list[Layout]:
    """The pieces of the blocks that are held through their Gram matrix."""
    sizes = _sizes(bounds)
    return [
        layout
        for layout in gradients.layouts
        if sizes[bisect.bisect_right(bounds, layout.columns.start) - 1] > gradients.rows
    ]


def _estimate(gradients: Gradients, bounds: list[int]) -> Estimate:
    """Of a fit, its matrices, and their Cholesky factors, all of which a solve keeps."""
    layouts, rows, size = _wide(gradients, bounds), gradients.rows, gradients.like.element_size()
    narrow = [size for size in _sizes(bounds) if size <= rows]
    wide = [size for size in _sizes(bounds) if size > rows]
    matrices, factors = 8 * sum(p**2 for p in narrow), 8 * sum(p**2 for p in narrow)
    grams = len(wide) * rows**2
    filling, touched = gradients.bytes_filling()
    batch = min(gradients.recorder.batch_size, rows)
    # The rows of a batch within the blocks, and of one of them in float64.
    direct = batch * (size * sum(narrow) + 8 * max(narrow, default=0))
    held = gradients.bytes_held(layouts) if layouts else 0
    # Vectors in float64, of the widest block and of all answers.
    solving = 8 * grams + factors + 8 * (3 * max(_sizes(bounds)) + bounds[-1])
    moments = [matrices + passed(filling + direct, touched + direct)]
    if layouts:
        held += size * grams
        moments.append(matrices + held + max(passed(filling, touched), gradients.bytes_pairing(layouts)))
        solving += gradients.bytes_applying(layouts)
    moments.append(matrices + held + after(touched, solving))
    operations = gradients.operations(layouts) + len(wide) * rows**3 / 3
    operations += sum(2 * rows * p**2 + p**3 / 3 for p in narrow)
    return Estimate(max(moments), operations)
