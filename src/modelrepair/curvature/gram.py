"""The exact full-matrix empirical Fisher, through the inner products of gradients.

With G (rows, d) the gradients and n the number of examples, M = GᵀG/n, and by the Woodbury identity

    F̂⁻¹v = (1/λ) [v − Gᵀ (nλI + GGᵀ)⁻¹ Gv],

the limit that the rank-one recurrence of Peste et al. 2021 (Eq. 7) reaches after n steps, here without a d × d
matrix, without blocks, and without G where its layers' factors do.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature, checked_damping, load_fit, save_fit
from modelrepair.curvature.gradients import DEFAULT_MEMORY, Gradients
from modelrepair.curvature.solvers import Solution, conjugate_gradients
from modelrepair.errors import RepairError
from modelrepair.examples import Examples
from modelrepair.trained_model import TrainedModel

RESIDUAL = 1e-4
REFINEMENTS = 10


class GramFisher(Curvature):
    """M = (1/n) Σᵢ gᵢgᵢᵀ, exactly, as its n × n Gram matrix.

    Attributes:
        residual: max over right-hand sides of ‖F̂x − v‖/‖v‖ that the last `solve` reached; NaN before.
    """

    name = "gram"

    def __init__(
        self, model: TrainedModel, examples: Examples, gradients: Gradients, gram: Tensor, minibatch: int
    ) -> None:
        self._model = model
        self._examples = examples
        self._gradients = gradients
        self._gram = gram
        self._minibatch = minibatch
        self._count = len(examples)
        self._kept: Tensor | None = None
        self._factor: Tensor | None = None
        self._precise = False
        self.residual = float("nan")

    @classmethod
    def fit(
        cls,
        model: TrainedModel,
        examples: Examples,
        *,
        minibatch: int = 1,
        memory: int = DEFAULT_MEMORY,
        scratch: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Measure the Gram matrix of the gradients.

        Args:
            model: at θ̂.
            examples: n of them.
            minibatch: m > 1 makes a row of the sum s of the gradients of m consecutive examples, so that M =
                (1/n) Σ s sᵀ: m times what mean gradients would give, which undoes their shrinking of M by 1/m.
                The Gram matrix is m² times smaller.
            memory: bytes that gradients may take. If they need more, products with F̂ cost a pass over the
                examples each, and the Gram matrix several.
            scratch: an existing folder on a disk where they may be kept instead.

        Raises:
            RepairError: for a network whose examples influence each other, or that does not fit into memory.
        """
        no_options(cls.name, options)
        gradients = Gradients(model, examples, minibatch=minibatch, memory=memory, scratch=scratch)
        return cls(model, examples, gradients, gradients.gram(), minibatch)

    def damped(self, damping: float) -> Self:
        if checked_damping(damping) == self.damping:
            return self
        other = copy.copy(self)
        other.damping, other._factor, other.residual = float(damping), None, float("nan")
        return other

    def without(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Self:
        """The Fisher of the examples that are left when those at these positions are removed.

        M becomes their mean over n − |S|, from the same Gram matrix. With mini-batches, whole ones only.

        Raises:
            RepairError: if none are left, a position does not exist, or a mini-batch would be torn.
        """
        removed = np.unique(np.asarray(indices, dtype=np.int64))
        total = len(self._examples)
        if len(removed) and not (removed[0] >= 0 and removed[-1] < total):
            raise RepairError(f"the Fisher has examples 0 to {total - 1}: it cannot lose {removed[[0, -1]]}")
        left = np.ones(total, dtype=bool)
        left[removed] = False
        if self._kept is not None:
            raise RepairError("this Fisher has lost examples before: call without() on the one fitted to all")
        rows = np.unique(np.flatnonzero(left) // self._minibatch)
        whole = np.isin(np.arange(total) // self._minibatch, rows)
        if not np.array_equal(whole, left):
            raise RepairError(
                f"rows are sums over {self._minibatch} consecutive examples, of which only some were to be "
                "removed: remove whole rows, or fit the Fisher to the examples that are left"
            )
        if not len(rows):
            raise RepairError(f"removing {len(removed)} of {total} examples leaves none: remove fewer")
        other = copy.copy(self)
        other._kept, other._count = torch.from_numpy(rows).to(self._gram.device), int(left.sum())
        other._factor, other.residual = None, float("nan")
        return other

    def matvec(self, vector: Tensor) -> Tensor:
        vectors = vector.reshape(len(vector), -1)
        product = self._transposed_times(self._times(vectors)) / self._count + self.damping * vectors
        return product.view_as(vector)

    def quadratic(self, vector: Tensor) -> Tensor:
        """vᵀF̂v = ‖Gv‖²/n + λ‖v‖²: a scalar for (d,), (k,) for (d, k)."""
        vectors = vector.reshape(len(vector), -1)
        values = self._times(vectors).square().sum(0) / self._count
        values = values + self.damping * vectors.square().sum(0)
        return values.view(vector.shape[1:])

    def solve(self, vector: Tensor) -> Tensor:
        """F̂⁻¹v in the shape of v, refined until the residual ‖F̂x − v‖/‖v‖ is at most 1e-4.

        Where rounding of the Gram matrix spoils the formula's answer, conjugate gradients preconditioned by the
        formula mend it.

        Warns:
            RuntimeWarning: if they stop above that.

        Raises:
            RepairError: if the damping is too small; says which would do.
        """
        found = self._refined(vector)
        if (found is None or found.residual > RESIDUAL) and self._model.dtype != torch.float64 and self.damping:
            self._factor, self._precise = None, True
            found = self._refined(vector)
        if found is None:
            enough = 10 * torch.finfo(self._model.dtype).eps * self._largest()
            raise RepairError(
                f"the Fisher with damping {self.damping:g} is singular to working precision: its largest curvature "
                f"is up to {self._largest():.1e}, so use a damping of {enough:.0e} or more"
            )
        self.residual = found.residual
        if found.residual > RESIDUAL:
            warnings.warn(
                f"F̂x = v was solved to a residual of {found.residual:.1e} only, because the damping "
                f"{self.damping:g} is small beside a largest curvature of up to {self._largest():.1e}: use a larger "
                "damping",
                RuntimeWarning,
                stacklevel=2,
            )
        return found.vectors.to(vector.dtype).view_as(vector)

    def save(self, folder: Path) -> None:
        tensors = {"gram": self._gram, "minibatch": torch.tensor(self._minibatch)}
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
        minibatch = int(tensors["minibatch"])
        gradients = Gradients(model, examples, minibatch=minibatch, memory=memory, scratch=scratch)
        return cls(model, examples, gradients, tensors["gram"], minibatch)

    def _times(self, vectors: Tensor) -> Tensor:
        products = self._gradients.times(vectors)
        return products if self._kept is None else products[self._kept]

    def _transposed_times(self, weights: Tensor) -> Tensor:
        if self._kept is not None:
            weights = weights.new_zeros(self._gradients.rows, weights.shape[1]).index_copy(
                0, self._kept, weights
            )
        return self._gradients.transposed_times(weights)

    def _refined(self, vector: Tensor) -> Solution | None:
        """The formula's answer after refinement, in float64; None if the matrix in it is singular."""
        if not self._factorised():
            return None
        return conjugate_gradients(
            self.matvec,
            vector.reshape(len(vector), -1).double(),
            precondition=self._woodbury,
            tolerance=RESIDUAL,
            iterations=REFINEMENTS,
            patience=2,
        )

    def _woodbury(self, vectors: Tensor) -> Tensor:
        """The formula above."""
        assert self._factor is not None
        correction = self._transposed_times(torch.cholesky_solve(self._times(vectors), self._factor))
        return (vectors - correction) / self.damping

    def _factorised(self) -> bool:
        """Whether nλI + GGᵀ has a Cholesky factor in float64; it is computed once for this λ."""
        if self._factor is None and self.damping:
            gram = self._gradients.precise_gram if self._precise else self._gram
            matrix = gram.double() if self._kept is None else gram[self._kept][:, self._kept].double()
            # A copy even where the Gram matrix is float64 already.
            matrix = matrix.clone() if matrix is gram else matrix
            matrix.diagonal().add_(self._count * self.damping)
            factor, failure = torch.linalg.cholesky_ex(matrix)
            self._factor = None if int(failure) else factor
        return self._factor is not None

    def _largest(self) -> float:
        """A bound of the largest eigenvalue of M, at most √n times too large."""
        return float(torch.linalg.vector_norm(self._gram)) / self._count


def no_options(name: str, options: dict[str, Any]) -> None:
    """Refuse options that a curvature does not have.

    Raises:
        RepairError: if there are any.
    """
    if options:
        raise RepairError(f"curvature {name!r} has no option {', '.join(sorted(options))}")
