"""Scores that look at the model with the failures in its posterior, or compare it with the one without.

A model trained with weight decay α has the mean of −log p(z | θ) + α/2·‖θ‖² at its minimum, so each example carries
its share of the penalty (Peste et al. 2021, section 3.1: ℓ holds all regularisation), and takes it away when it goes.
What is compared is therefore log p(z | θ) − α/2·‖θ‖². Its gradient ∇ log p(z | θ̂) − αθ̂ sums to 0 over the training
examples; without the share every linear score would be off by the same α⟨θ̂, θ̂₊F − θ̂⟩, and many would have the wrong
sign. The failures are judged without a penalty, so they are to be inserted without one: θ̂₊F by an update whose own
`weight_decay` is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelrepair.influence.base import Influence, Investigation
from modelrepair.models.examples import Examples
from modelrepair.settings.influence import LinearSettings, LossAfterSettings, LossChangeSettings
from modelrepair.sound import Sound


class LossChange(LossChangeSettings, Influence):
    """log p(z | θ̂) − log p(z | θ̂₊F) + α/2·(‖θ̂₊F‖² − ‖θ̂‖²), in nats: what contradicts the failures gets less likely.

    α is the `weight_decay` that the base model was trained with. EWC-influence when the posterior was updated by EWC
    (Tanno et al. 2022, Eqs. 9 and 13).
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        before = investigation.base.log_likelihoods(investigation.examples)
        after = investigation.updated.log_likelihoods(investigation.examples)
        old, new = (m.parameter_vector.double() for m in (investigation.base, investigation.updated))
        penalty = self.weight_decay / 2 * float(new.square().sum() - old.square().sum())
        return (before - after + penalty).cpu().numpy()


class Linear(LinearSettings, Influence):
    """−⟨∇ log p(z | θ̂) − αθ̂, θ̂₊F − θ̂⟩, in nats: the loss change to first order.

    α is the `weight_decay` that the base model was trained with. The linear influence function when the posterior was
    updated by one natural-gradient step, where the displacement is γF̂⁻¹∇ log p(F | θ̂) (Tanno et al. 2022, Eq. 11;
    Koh & Liang 2017, Eq. 2, with the sign turned).
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        base = investigation.base
        start = base.parameter_vector
        displacement = investigation.updated.parameter_vector - start
        slopes = base.directional_derivatives(investigation.examples, displacement).double()
        penalty = self.weight_decay * float(start.double() @ displacement.double())
        return (penalty - slopes).cpu().numpy()


class LossAfter(LossAfterSettings, Influence):
    """How far log p(z | θ̂₊F) is below even odds, in nats: a model that knows the failures finds a wrong label unlikely.

    The loss there but for a constant, so that it is positive where the given target is less likely than all others.
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        return investigation.updated.disbelief(investigation.examples).cpu().numpy()


def belief(parts: Sequence[Investigation], sound: Examples) -> Sound:
    """Examples outside training as the models of `LossAfter` see them, on average over the parts.

    By it, it can be told how many of the training examples are doubted although they are right.

    Args:
        parts: an investigation for each cluster of failures, or one of all.
        sound: labelled examples outside training, right and wrong ones.
    """
    return Sound(float(np.mean([part.updated.believed(sound) for part in parts])), len(sound))
