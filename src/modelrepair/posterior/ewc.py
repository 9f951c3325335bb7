"""Elastic weight consolidation: climb to the mode of the edited posterior by stochastic gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel, flatten
from modelrepair.posterior.base import (
    Edited,
    PosteriorUpdate,
    checked_weights,
    half_quadratic,
    walk,
    weighted_log_likelihood,
)
from modelrepair.settings.posterior import EwcSettings
from modelrepair.training.descent import UNATTENDED, Descent, Oversight, minimise
from modelrepair.training.epochs import epoch_batches


class ElasticWeightConsolidation(EwcSettings, PosteriorUpdate):
    """Maximise Σᵢ wᵢ log p(zᵢ | θ) − (N/2) δᵀF̂δ by Adam from δ = 0 (Tanno et al. 2022, Eqs. 12 and 17).

    The objective is divided by the m examples of evidence, so a step sees the mean weighted log-likelihood of
    a batch and the penalty N/(2m) δᵀF̂δ: the balance of the two is that of the sums.

    When deleting, −log p(C | θ) has no bound: the climb goes on to destroy the model, with every step larger than
    the one before. So a deleted example stops counting, by default, once it is no likelier than a guess
    (`bounded`); what was learned from it is then gone, and the rest of the climb belongs to the penalty.
    """

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
        if not len(evidence):
            raise RepairError(
                "there is no evidence to insert or delete: the failures or the causes are empty"
            )
        start = model.parameter_vector
        edited = model.copy()
        scale = count / len(evidence)
        signs = torch.as_tensor(checked_weights(evidence, weights), device=model.device, dtype=model.dtype)

        def losses(number: int) -> Iterator[Tensor]:
            order = epoch_batches(len(evidence), self.batch_size, seed=seed, purpose="evidence", epoch=number)
            for positions in order:
                inputs, targets = evidence.batch(positions, device=model.device, dtype=model.dtype)
                outputs = edited.run(inputs)
                pull = weighted_log_likelihood(
                    edited, outputs, targets, signs[positions], bounded=self.bounded
                )
                position = flatten(edited.parameters.values())
                yield scale * half_quadratic(curvature, position - start) - pull.mean()

        minimise(
            edited,
            losses,
            Descent(learning_rate=self.learning_rate, rounds=self.rounds),
            oversight=Oversight(checkpoint=oversight.checkpoint),
            # The curvature was measured with the statistics of normalisation layers held fixed.
            training_mode=False,
            description="editing the posterior",
        )
        step = edited.parameter_vector - start
        return walk(model, step, points=self.points, oversight=oversight, name="fraction", length=1.0)
