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
from modelrepair.posterior.base import Edited, PosteriorUpdate, walk
from modelrepair.trained_model import TrainedModel


@dataclass(frozen=True)
class NaturalGradient(PosteriorUpdate):
    """θ = θ̂ + ε/(N + Σw) · F̂⁻¹ Σᵢ wᵢ ∇ log p(zᵢ | θ̂).

    Deleting k examples divides by N − k: the single-step sample erasure of Peste et al. 2021 (Eq. 8), and with
    ε = 1 the Newton removal of Guo et al. 2020 (Tanno et al. 2022, Eq. 16, with the step size that its Eq. 14
    implies). Inserting divides by N + k: linear influence (Tanno et al. 2022, Eq. 10). With the curvature `identity`
    deleting is gradient ascent, with `hessian` the influence-function update (Peste et al. 2021, Eq. 4).

    Attributes:
        epsilon: length of the step in units of the full Newton step.
        points: how many equal parts of the step are tried. Each is one look; where nobody watches, the
            whole step is taken.
        gradient: "removed" for the sum over the evidence, as above, or "kept" for the sum over D \\ S, the training
            examples that stay, and the evidence that is inserted (Peste et al. 2021, section 5.3). No sign
            changes: what stays pulls θ to where what is deleted pushes it. At an optimum of the mean loss over D
            the two are equal; elsewhere "kept" also makes up for training that was not finished.
        weight_decay: strength α of the penalty α/2·‖θ‖² on the mean loss that the model was trained with, and would
            be retrained with. Each example carries its share of it (Peste et al. 2021, section 3.1: ℓ holds all
            regularisation), so a deletion takes that away too; without it the two gradients are not equal.
    """

    epsilon: float = 1.0
    points: int = 20
    gradient: str = "removed"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < float("inf"):
            raise RepairError(f"epsilon is {self.epsilon}: give a positive number, such as 0.3")
        if self.points < 1:
            raise RepairError(f"points is {self.points}: give at least 1")
        if self.gradient not in ("removed", "kept"):
            raise RepairError(f"gradient is {self.gradient!r}: give removed or kept")
        if not 0 <= self.weight_decay < float("inf"):
            raise RepairError(
                f"weight_decay is {self.weight_decay}: give 0 or what the model was trained with"
            )

    def step(
        self,
        model: TrainedModel,
        evidence: Examples,
        weights: NDArray[np.float64],
        *,
        curvature: Curvature,
        count: int,
        kept: Examples | None = None,
    ) -> Tensor:
        """(d,) the whole step, θ − θ̂; the arguments are those of `edit`."""
        if not len(evidence):
            raise RepairError(
                "there is no evidence to insert or delete: the failures or the causes are empty"
            )
        change = float(np.sum(weights))
        remaining = count + change
        if remaining <= 0:
            raise RepairError(
                f"deleting {len(evidence)} of {count} training examples would leave none: select fewer causes"
            )
        if self.gradient == "kept":
            if kept is None:
                raise RepairError(
                    "gradient: kept needs the training examples that are kept: use gradient: removed"
                )
            inserted = np.flatnonzero(weights > 0)
            gradient = model.weighted_gradient(kept)
            if len(inserted):
                gradient = gradient + model.weighted_gradient(evidence.subset(inserted), weights[inserted])
            share = remaining
        else:
            gradient, share = model.weighted_gradient(evidence, weights), change
        if self.weight_decay:
            gradient = gradient - share * self.weight_decay * model.parameter_vector
        return (self.epsilon / remaining) * curvature.solve(gradient)

    def edit(
        self,
        model: TrainedModel,
        evidence: Examples,
        weights: NDArray[np.float64],
        *,
        curvature: Curvature,
        count: int,
        kept: Examples | None = None,
        seed: int = 0,
        oversight: Oversight = UNATTENDED,
    ) -> Edited:
        step = self.step(model, evidence, weights, curvature=curvature, count=count, kept=kept)
        return walk(model, step, points=self.points, oversight=oversight, name="epsilon", length=self.epsilon)
