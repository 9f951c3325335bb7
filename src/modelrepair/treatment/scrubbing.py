"""Erasure by noise: what the remaining examples do not need is drowned."""

from __future__ import annotations

import torch
from torch import Tensor

from modelrepair.curvature import DiagonalFisher
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior import walk
from modelrepair.settings.treatment import ScrubSettings
from modelrepair.treatment.base import Patient, Treated, Treatment

TINY = 1e-8


class Scrub(ScrubSettings, Treatment):
    """θ = θ̂ + n with nⱼ ~ N(0, α·min(1/F̂ⱼ, cap)), F̂ the diagonal empirical Fisher of D \\ C.

    The Fisher forgetting of Golatkar et al. 2020 ("Eternal sunshine of the spotless net", section 5), in the form of
    their published code: a variance of α/F where the paper's Eq. 8 has its root, and a cap, because parameters
    that D \\ C does not need have F = 0 and would be lost in noise without bound. Their code also puts the erased
    class's last-layer weights to 0 by hand; that is not done here, as it does not carry over to other causes.
    """

    def noise(self, model: TrainedModel, kept: Examples, seed: int) -> Tensor:
        """(d,) a draw of n.

        Args:
            model: at θ̂.
            kept: D \\ C.
            seed: of the draw; the same for every α, so that α only scales it.

        Raises:
            RepairError: if nothing is kept.
        """
        if not len(kept):
            raise RepairError("no training examples remain without the causes: select fewer causes")
        fisher = DiagonalFisher.fit(model, kept).entries.double()
        variance = self.alpha * (1 / (fisher + TINY)).clamp_max(self.cap)
        draw = generator(seed, "scrubbing").standard_normal(len(variance))
        return (variance.sqrt() * torch.from_numpy(draw).to(variance.device)).to(model.dtype)

    def _treat(self, patient: Patient) -> Treated:
        patient.expect_no_corrections("scrubbing")
        edited = walk(
            patient.model,
            self.noise(patient.model, patient.examples.subset(patient.remaining), patient.seed),
            points=self.points,
            oversight=patient.oversight,
            name="noise",
            length=self.alpha**0.5,
        )
        return Treated(edited.model, edited.trace, edited.best_round)
