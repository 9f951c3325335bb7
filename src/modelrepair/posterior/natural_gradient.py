"""One natural-gradient step: Newton removal, the influence-function update, and SSSE."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior.base import Edited, PosteriorUpdate, checked_weights, walk
from modelrepair.settings.posterior import NaturalGradientSettings
from modelrepair.training.descent import UNATTENDED, Oversight


class NaturalGradient(NaturalGradientSettings, PosteriorUpdate):
    """θ = θ̂ + ε/(N + Σw) · F̂⁻¹ Σᵢ wᵢ ∇ log p(zᵢ | θ̂).

    Deleting k examples divides by N − k: the single-step sample erasure of Peste et al. 2021 (Eq. 8), and with
    ε = 1 the Newton removal of Guo et al. 2020 (Tanno et al. 2022, Eq. 16, with the step size that its Eq. 14
    implies). Inserting divides by N + k: linear influence (Tanno et al. 2022, Eq. 10). With the curvature `identity`
    deleting is gradient ascent, with `hessian` the influence-function update (Peste et al. 2021, Eq. 4).

    With `gradient: kept` the sum runs over D \\ S, the training examples that stay, and the evidence that is inserted
    (Peste et al. 2021, section 5.3). No sign changes: what stays pulls θ to where what is deleted pushes it. At an
    optimum of the mean loss over D the two are equal; elsewhere "kept" also makes up for training that was not
    finished.

    Where the model was trained with a `weight_decay`, and would be retrained with it, each example carries its share of
    the penalty (Peste et al. 2021, section 3.1: ℓ holds all regularisation), so a deletion takes that away too; without
    it the two gradients are not equal.
    """

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
        weights = checked_weights(evidence, weights)
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
