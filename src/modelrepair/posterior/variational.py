"""Variational continual learning: the mode is not all that is edited, but also how sure the posterior is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelrepair.curvature.base import Curvature
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel, flatten
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior.base import (
    Edited,
    PosteriorUpdate,
    checked_weights,
    diagonal_precision,
    walk,
    weighted_log_likelihood,
)
from modelrepair.settings.posterior import VariationalSettings
from modelrepair.training.descent import UNATTENDED, Descent, Oversight, epoch_batches, minimise
from modelrepair.uncertainty.mean_field import MeanField, gaussian_divergence


class Variational(VariationalSettings, PosteriorUpdate):
    """Maximise E_q[Σᵢ wᵢ log p(zᵢ | θ)] − T·KL(q ‖ p₀) over q = N(μ, diag σ²) (Nguyen et al. 2018, Eq. 4, with T = 1).

    p₀ is the posterior so far, at first the Laplace approximation N(θ̂, T/(N F̂ⱼⱼ)), and q starts as p₀. With the
    `temperature` T = 1 it is that of Bayes' rule, in which a network drawn from p₀ answers far worse than the one at
    θ̂: its diagonal says nothing of how parameters make up for each other. A cold posterior, T < 1 (Wenzel et al. 2020,
    arXiv:2002.02405), trades μ against the evidence as before and draws nearer to it; for T → 0 this is EWC.

    Adam climbs over μ and log σ. The expectation is over θ = μ + σε, with `samples` pairs of noises ±ε for each step:
    what is odd in ε cancels, so that the gradient by μ of a quadratic log-likelihood has no noise at all. As in
    `ElasticWeightConsolidation` the objective is divided by the m examples of evidence, and a deleted example stops
    counting at each θ at which it is no likelier than a guess (`bounded`).

    `carry_on` is one link of a chain: q is the next repair's p₀. In `edit`, which walks in a straight line, the models
    are those at the means.
    """

    def carry_on(
        self,
        held: MeanField,
        evidence: Examples,
        weights: NDArray[np.float64],
        *,
        seed: int = 0,
        checkpoint: Checkpoint | None = None,
    ) -> MeanField:
        """The posterior with weighted evidence, to go on from with more.

        Args:
            held: the posterior so far, p₀, of the same temperature.
            evidence: m examples.
            weights: (m,) positive to insert, negative to delete.
            seed: of the order of the evidence and of the noise, which are functions of it and of the round alone.
            checkpoint: where to keep progress.

        Raises:
            RepairError: if there is no evidence, or a number becomes NaN or infinite.
        """
        if not len(evidence):
            raise RepairError(
                "there is no evidence to insert or delete: the failures or the causes are empty"
            )
        model = held.model
        shares = torch.as_tensor(checked_weights(evidence, weights), device=model.device, dtype=model.dtype)
        edited, start = model.copy(), model.parameter_vector
        family = _Family(edited.network, held.deviation.log())

        def losses(number: int) -> Iterator[Tensor]:
            draws = generator(seed, f"variational noise, round {number}")
            order = epoch_batches(len(evidence), self.batch_size, seed=seed, purpose="evidence", epoch=number)
            for positions in order:
                inputs, targets = evidence.batch(positions, device=model.device, dtype=model.dtype)
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
                yield self.temperature * divergence / len(evidence) - pull

        minimise(
            TrainedModel(family, model.likelihood, batch_size=model.batch_size, device=model.device),
            losses,
            Descent(learning_rate=self.learning_rate, rounds=self.rounds),
            oversight=Oversight(checkpoint=checkpoint),
            # The curvature was measured with the statistics of normalisation layers held fixed.
            training_mode=False,
            description="editing the posterior",
        )
        return MeanField(edited, (-2 * family.log_deviation.detach()).exp())

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
        before = MeanField(model, diagonal_precision(model, curvature, count / self.temperature))
        after = self.carry_on(before, evidence, weights, seed=seed, checkpoint=oversight.checkpoint)
        step = after.model.parameter_vector - model.parameter_vector
        edited = walk(model, step, points=self.points, oversight=oversight, name="fraction", length=1.0)
        return dataclasses.replace(edited, gaussians=(before, after))


class _Family(nn.Module):
    """q as one module, for a descent over all that it depends on: a network at μ, and log σ (d,) beside it."""

    def __init__(self, network: nn.Module, log_deviation: Tensor) -> None:
        super().__init__()
        self.network = network
        self.log_deviation = nn.Parameter(log_deviation)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs)
        return outputs
