"""Editing a posterior: inserting and deleting evidence without the data behind it.

The posterior p(θ | D) of N training examples is held as its mode θ̂ and a curvature F̂ there: approximately
exp(−(N/2) δᵀF̂δ) with δ = θ − θ̂. By Bayes' rule, evidence E enters by multiplying with p(E | θ) and leaves by
dividing (Tanno et al. 2022, section 2.2), so both are one operation: maximise over θ

    Σᵢ wᵢ log p(zᵢ | θ) − (N/2) (θ − θ̂)ᵀ F̂ (θ − θ̂),        wᵢ = +1 to insert zᵢ, −1 to delete it.

The paper's separate prior term (λ/2)‖δ‖² is part of F̂ here: a damping of λ/N.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.curvature.base import Curvature
from modelrepair.examples import Examples
from modelrepair.optimisation import UNATTENDED, Oversight
from modelrepair.trained_model import TrainedModel


@dataclass(frozen=True)
class Edited:
    """An edited posterior.

    Attributes:
        model: the model at the new mode.
        trace: one row a point seen, the first the model that was given: `round`, `watched` and others.
        best_round: which of them the model is.
    """

    model: TrainedModel
    trace: list[dict[str, Any]]
    best_round: int


class PosteriorUpdate(ABC):
    """A way to find the mode of an edited posterior."""

    def insert(self, model: TrainedModel, evidence: Examples, **how: Any) -> Edited:
        """p(θ | D, E): `edit` with all weights +1."""
        return self.edit(model, evidence, np.ones(len(evidence)), **how)

    def delete(self, model: TrainedModel, evidence: Examples, **how: Any) -> Edited:
        """p(θ | D \\ E): `edit` with all weights −1."""
        return self.edit(model, evidence, -np.ones(len(evidence)), **how)

    @abstractmethod
    def edit(
        self,
        model: TrainedModel,
        evidence: Examples,
        weights: NDArray[np.float64],
        *,
        curvature: Curvature,
        count: int,
        seed: int = 0,
        oversight: Oversight = UNATTENDED,
    ) -> Edited:
        """The mode of the posterior with weighted evidence.

        Args:
            model: the model at θ̂; left as it is.
            evidence: m examples.
            weights: (m,) +1 to insert, −1 to delete.
            curvature: F̂ at θ̂, damped as wanted.
            count: N, the number of training examples behind the posterior.
            seed: of what is random in it.
            oversight: if it watches, the best point seen is returned, and never one worse than the given
                model; else the last point is.

        Raises:
            RepairError: if there is no evidence, or a number becomes NaN or infinite.
        """
