"""The exact full-matrix empirical Fisher, through the inner products of gradients.

With G (rows, d) the gradients and n the number of examples, M = GᵀG/n, and by the Woodbury identity

    F̂⁻¹v = (1/λ) [v − Gᵀ (nλI + GGᵀ)⁻¹ Gv],

the limit that the rank-one recurrence of Peste et al. 2021 (Eq. 7) reaches after n steps, here without a d × d
matrix, without blocks, and without G where its layers' factors do.
"""

from __future__ import annotations

import copy
from functools import cached_property
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
    dimension,
    load_fit,
    no_options,
    require_finite,
    right_hand_sides,
    save_fit,
)
from modelrepair.curvature.memory import Estimate, after, passed, require_memory
from modelrepair.curvature.operators import LowRank
from modelrepair.errors import RepairError
from modelrepair.gradients.collected import DEFAULT_MEMORY, OPTIONS, Gradients
from modelrepair.models.examples import Examples, chosen_positions
from modelrepair.models.trained_model import TrainedModel


class GramFisher(Curvature):
    """M = (1/n) Σᵢ gᵢgᵢᵀ, exactly, as its n × n Gram matrix.

    Attributes:
        gram: (rows, rows) GGᵀ of all examples.
    """

    name = "gram"

    def __init__(
        self,
        model: TrainedModel,
        examples: Examples,
        gradients: Gradients,
        gram: Tensor,
        minibatch: int,
        memory: int,
    ) -> None:
        self._model = model
        self._examples = examples
        self._gradients = gradients
        self.gram = gram
        self._minibatch = minibatch
        self._memory = memory
        self._left = np.ones(len(examples), dtype=bool)
        self._operator = LowRank(
            lambda vectors: self._applied(vectors).times(vectors),
            lambda weights: self._applied(weights).transposed_times(weights),
            gram,
            lambda: self._precise.precise_gram,
            len(examples),
        )

    @cached_property
    def _precise(self) -> Gradients:
        """G for products in float64: as it is held, or computed again by a network that runs in float64."""
        if self._gradients.fits(self._gradients.layouts):
            return self._gradients
        model = self._model.in_dtype(torch.float64)
        return Gradients(model, self._examples, minibatch=self._minibatch, memory=self._memory)

    def _applied(self, vectors: Tensor) -> Gradients:
        """G for products in the precision of these vectors."""
        return self._precise if vectors.dtype == torch.float64 else self._gradients

    @property
    def residual(self) -> float:
        """The largest ‖F̂x − v‖/‖v‖ over the right-hand sides of the last `solve`; NaN before.

        Of x in float64, before it is rounded to the type of v. Where memory holds G, it is G as it was rounded to the
        model's type; where not, the G of the same network in float64.
        """
        return self._operator.residual

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
                examples each, and the Gram matrix several. A solve then runs the network in float64, whatever its own
                type: G rounds off less than λ only so.
            scratch: an existing folder on a disk where the rest of them is kept instead.

        Raises:
            RepairError: for a network whose examples influence each other, or that does not fit into memory.
        """
        no_options(cls.name, options)
        how: dict[str, Any] = {"minibatch": minibatch, "memory": memory, "scratch": scratch}
        gradients = Gradients(model, examples, **how)
        require_memory(_estimate(gradients, dimension(model)), cls.name, model, examples, how)
        gram = gradients.gram()
        require_finite(cls.name, [gram])
        return cls(model, examples, gradients, gram, minibatch, memory)

    @classmethod
    def estimate(cls, model: TrainedModel, examples: Examples, **options: Any) -> Estimate:
        no_options(cls.name, {key: value for key, value in options.items() if key not in OPTIONS})
        return _estimate(Gradients(model, examples, **options), dimension(model))

    def damped(self, damping: float) -> Self:
        if checked_damping(damping) == self.damping:
            return self
        other = copy.copy(self)
        other.damping, other._operator = float(damping), self._operator.damped(float(damping))
        return other

    def without(self, indices: ArrayLike) -> Self:
        """The Fisher of the examples that are left when those at these positions, or under this mask, are removed.

        M becomes their mean over n − |S|, from the same Gram matrix. Positions are among the examples that the
        Fisher was fitted to, also if it has lost some before. With mini-batches, whole rows only. It saves and loads as
        what is left, with the examples that the whole was fitted to.

        Raises:
            RepairError: if none are left, a position does not exist, or a row would be torn.
        """
        total = len(self._examples)
        removed = np.unique(chosen_positions(indices, total))
        left = self._left.copy()
        left[removed] = False
        rows = np.unique(np.flatnonzero(left) // self._minibatch)
        if not len(rows):
            raise RepairError(
                f"without {len(removed)} of its {total} examples the Fisher has none left: remove fewer"
            )
        if np.isin(np.arange(total) // self._minibatch, rows).sum() > left.sum():
            raise RepairError(
                f"rows are sums over {self._minibatch} consecutive examples, of which only some were to be "
                "removed: remove whole rows, or fit the Fisher to the examples that are left"
            )
        kept, rows_before = torch.from_numpy(rows).to(self.gram.device), self._gradients.rows

        def spread(weights: Tensor) -> Tensor:
            return weights.new_zeros(rows_before, weights.shape[1]).index_copy(0, kept, weights)

        other = copy.copy(self)
        other._left = left
        other._operator = LowRank(
            lambda vectors: self._applied(vectors).times(vectors)[kept],
            lambda weights: self._applied(weights).transposed_times(spread(weights)),
            self.gram[kept][:, kept],
            lambda: self._precise.precise_gram[kept][:, kept],
            int(left.sum()),
            self.damping,
        )
        return other

    def matvec(self, vector: Tensor) -> Tensor:
        return self._operator.matvec(columns(vector, self._model)).view_as(vector)

    def quadratic(self, vector: Tensor) -> Tensor:
        return self._operator.quadratic(columns(vector, self._model)).view(vector.shape[1:])

    def solve(self, vector: Tensor) -> Tensor:
        """F̂⁻¹v in the shape of v; `residual` says how well.

        Warns:
            RuntimeWarning: if the residual is above 1e-4.

        Raises:
            RepairError: if v is no vector of finite floats as long as θ, or F̂ is singular to working precision; says
                which damping would do.
        """
        return self._operator.solve(right_hand_sides(vector, self._model)).to(vector.dtype).view_as(vector)

    def self_influences(self, model: TrainedModel, examples: Examples) -> Tensor:
        """All at once, where rows are those of single examples; see the base."""
        whole = self._minibatch == 1 and self._left.all()
        leverages = self._operator.leverages() if whole and self.damping else None
        return super().self_influences(model, examples) if leverages is None else leverages

    def outside_span(self, vector: Tensor) -> Tensor:
        """What of v is orthogonal to every gradient, (I − Gᵀ(GGᵀ)⁺G)v, in the shape of v: the limit λF̂⁻¹v for λ → 0.

        To first order a step along it changes log p of none of the examples. See `LowRank.outside_span`.

        Raises:
            RepairError: if v is of another length than θ or holds NaN or infinity.
        """
        vectors = right_hand_sides(vector, self._model)
        return self._operator.outside_span(vectors).to(vector.dtype).view_as(vector)

    def save(self, folder: Path) -> None:
        tensors = {
            "gram": self.gram,
            "minibatch": torch.tensor(self._minibatch),
            "left": torch.from_numpy(self._left),
        }
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
        fitted = cls(model, examples, gradients, tensors["gram"], minibatch, memory)
        left = tensors["left"].cpu().numpy()
        return fitted if left.all() else fitted.without(~left)


def _estimate(gradients: Gradients, d: int) -> Estimate:
    """Of a fit, its Gram matrix, and its Cholesky factor."""
    rows, layouts = gradients.rows, gradients.layouts
    gram, factor = gradients.like.element_size() * rows**2, 8 * rows**2
    held, pairing = gradients.bytes_held(layouts), gradients.bytes_pairing(layouts)
    (filling, touched), applying = gradients.bytes_filling(), gradients.bytes_applying(layouts)
    # In float64: the vector, what G's rows make of it, and what that misses.
    solving = factor + 3 * 8 * d + applying
    fit = held + max(passed(filling, touched), after(touched, pairing))
    solve = (held if gradients.fits(layouts) else 0) + after(touched, solving)
    return Estimate(gram + max(fit, solve), gradients.operations(layouts) + rows**3 / 3)
