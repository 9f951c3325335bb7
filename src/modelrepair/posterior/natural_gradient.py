"""One natural-gradient step: Newton removal, the influence-function update, and SSSE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.errors import RepairError
from modelrepair.examples import Examples
from modelrepair.optimisation import UNATTENDED, Oversight
from modelrepair.posterior.base import Edited, PosteriorUpdate
from modelrepair.trained_model import TrainedModel


@dataclass(frozen=True)
class NaturalGradient(PosteriorUpdate):
    """θ = θ̂ + ε/(N + Σw) · F̂⁻¹ Σᵢ wᵢ ∇ log p(zᵢ | θ̂).

    Deleting k examples divides by N − k: the single-step sample erasure of Peste et al. 2021 (Eq. 8), and with
    ε = 1 the Newton removal of Guo et al. 2020 (Tanno et al. 2022, Eq. 16, with the step size that its Eq. 14
    implies). Inserting divides by N + k: linear influence (Tanno et al. 2022, Eq. 10).

    Attributes:
        epsilon: length of the step in units of the full Newton step.
        points: how many equal parts of the step are tried. Each is one look; where nobody watches, the
            whole step is taken.
    """

    epsilon: float = 1.0
    points: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < float("inf"):
            raise RepairError(f"epsilon is {self.epsilon}: give a positive number, such as 0.3")
        if self.points < 1:
            raise RepairError(f"points is {self.points}: give at least 1")

    def step(
        self,
        model: TrainedModel,
        evidence: Examples,
        weights: NDArray[np.float64],
        *,
        curvature: Curvature,
        count: int,
    ) -> Tensor:
        """(d,) the whole step, θ − θ̂."""
        if not len(evidence):
            raise RepairError(
                "there is no evidence to insert or delete: the failures or the causes are empty"
            )
        remaining = count + float(np.sum(weights))
        if remaining <= 0:
            raise RepairError(
                f"deleting {len(evidence)} of {count} training examples would leave none: select fewer causes"
            )
        gradient = model.weighted_gradient(evidence, weights)
        return (self.epsilon / remaining) * curvature.solve(gradient)

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
        start = model.parameter_vector
        step = self.step(model, evidence, weights, curvature=curvature, count=count)
        best, best_round, best_value = model, 0, -float("inf")
        trace = []
        points = self.points if oversight.watch else 1
        for point in range(points + 1):
            fraction = point / points
            candidate = model.with_parameter_vector(start + fraction * step) if point else model
            value, numbers, _ = oversight.look(candidate)
            trace.append({"round": point, "epsilon": fraction * self.epsilon, "watched": value, **numbers})
            if value is None or value > best_value:
                best, best_round = candidate, point
                best_value = -float("inf") if value is None else value
        return Edited(best, trace, best_round)
