"""Online elastic weight consolidation: the stiffness is carried on from one piece of evidence to the next."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.diagonal import DiagonalFisher
from modelrepair.data.randomness import generator
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior.chain import CarriedUpdate
from modelrepair.posterior.ewc import ElasticWeightConsolidation
from modelrepair.posterior.output_gradients import curvature_roots, log_likelihood_slopes, summed_squares
from modelrepair.settings.posterior import OnlineEwcSettings
from modelrepair.training.descent import Oversight
from modelrepair.uncertainty.mean_field import MeanField


class OnlineElasticWeightConsolidation(OnlineEwcSettings, CarriedUpdate):
    """For each piece E of the evidence, from the mode θ̂ and the diagonal precision Λ that the piece before left:

        θ̂ ← argmax over θ of Σᵢ wᵢ log p(zᵢ | θ) − ½ Σⱼ γΛⱼ (θⱼ − θ̂ⱼ)²,
        Λ ← γΛ + Σᵢ wᵢ Fᵢ,

    the sums over E (Schwarz et al. 2018, section 3.2: one penalty at the last mode, with the running sum
    F* ← γF* + F). Λ starts as N F̂, the damping with it, so it is a sum over examples and counts in the same units as
    the evidence, and γ = 1 is Bayes' rule under Laplace approximations. F of an example is that of its log-likelihood:
    its squared gradient (`empirical`, as F̂ has it) or what that is on average over the targets that the model expects
    (`expected`). Each piece is a climb by `ElasticWeightConsolidation`.

    What is inserted stiffens θ where it leads it, so its F is measured at the new mode. What is deleted has stiffened θ
    where it was, so its F is measured at the old one, and is taken away, down to the damping's share of Λ: what is no
    example's cannot be taken away with one.
    """

    def link(
        self,
        held: MeanField,
        piece: Examples,
        weights: NDArray[np.float64],
        *,
        number: int,
        seed: int,
        checkpoint: Checkpoint | None,
    ) -> MeanField:
        climb = ElasticWeightConsolidation(
            learning_rate=self.learning_rate,
            rounds=self.rounds,
            batch_size=self.batch_size,
            bounded=self.bounded,
        )
        prior = self.gamma * held.precision
        edited = climb.edit(
            held.model,
            piece,
            weights,
            curvature=DiagonalFisher(held.model, piece, prior),
            count=1,
            seed=int(generator(seed, f"piece {number}").integers(2**31)),
            oversight=Oversight(checkpoint=checkpoint),
        )
        change = torch.zeros_like(prior, dtype=torch.float64)
        for sign, place in ((1, edited.model), (-1, held.model)):
            chosen = np.flatnonzero(sign * weights > 0)
            if len(chosen):
                change += sign * self._fisher(place, piece.subset(chosen), np.abs(weights[chosen]))
        floor = self.gamma * held.prior
        precision = (prior.double() + change).clamp_min(floor).to(prior.dtype)
        return MeanField(edited.model, precision, floor)

    def _fisher(self, model: TrainedModel, examples: Examples, weights: NDArray[np.float64]) -> Tensor:
        """(d,) Σᵢ |wᵢ| Fᵢ in float64."""
        scale = torch.as_tensor(np.sqrt(weights)).to(model.device, model.dtype)
        if self.fisher == "empirical":
            slopes = log_likelihood_slopes(model, examples)
            return summed_squares(model, examples, scale.unsqueeze(1) * slopes)
        roots = scale.view(-1, 1, 1) * curvature_roots(model, examples)
        return torch.stack([summed_squares(model, examples, root) for root in roots.unbind(2)]).sum(0)
