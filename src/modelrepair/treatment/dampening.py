"""Repair by dampening what the causes need more than the whole does."""

from __future__ import annotations

import torch
from torch import Tensor

from modelrepair.curvature import DiagonalFisher
from modelrepair.posterior import walk
from modelrepair.settings.treatment import DampenSettings
from modelrepair.treatment.base import Patient, Treated, Treatment


class Dampen(DampenSettings, Treatment):
    """θⱼ = βⱼ·θ̂ⱼ with βⱼ = min(λ·I_D,ⱼ/I_C,ⱼ, 1) where I_C,ⱼ > α·I_D,ⱼ, else 1.

    Selective synaptic dampening (Foster et al. 2024, "Fast machine unlearning without retraining through selective
    synaptic dampening", arXiv:2308.07707). I_D and I_C are the diagonals of the empirical Fisher on all training
    examples and on the causes, each a mean over its examples, as in the published code. As C is part of D,
    I_D ≥ (m/n)·I_C: with m causes of n examples no α of n/m or more dampens anything. The paper takes the whole effect;
    the points here are on the straight way there.
    """

    def factors(self, patient: Patient) -> Tensor:
        """(d,) β."""
        model, examples = patient.model, patient.examples
        overall = DiagonalFisher.fit(model, examples).entries
        causes = DiagonalFisher.fit(model, examples.subset(patient.causes)).entries
        # Where I_C is 0 nothing is selected, so that no quotient 0/0 is taken.
        return torch.where(causes > self.alpha * overall, self.strength * overall / causes, 1.0).clamp_max(1)

    def _treat(self, patient: Patient) -> Treated:
        patient.expect_no_corrections("dampening")
        start = patient.model.parameter_vector
        edited = walk(
            patient.model,
            (self.factors(patient) - 1) * start,
            points=self.points,
            oversight=patient.oversight,
            name="fraction",
            length=1.0,
        )
        return Treated(edited.model, edited.trace, edited.best_round)
