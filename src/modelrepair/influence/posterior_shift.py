"""Scores that compare the model with and without the failures in its posterior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelrepair.influence.base import Influence, Investigation
from modelrepair.settings.influence import LinearSettings, LossChangeSettings


class LossChange(LossChangeSettings, Influence):
    """log p(z | θ̂) − log p(z | θ̂₊F), in nats: what contradicts the failures' labels becomes less likely.

    EWC-influence when the posterior was updated by EWC (Tanno et al. 2022, Eqs. 9 and 13).
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        before = investigation.base.log_likelihoods(investigation.examples)
        after = investigation.updated.log_likelihoods(investigation.examples)
        return (before.double() - after.double()).cpu().numpy()


class Linear(LinearSettings, Influence):
    """−⟨∇ log p(z | θ̂), θ̂₊F − θ̂⟩, in nats: the loss change to first order.

    The linear influence function when the posterior was updated by one natural-gradient step, where the
    displacement is γF̂⁻¹∇ log p(F | θ̂) (Tanno et al. 2022, Eq. 11; Koh & Liang 2017, Eq. 2, with the sign turned).
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        base = investigation.base
        displacement = investigation.updated.parameter_vector - base.parameter_vector
        slopes = base.directional_derivatives(investigation.examples, displacement)
        return -slopes.double().cpu().numpy()
