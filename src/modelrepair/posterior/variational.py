"""Variational continual learning: the mode is not all that is edited, but also how sure the posterior is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelrepair.data.randomness import generator
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel, flatten
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior.base import weighted_log_likelihood
from modelrepair.posterior.chain import CarriedUpdate
from modelrepair.settings.posterior import VariationalSettings
from modelrepair.training.descent import Descent, Oversight, minimise
from modelrepair.training.epochs import epoch_batches
from modelrepair.uncertainty.mean_field import MeanField, gaussian_divergence


class Variational(VariationalSettings, CarriedUpdate):
    """Maximise E_q[Σᵢ wᵢ log p(zᵢ | θ)] − T·KL(q ‖ p₀) over q = N(μ, diag σ²) (Nguyen et al. 2018, Eq. 4, with T = 1).

    p₀ is the posterior so far, at first the Laplace approximation N(θ̂, T/(N F̂ⱼⱼ)), and q starts as p₀. With the
    `temperature` T = 1 it is that of Bayes' rule, in which a network drawn from p₀ answers far worse than the one at
    θ̂: its diagonal says nothing of how parameters make up for each other. A cold posterior, T < 1 (Wenzel et al. 2020,
    arXiv:2002.02405), trades μ against the evidence as before and draws nearer to it; for T → 0 this is EWC.

    Adam climbs over μ and log σ. The expectation is over θ = μ + σε, with `samples` pairs of noises ±ε for each step:
    what is odd in ε cancels, so that the gradient by μ of a quadratic log-likelihood has no noise at all. As in
    `ElasticWeightConsolidation` the objective is divided by the m examples of evidence, and a deleted example stops
    counting at each θ at which it is no likelier than a guess (`bounded`).

    q is the next repair's p₀, which has the same temperature.
    """

    @property
    def temperature_so_far(self) -> float:
        return self.temperature

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
        model = held.model
        shares = torch.as_tensor(weights, device=model.device, dtype=model.dtype)
        edited, start = model.copy(), model.parameter_vector
        family = _Family(edited.network, held.deviation.log())
        own_seed = int(generator(seed, f"piece {number}").integers(2**31)) if number else seed

        def losses(round_: int) -> Iterator[Tensor]:
            draws = generator(own_seed, f"variational noise, round {round_}")
            order = epoch_batches(
                len(piece), self.batch_size, seed=own_seed, purpose="evidence", epoch=round_
            )
            for positions in order:
                inputs, targets = piece.batch(positions, device=model.device, dtype=model.dtype)
                mean = flatten(edited.parameters.values())
                pull = mean.new_zeros(())
                for noise in draws.standard_normal((self.samples, len(start))):
                    shift = family.log_deviation.exp() * torch.from_numpy(noise).to(start)
                    for theta in (mean + shift, mean - shift):
                        outputs = edited.outputs_at(edited.split(theta), inputs)
                        pull = pull + weighted_log_likelihood(
                            edited, outputs, targets, shares[positions], bounded=self.bounded
                        ).mean() / (2 * self.samples)
                divergence = gaussian_divergence(mean, family.log_deviation, start, held.precision)
                yield self.temperature * divergence / len(piece) - pull

        minimise(
            TrainedModel(family, model.likelihood, batch_size=model.batch_size, device=model.device),
            losses,
            Descent(learning_rate=self.learning_rate, rounds=self.rounds),
            oversight=Oversight(checkpoint=checkpoint),
            # The curvature was measured with the statistics of normalisation layers held fixed.
            training_mode=False,
            description="editing the posterior",
        )
        return MeanField(edited, (-2 * family.log_deviation.detach()).exp(), held.prior)


class _Family(nn.Module):
    """q as one module, for a descent over all that it depends on: a network at μ, and log σ (d,) beside it."""

    def __init__(self, network: nn.Module, log_deviation: Tensor) -> None:
        super().__init__()
        self.network = network
        self.log_deviation = nn.Parameter(log_deviation)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs)
        return outputs
